//! `report.html`: one self-contained page, no script, nothing from outside.

use super::outcome::Outcome;
use super::private;
use crate::chart::{self, Block, Interval, Series, escape};
use crate::output::thousands;

const STYLE: &str = "
:root{--ink:#1c2330;--soft:#667085;--paper:#fff;--line:#e4e7ec;--c1:#2563eb;--c2:#0d9488;--c3:#d97706;--c4:#7c3aed;--bad:#dc2626}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--paper:#12161d;--line:#2b3240;--c1:#60a5fa;--c2:#2dd4bf;--c3:#fbbf24;--c4:#a78bfa;--bad:#f87171}}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:760px;margin:0 auto;padding:40px 20px 80px}
h1{font-size:28px;line-height:1.2;margin:0 0 8px}h2{font-size:19px;margin:44px 0 6px}
p{margin:6px 0 12px}.soft{color:var(--soft)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:26px 0}
.fact{border:1px solid var(--line);border-radius:10px;padding:12px 14px}.fact b{display:block;font-size:24px}
.fact span{color:var(--soft);font-size:14px}
svg{width:100%;height:auto;display:block}.two{display:grid;grid-template-columns:1fr 1fr;gap:14px}
.two figcaption{font-size:14px;color:var(--soft)}figure{margin:0}
.grid{stroke:var(--line)}.tick{fill:var(--soft);font:11px system-ui,sans-serif}.key{font:12px system-ui,sans-serif}
.line{fill:none;stroke-width:2.2}.mark{stroke:var(--bad);stroke-dasharray:3 3}.bad{fill:var(--bad)}
.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}.line.c3{stroke:var(--c3)}.line.c4{stroke:var(--c4)}
.key.c1,.bar.c1,.dot.c1{fill:var(--c1)}.key.c2,.bar.c2,.dot.c2{fill:var(--c2)}
.key.c3,.bar.c3,.dot.c3{fill:var(--c3)}.key.c4,.bar.c4,.dot.c4{fill:var(--c4)}.bar.lost{fill:var(--bad)}
pre{background:color-mix(in srgb,var(--line) 45%,transparent);padding:12px 14px;border-radius:8px;overflow-x:auto;font-size:13px}
@media(max-width:560px){.two{grid-template-columns:1fr}}
";

/// The page for one outcome. `checks` are the commands that a reader can run.
pub(crate) fn page(o: &Outcome, checks: &[String]) -> String {
    let words = words_for(&o.data);
    let mut body = head(o, &words);
    body += &curve(o);
    body += &comparison(o, &words);
    body += &time(o);
    body += &bytes(o);
    body += &masking(o);
    body += &split(o);
    body += &format!(
        "<h2>Check it yourself</h2><pre>{}</pre>",
        checks.iter().map(|c| escape(c)).collect::<Vec<_>>().join("\n")
    );
    document(&format!("Koinon: {} {} together", o.sites, words.plural), &body)
}

/// The page of a private demo.
pub(crate) fn private_page(o: &private::Outcome) -> String {
    let private::Promise { unit, epsilon, delta } = &o.privacy;
    let audited = &o.found.audit;
    let federated = &o.found.federated;
    let label = |cost: &private::Cost| {
        cost.epsilon.map_or_else(|| "no privacy".to_owned(), |e| format!("epsilon {e}"))
    };
    let labels: Vec<String> = o.found.price.iter().map(label).collect();
    let rows: Vec<Interval<'_>> = (o.found.price.iter().zip(&labels))
        .map(|(cost, name)| Interval {
            name,
            class: if cost.epsilon.is_some() { "c1" } else { "c4" },
            value: cost.auc,
            low: cost.auc - cost.deviation,
            high: cost.auc + cost.deviation,
        })
        .collect();
    let models = o.found.price.first().map_or(0, |cost| cost.models);
    let body = format!(
        "<h1>{} hospitals trained one model, and it tells little of any patient</h1>\
         <p class=\"soft\">{} noised steps between separate processes, {:.0} seconds. Epsilon is at most {epsilon} at delta \
         {delta}, unit {unit}: whether a patient took part changes the odds of anything that anybody sees by a factor of at most \
         e<sup>{epsilon}</sup>, but for a chance of delta. Each hospital computed that again and keeps its own account.</p>\
         <div class=\"facts\"><div class=\"fact\"><b>{:.3}</b><span>AUC of the federation's model, {:.3} to {:.3}</span></div>\
         <div class=\"fact\"><b>{:.2}</b><span>epsilon that an attacker proved, {} models</span></div>\
         <div class=\"fact\"><b>{:.2}</b><span>the same with a tenth of the noise, {} models</span></div></div>\
         <h2>The price</h2><p class=\"soft\">AUC on all test patients, mean and deviation of {models} models each, that differ in \
         draws and noise alone; trained by the referee with the rows in one place, which is possible only in a demo.</p>{}\
         <h2>The audit</h2><p>An attacker who follows every opened sum, and knows all rows but the secret draws and the noise, \
         guesses whether one planted record took part. That proves epsilon ≥ {:.2} (confidence {:.0} %), and {} is stated. With a \
         tenth of the noise planted the same attack proves {:.2}.</p>",
        o.sites,
        o.rounds,
        o.seconds,
        federated.auc,
        federated.low,
        federated.high,
        audited.bound,
        thousands(audited.models.into()),
        audited.bound_tenth,
        thousands(audited.models_tenth.into()),
        chart::intervals("AUC by budget", "AUC on all test patients", &rows),
        audited.bound,
        100.0 * audited.confidence,
        audited.stated,
        audited.bound_tenth,
    );
    document("Koinon: a private model", &body)
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )
}

/// How a table's sites and rows are called.
pub(crate) struct Words {
    pub(crate) plural: &'static str,
    pub(crate) rows: &'static str,
    pub(crate) label: &'static str,
}

pub(crate) fn words_for(data: &str) -> Words {
    match data {
        "banks" => Words { plural: "banks", rows: "loans", label: "charged_off" },
        _ => Words { plural: "hospitals", rows: "patients", label: "keap1_mutated" },
    }
}

fn head(o: &Outcome, w: &Words) -> String {
    let fact = |figure: String, caption: &str| {
        format!("<div class=\"fact\"><b>{figure}</b><span>{}</span></div>", escape(caption))
    };
    let facts = [
        fact(format!("{:.3}", o.federated.auc), "AUC together, nobody's rows moved"),
        fact(format!("{:.3}", o.alone.auc_median), "AUC alone (median site)"),
        fact(format!("{:.3}", o.pooled.auc), "AUC pooled, what nobody may do"),
        fact(
            format!(
                "{} / {}",
                o.faults.site_kills + o.faults.coordinator_kills,
                o.lost_updates + o.lost_versions
            ),
            "killed / lost",
        ),
    ];
    format!(
        "<h1>{} {} trained one model together</h1>\
         <p class=\"soft\">Label <code>{}</code>, {} rounds, separate processes over mutual TLS, {:.0} seconds. \
         The coordinator saw sums only; every byte that left a site stands in that site's own ledger.</p>\
         <div class=\"facts\">{}</div>",
        o.sites,
        w.plural,
        w.label,
        o.rounds,
        o.seconds,
        facts.concat()
    )
}

fn curve(o: &Outcome) -> String {
    let points = |pick: fn(&super::outcome::Round) -> Option<f64>| -> Vec<(f64, f64)> {
        o.history.iter().filter_map(|r| pick(r).map(|y| (f64::from(r.round), y))).collect()
    };
    let auc =
        [Series { name: "validation AUC", class: "c1", points: points(|r| r.validation_auc) }];
    let loss = [Series { name: "training loss", class: "c3", points: points(|r| r.loss) }];
    format!(
        "<h2>Learning</h2><p class=\"soft\">Both curves come out of secure sums: AUC from binned scores of validation rows, \
         loss over training rows. No site's own figure was ever visible.</p>{}{}",
        chart::lines("Validation AUC by round", "round", &auc, &[]),
        chart::lines("Training loss by round", "round", &loss, &[]),
    )
}

fn comparison(o: &Outcome, w: &Words) -> String {
    let score = |name, class, s: &super::outcome::Score| Interval {
        name,
        class,
        value: s.auc,
        low: s.low,
        high: s.high,
    };
    let worst = o.alone.auc_worst;
    let rows = [
        Interval { name: "alone, worst", class: "c3", value: worst, low: worst, high: worst },
        Interval {
            name: "alone, median",
            class: "c3",
            value: o.alone.auc_median,
            low: o.alone.low,
            high: o.alone.high,
        },
        score("together (federated)", "c1", &o.federated),
        score("pooled (what nobody may do)", "c4", &o.pooled),
    ];
    format!(
        "<h2>Alone, together, pooled</h2><p class=\"soft\">AUC on the union of all test {}, with 95 % intervals; same network, \
         same budget of epochs. A referee that exists only in a demo held the test rows back.</p>{}",
        w.rows,
        chart::intervals("AUC with intervals", "AUC on all test rows", &rows)
    )
}

fn time(o: &Outcome) -> String {
    let blocks: Vec<Block> = o
        .history
        .iter()
        .map(|r| Block {
            from: r.started_seconds,
            to: r.started_seconds + r.seconds,
            class: match (r.outcome.as_str(), r.kind.as_str()) {
                ("committed", "train") => "c1",
                ("committed", _) => "c2",
                _ => "lost",
            },
            caption: format!(
                "round {} ({}): {}, {} sites",
                r.round, r.kind, r.outcome, r.participants
            ),
        })
        .collect();
    let notes: String = o.faults.notes.iter().map(|n| format!("<li>{}</li>", escape(n))).collect();
    format!(
        "<h2>The rounds in time</h2><p class=\"soft\">Blue: training. Green: statistics and evaluation. Red: abandoned. \
         The dashed marks are kills with <code>SIGKILL</code>, made on purpose; a gap is the time in which the coordinator was away.</p>{}<ul>{notes}</ul>",
        chart::timeline("Rounds in time", &blocks, &o.faults.at_seconds)
    )
}

fn bytes(o: &Outcome) -> String {
    let mut rows: Vec<(String, f64, String)> =
        o.ledger.by_kind.iter().map(|(kind, n)| (kind.clone(), *n as f64, thousands(*n))).collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    format!(
        "<h2>What left {}</h2><p class=\"soft\">{} bytes of messages in {} ledger entries, by kind. Its sockets carried {} bytes \
         by its own count and {} by the relay's; framing by TLS and HTTP/2 is {:.1} % without handshakes.</p>{}",
        escape(&o.ledger.site),
        thousands(o.ledger.bytes),
        thousands(o.ledger.entries),
        thousands(o.transport.bytes),
        thousands(o.relay.bytes),
        o.transport.framing_share * 100.0,
        chart::bars("Bytes by kind", &rows)
    )
}

fn masking(o: &Outcome) -> String {
    let m = &o.masking;
    let ring = 2f64.powi(i32::try_from(m.bits).unwrap_or(0));
    format!(
        "<h2>What the coordinator stored for {}</h2><p class=\"soft\">Left: the site's true update. Right: the {} words that the \
         coordinator holds for it, over the whole ring of 2<sup>{}</sup>: noise (chi-square against noise: z = {:.2}).</p>\
         <div class=\"two\"><figure>{}<figcaption>true update</figcaption></figure>\
         <figure>{}<figcaption>stored by the coordinator</figcaption></figure></div>",
        escape(&o.ledger.site),
        thousands(m.words),
        m.bits,
        m.stored_z,
        chart::histogram("True update", "value", "c1", m.truth_range, &m.truth),
        chart::histogram(
            "Stored words",
            "word / ring",
            "c3",
            (0.0, if ring > 0.0 { 1.0 } else { 0.0 }),
            &m.stored
        ),
    )
}

fn split(o: &Outcome) -> String {
    format!(
        "<h2>Split inference</h2><p>Cut before node {} (<code>{}</code>): {} rows answered, {} bytes of activations sent instead of {} \
         bytes of raw rows; largest difference to the uncut network {:.1e}.</p>",
        o.split.cut,
        escape(&o.split.boundary),
        o.split.rows,
        thousands(o.split.bytes_sent),
        thousands(o.split.raw_bytes),
        o.split.max_abs_diff
    )
}
