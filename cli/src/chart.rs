//! Small inline SVG charts for reports: no script, no font, nothing from outside. Colours come from the page's style sheet.

use std::fmt::Write as _;

/// Where a chart's plotting area lies inside its picture, and what its axes span.
struct Frame {
    width: f64,
    height: f64,
    left: f64,
    bottom: f64,
    top: f64,
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn new(width: f64, height: f64, x: (f64, f64), y: (f64, f64)) -> Self {
        let widen = |(a, b): (f64, f64)| if b - a < 1e-12 { (a - 0.5, b + 0.5) } else { (a, b) };
        Frame { width, height, left: 56.0, bottom: 34.0, top: 14.0, x: widen(x), y: widen(y) }
    }

    fn px(&self, x: f64) -> f64 {
        self.left + (x - self.x.0) / (self.x.1 - self.x.0) * (self.width - self.left - 14.0)
    }

    fn py(&self, y: f64) -> f64 {
        let span = self.height - self.bottom - self.top;
        self.height - self.bottom - (y - self.y.0) / (self.y.1 - self.y.0) * span
    }

    fn open(&self, title: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">",
            self.width,
            self.height,
            escape(title)
        )
    }

    /// Horizontal grid with numbers, and the x axis' numbers and name.
    fn axes(&self, x_name: &str, x_ticks: &[f64], y_digits: usize) -> String {
        let mut out = String::new();
        for tick in ticks(self.y.0, self.y.1, 5) {
            let y = self.py(tick);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{tick:.y_digits$}</text>",
                self.left,
                self.width - 14.0,
                self.left - 6.0,
                y + 3.5,
            );
        }
        for tick in x_ticks {
            let _ = write!(
                out,
                "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                self.px(*tick),
                self.height - self.bottom + 14.0,
                short(*tick)
            );
        }
        let _ = write!(
            out,
            "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            (self.left + self.width) / 2.0,
            self.height - 4.0,
            escape(x_name)
        );
        out
    }
}

/// One line of a line chart. `class` is a colour class of the style sheet (`c1`…`c5`).
pub(crate) struct Series<'a> {
    pub(crate) name: &'a str,
    pub(crate) class: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over a common x axis; vertical marks with a caption point at events.
pub(crate) fn lines(title: &str, x_name: &str, series: &[Series], marks: &[(f64, &str)]) -> String {
    let all = || series.iter().flat_map(|s| s.points.iter());
    let span = |pick: fn(&(f64, f64)) -> f64| {
        let low = all().map(pick).fold(f64::INFINITY, f64::min);
        let high = all().map(pick).fold(f64::NEG_INFINITY, f64::max);
        if low.is_finite() { (low, high) } else { (0.0, 1.0) }
    };
    let (x, y) = (span(|p| p.0), span(|p| p.1));
    let margin = (y.1 - y.0) * 0.06;
    let frame = Frame::new(640.0, 280.0, x, (y.0 - margin, y.1 + margin));
    let mut out = frame.open(title);
    out += &frame.axes(x_name, &ticks(frame.x.0, frame.x.1, 8), 2);
    for (at, caption) in marks {
        let px = frame.px(*at);
        let _ = write!(
            out,
            "<line class=\"mark\" x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text class=\"tick bad\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            frame.top,
            frame.height - frame.bottom,
            px + 4.0,
            frame.top + 10.0,
            escape(caption)
        );
    }
    for (i, s) in series.iter().enumerate() {
        let path: Vec<String> = s
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", frame.px(*x), frame.py(*y)))
            .collect();
        let _ = write!(
            out,
            "<polyline class=\"line {}\" points=\"{}\"/>\
             <text class=\"key {}\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            s.class,
            path.join(" "),
            s.class,
            frame.width - 20.0,
            frame.top + 10.0 + 15.0 * i as f64,
            escape(s.name)
        );
    }
    out + "</svg>"
}

/// A figure with its interval, drawn as a dot on a bar.
pub(crate) struct Interval<'a> {
    pub(crate) name: &'a str,
    pub(crate) class: &'a str,
    pub(crate) value: f64,
    /// Equal to the value where there is no interval.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Figures with intervals under one another.
pub(crate) fn intervals(title: &str, x_name: &str, rows: &[Interval]) -> String {
    let low = rows.iter().map(|r| r.low).fold(f64::INFINITY, f64::min);
    let high = rows.iter().map(|r| r.high).fold(f64::NEG_INFINITY, f64::max);
    let margin = (high - low) * 0.08;
    let height = 52.0 + 34.0 * rows.len() as f64;
    let mut frame = Frame::new(640.0, height, (low - margin, high + margin), (0.0, 1.0));
    frame.left = 200.0;
    let mut out = frame.open(title);
    for tick in ticks(frame.x.0, frame.x.1, 6) {
        let x = frame.px(tick);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"6\" y2=\"{:.1}\"/>\
             <text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{tick:.2}</text>",
            height - 34.0,
            height - 20.0
        );
    }
    for (i, row) in rows.iter().enumerate() {
        let y = 24.0 + 34.0 * i as f64;
        let _ = write!(
            out,
            "<text class=\"key {c}\" text-anchor=\"end\" x=\"190\" y=\"{ty:.1}\">{name}</text>\
             <line class=\"line {c}\" x1=\"{x1:.1}\" x2=\"{x2:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <circle class=\"dot {c}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>\
             <text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{vy:.1}\">{v:.3}</text>",
            c = row.class,
            ty = y + 4.0,
            name = escape(row.name),
            x1 = frame.px(row.low),
            x2 = frame.px(row.high),
            x = frame.px(row.value),
            vy = y - 8.0,
            v = row.value,
        );
    }
    let _ = write!(
        out,
        "<text class=\"tick\" text-anchor=\"middle\" x=\"420\" y=\"{:.1}\">{}</text></svg>",
        height - 4.0,
        escape(x_name)
    );
    out
}

/// Horizontal bars with their figure written out.
pub(crate) fn bars(title: &str, rows: &[(String, f64, String)]) -> String {
    let most = rows.iter().map(|r| r.1).fold(1e-12, f64::max);
    let height = 10.0 + 24.0 * rows.len() as f64;
    let mut out = Frame::new(640.0, height, (0.0, 1.0), (0.0, 1.0)).open(title);
    for (i, (name, value, caption)) in rows.iter().enumerate() {
        let y = 6.0 + 24.0 * i as f64;
        let width = (value / most * 330.0).max(1.0);
        let _ = write!(
            out,
            "<text class=\"tick\" text-anchor=\"end\" x=\"170\" y=\"{:.1}\">{}</text>\
             <rect class=\"bar c2\" x=\"178\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"16\" rx=\"2\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            y + 12.0,
            escape(name),
            186.0 + width,
            y + 12.0,
            escape(caption)
        );
    }
    out + "</svg>"
}

/// A bar made of pieces, each with its size.
#[cfg(feature = "bench")]
pub(crate) struct Stack<'a> {
    pub(crate) name: &'a str,
    /// What each piece is, and its size.
    pub(crate) pieces: Vec<(String, f64)>,
    pub(crate) caption: String,
}

/// Bars of pieces under one another, on one scale; a piece's name shows when it is pointed at.
#[cfg(feature = "bench")]
pub(crate) fn stacks(title: &str, stacks: &[Stack]) -> String {
    let sum = |stack: &Stack| stack.pieces.iter().map(|(_, size)| size).sum::<f64>();
    let most = stacks.iter().map(sum).fold(1e-12, f64::max);
    let height = 10.0 + 24.0 * stacks.len() as f64;
    let mut out = Frame::new(640.0, height, (0.0, 1.0), (0.0, 1.0)).open(title);
    for (row, stack) in stacks.iter().enumerate() {
        let y = 6.0 + 24.0 * row as f64;
        let mut x = 178.0;
        let _ = write!(
            out,
            "<text class=\"tick\" text-anchor=\"end\" x=\"170\" y=\"{:.1}\">{}</text>",
            y + 12.0,
            escape(stack.name)
        );
        for (i, (name, size)) in stack.pieces.iter().enumerate() {
            let width = size / most * 370.0;
            let _ = write!(
                out,
                "<rect class=\"bar c{}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"16\">\
                 <title>{}</title></rect>",
                i % 5 + 1,
                escape(name)
            );
            x += width;
        }
        let _ = write!(
            out,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 8.0,
            y + 12.0,
            escape(&stack.caption)
        );
    }
    out + "</svg>"
}

/// Charts under one another in one picture that stands by itself, each below its title.
#[cfg(feature = "bench")]
pub(crate) fn page(panels: &[(String, String)]) -> String {
    let mut y = 12.0;
    let mut body = String::new();
    for (title, svg) in panels {
        let _ = write!(
            body,
            "<text class=\"title\" x=\"12\" y=\"{:.0}\">{}</text>",
            y + 12.0,
            escape(title)
        );
        y += 22.0;
        let placed =
            format!("<svg x=\"0\" y=\"{y:.0}\" width=\"640\" height=\"{}\" ", height_of(svg));
        body += &svg.replacen("<svg ", &placed, 1);
        y += height_of(svg) + 14.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 {y:.0}\"><style>{STYLE}</style>\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>{body}</svg>\n"
    )
}

/// The colours of a picture that stands by itself.
#[cfg(feature = "bench")]
const STYLE: &str = "text{font:11px sans-serif;fill:#333}.title{font-weight:bold}\
    .c1{fill:#2d6cdf}.c2{fill:#4a90b8}.c3{fill:#e08e2b}.c4{fill:#3f9e57}.c5{fill:#a155b9}";

/// The height that a chart's view box states.
#[cfg(feature = "bench")]
fn height_of(svg: &str) -> f64 {
    let numbers = svg.split('"').nth(1).unwrap_or_default();
    numbers.split(' ').nth(3).and_then(|height| height.parse().ok()).unwrap_or(0.0)
}

/// Counts in equal bins over `range`, as a column chart.
pub(crate) fn histogram(
    title: &str,
    x_name: &str,
    class: &str,
    range: (f64, f64),
    counts: &[u64],
) -> String {
    let most = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let frame = Frame::new(310.0, 200.0, range, (0.0, most * 1.05));
    let mut out = frame.open(title);
    out += &frame.axes(x_name, &[range.0, (range.0 + range.1) / 2.0, range.1], 0);
    let step = (range.1 - range.0) / counts.len().max(1) as f64;
    for (i, count) in counts.iter().enumerate() {
        let (x0, x1) =
            (frame.px(range.0 + step * i as f64), frame.px(range.0 + step * (i + 1) as f64));
        let y = frame.py(*count as f64);
        let _ = write!(
            out,
            "<rect class=\"bar {class}\" x=\"{x0:.2}\" y=\"{y:.1}\" width=\"{:.2}\" height=\"{:.1}\"/>",
            (x1 - x0 - 0.4).max(0.2),
            frame.py(0.0) - y
        );
    }
    out + "</svg>"
}

/// One block of a time line, in seconds.
pub(crate) struct Block {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) class: &'static str,
    pub(crate) caption: String,
}

/// Blocks on one line of time, with marks for what happened on the way.
pub(crate) fn timeline(title: &str, blocks: &[Block], marks: &[(f64, String)]) -> String {
    let start = blocks.iter().map(|b| b.from).fold(f64::INFINITY, f64::min);
    let end = blocks.iter().map(|b| b.to).fold(f64::NEG_INFINITY, f64::max);
    let range = if start.is_finite() { (start, end) } else { (0.0, 1.0) };
    let mut frame = Frame::new(640.0, 130.0, range, (0.0, 1.0));
    frame.left = 14.0;
    let mut out = frame.open(title);
    for block in blocks {
        let _ = write!(
            out,
            "<rect class=\"bar {}\" x=\"{:.1}\" y=\"52\" width=\"{:.1}\" height=\"30\"><title>{}</title></rect>",
            block.class,
            frame.px(block.from),
            (frame.px(block.to) - frame.px(block.from) - 0.6).max(0.6),
            escape(&block.caption)
        );
    }
    for (i, (at, caption)) in marks.iter().enumerate() {
        let x = frame.px(*at);
        let y = 16.0 + 15.0 * (i % 2) as f64;
        let anchor = if x > 420.0 { "end" } else { "start" };
        let _ = write!(
            out,
            "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"88\"/>\
             <text class=\"tick bad\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            y + 4.0,
            escape(caption)
        );
    }
    for tick in ticks(frame.x.0, frame.x.1, 8) {
        let _ = write!(
            out,
            "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"104\">{} s</text>",
            frame.px(tick),
            short(tick)
        );
    }
    out + "</svg>"
}

/// Text that is safe inside HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Round numbers inside a range, about `wanted` of them.
fn ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let raw = (high - low) / wanted.max(1) as f64;
    if !(raw.is_finite() && raw > 0.0) {
        return Vec::new();
    }
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= raw);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).ceil();
    (0..64).map(|i| (first + f64::from(i)) * step).take_while(|t| *t <= high + 1e-9).collect()
}

/// A number with as few digits as tell it: three decimals below one, two above.
fn short(x: f64) -> String {
    let text = if x.abs() < 1.0 { format!("{x:.3}") } else { format!("{x:.2}") };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, -0.0001, 0.05, 1.0, 12.5, -0.137].map(short);
        assert_eq!(shown, ["0", "0", "0.05", "1", "12.5", "-0.137"]);
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 10.0, 5), vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert!(ticks(0.0, 0.0, 5).is_empty());
        assert!(ticks(f64::NAN, 1.0, 5).is_empty());
    }

    #[test]
    fn charts_of_nothing_and_of_hostile_names_are_still_charts() {
        assert!(lines("t", "x", &[], &[]).ends_with("</svg>"));
        assert!(!bars("<script>", &[("<b>".into(), 1.0, "\"".into())]).contains("<b>"));
        assert!(histogram("h", "x", "c1", (0.0, 1.0), &[]).contains("<svg"));
        assert!(timeline("t", &[], &[(0.5, "kill".into())]).contains("kill"));
    }

    #[cfg(feature = "bench")]
    #[test]
    fn a_page_of_charts_is_one_picture_with_room_for_each() {
        let chart = bars("b", &[("one".into(), 1.0, "1".into())]);
        assert_eq!(height_of(&chart), 34.0);
        let page = page(&[("<first>".into(), chart.clone()), ("second".into(), chart)]);
        assert!(
            page.starts_with("<svg xmlns") && page.contains("viewBox=\"0 0 640 152\""),
            "{page}"
        );
        assert!(page.contains("&lt;first&gt;"));
        assert!(
            stacks("t", &[Stack { name: "<b>", pieces: vec![], caption: String::new() }])
                .contains("&lt;b&gt;")
        );
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
