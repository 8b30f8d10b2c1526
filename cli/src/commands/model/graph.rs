//! `koinon model inspect --html`: a program as one page, node by node, with what each costs and what would cross.
//!
//! One SVG, no script and nothing fetched: a line for each node, arcs for what is read further down, bars for
//! operations and for the bytes that would cross behind it. Start at [`page`].

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Height of a line.
const LINE: usize = 20;
/// Lines of the heading.
const TOP: usize = 34;
/// Where columns begin.
const ARCS: usize = 150;
const NAME: usize = 160;
const SHAPE: usize = 560;
const WORK: usize = 720;
const BYTES: usize = 920;
const WIDTH: usize = 1240;
/// Length of a bar that is full.
const BAR: usize = 110;

/// One node, and the cut behind it.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) op: String,
    /// What it reads and gives, by name.
    pub(super) reads: Vec<String>,
    pub(super) gives: Vec<String>,
    pub(super) shape: String,
    pub(super) parameters: u64,
    pub(super) flops: u64,
    /// Bytes that would cross behind it: as they are, and in int8.
    pub(super) bytes: [u64; 2],
    pub(super) legal: bool,
    /// What would cross, or why nothing may.
    pub(super) remark: String,
}

/// The page.
pub(super) fn page(title: &str, about: &str, lines: &[Line]) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head>\
         <body><h1>{0}</h1><p>{1}</p><p class=\"key\"><b class=\"legal\"></b> may be cut behind this node \
         <b class=\"illegal\"></b> never <b class=\"work\"></b> operations (square root of their share) \
         <b class=\"f32\"></b> bytes that cross, f32 <b class=\"int8\"></b> the same in int8; point at a line for \
         what crosses</p>",
        text(title),
        text(about)
    );
    let height = TOP + LINE * (lines.len() + 1);
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">"
    );
    for (x, words) in [
        (NAME, "node"),
        (SHAPE, "output"),
        (WORK, "operations"),
        (BYTES, "bytes at the cut behind it"),
    ] {
        let _ = write!(out, "<text class=\"head\" x=\"{x}\" y=\"20\">{words}</text>");
    }
    arcs(&mut out, lines);
    let most_work = lines.iter().map(|line| line.flops).max().unwrap_or(0);
    let most_bytes = lines.iter().map(|line| line.bytes[0]).max().unwrap_or(0);
    for (at, line) in lines.iter().enumerate() {
        row(&mut out, at, line, [most_work, most_bytes]);
    }
    out.push_str("</svg></body></html>\n");
    out
}

/// Middle of a node's line.
fn middle(at: usize) -> usize {
    TOP + LINE * at + LINE / 2
}

/// What is read further down than by the next node, the further the wider.
fn arcs(out: &mut String, lines: &[Line]) {
    let mut made: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        for from in line.reads.iter().filter_map(|name| made.get(name.as_str())) {
            let (top, bottom) = (middle(*from), middle(at));
            let far = (at - from).min(ARCS * 2);
            let bow = if far == 1 { 0 } else { (14 + far * 3).min(ARCS - 10) };
            let x = ARCS.saturating_sub(bow);
            let _ = write!(
                out,
                "<path class=\"arc\" d=\"M{ARCS},{top} C{x},{top} {x},{bottom} {ARCS},{bottom}\"/>"
            );
        }
        for name in &line.gives {
            made.insert(name, at);
        }
    }
}

fn row(out: &mut String, at: usize, line: &Line, [most_work, most_bytes]: [u64; 2]) {
    let (y, base) = (TOP + LINE * at, middle(at) + 4);
    let class = if line.legal { "legal" } else { "illegal" };
    let _ = write!(
        out,
        "<g class=\"row\"><title>{}</title><rect class=\"back\" x=\"0\" y=\"{y}\" width=\"{WIDTH}\" height=\"{LINE}\"/>\
         <circle class=\"{}\" cx=\"{ARCS}\" cy=\"{}\" r=\"4\"/>\
         <text x=\"{NAME}\" y=\"{base}\">{}</text><text class=\"op\" x=\"{}\" y=\"{base}\">{}</text>\
         <text class=\"op\" x=\"{SHAPE}\" y=\"{base}\">{}</text>",
        text(&format!("{}: {} parameters; {}", at + 1, short(line.parameters), line.remark)),
        family(&line.op),
        middle(at),
        text(&shortened(&line.name, 42)),
        NAME + 300,
        text(&shortened(&line.op, 14)),
        text(&shortened(&line.shape, 24)),
    );
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let work = (share(line.flops, most_work).sqrt() * BAR as f64).round();
    if line.flops > 0 {
        bar(out, "work", WORK, y + 5, work);
        label(out, WORK, base, work, line.flops);
    }
    let _ = write!(
        out,
        "<line class=\"{class} cut\" x1=\"{BYTES}\" x2=\"{WIDTH}\" y1=\"{0}\" y2=\"{0}\"/>",
        y + LINE
    );
    if line.legal {
        let long = |bytes: u64| share(bytes, most_bytes) * (BAR as f64) * 2.0;
        bar(out, "f32", BYTES, y + 4, long(line.bytes[0]));
        bar(out, "int8", BYTES, y + 10, long(line.bytes[1]));
        label(out, BYTES, base, long(line.bytes[0]), line.bytes[0]);
    }
    out.push_str("</g>");
}

fn bar(out: &mut String, class: &str, x: usize, y: usize, long: f64) {
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\"/>",
        long.max(1.0),
        if class == "work" { 10 } else { 5 }
    );
}

fn label(out: &mut String, x: usize, y: usize, long: f64, number: u64) {
    let _ = write!(
        out,
        "<text class=\"op\" x=\"{:.0}\" y=\"{y}\">{}</text>",
        x as f64 + long + 6.0,
        short(number)
    );
}

/// 12,345,678 as 12.3 M.
fn short(number: u64) -> String {
    let scaled = |by: u64, unit: &str| format!("{:.1} {unit}", number as f64 / by as f64);
    match number {
        1_000_000_000.. => scaled(1_000_000_000, "G"),
        1_000_000.. => scaled(1_000_000, "M"),
        10_000.. => scaled(1_000, "k"),
        _ => number.to_string(),
    }
}

/// The end of a long name, which tells more than its beginning.
fn shortened(name: &str, most: usize) -> String {
    let count = name.chars().count();
    if count <= most {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(count - most + 1).collect();
    format!("…{tail}")
}

/// Which colour a node has.
fn family(op: &str) -> &'static str {
    match op {
        "mat_mul" | "gemm" | "conv" | "conv_transpose" | "attention" | "recurrent" => "learned",
        name if name.ends_with("norm") || name == "softmax" => "norm",
        "shape" | "reshape" | "transpose" | "squeeze" | "unsqueeze" | "concat" | "split"
        | "slice" | "identity" | "flatten" | "gather" | "cast" | "expand" => "view",
        _ => "other",
    }
}

fn text(raw: &str) -> String {
    raw.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2rem;color:#1d2733;background:#fff}\
h1{font-size:1.4rem;margin:0}p{margin:.3rem 0;max-width:70rem}svg{display:block;margin-top:1rem}\
text{font:12px ui-monospace,monospace;fill:#1d2733}.head{font-weight:600}.op{fill:#5b6775}\
.back{fill:transparent}.row:hover .back{fill:#eef3f8}.arc{fill:none;stroke:#b7c2ce;stroke-width:1}\
.learned{fill:#0b6e99}.norm{fill:#8a5a9e}.view{fill:#c3ccd6}.other{fill:#5f8f4e}\
.work{fill:#d98324;background:#d98324}.f32{fill:#7fb2cf;background:#7fb2cf}.int8{fill:#0b6e99;background:#0b6e99}\
.cut{stroke-width:1}line.legal{stroke:#2f9e5b}line.illegal{stroke:#eceff3}\
.key b{display:inline-block;width:14px;height:10px;margin:0 .2rem 0 .9rem}\
b.legal{background:#2f9e5b;height:3px}b.illegal{background:#d5dbe2;height:3px}";

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, reads: &[&str], legal: bool) -> Line {
        Line {
            name: name.into(),
            op: "mat_mul".into(),
            reads: reads.iter().map(|&name| name.into()).collect(),
            gives: vec![name.into()],
            shape: "[1, 2]".into(),
            parameters: 4,
            flops: 1_234_567,
            bytes: [40_000, 10_000],
            legal,
            remark: "x & y".into(),
        }
    }

    #[test]
    fn every_node_has_a_line_and_every_reader_an_arc() {
        let lines =
            [line("a<b", &["x"], false), line("b", &["a<b"], true), line("c", &["a<b", "b"], true)];
        let page = page("t", "about", &lines);
        assert_eq!(page.matches("class=\"row\"").count(), 3);
        assert_eq!(page.matches("class=\"arc\"").count(), 3);
        assert_eq!(page.matches("class=\"f32\" x").count(), 2, "only where it is legal");
        assert!(page.contains("a&lt;b") && page.contains("x &amp; y") && !page.contains("a<b"));
        assert!(page.contains("1.2 M") && page.contains("40.0 k"));
        assert!(!page.contains("<script") && !page.contains("http"));
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(shortened("abcdef", 4), "…def");
        assert_eq!(shortened("abcd", 4), "abcd");
    }
}
