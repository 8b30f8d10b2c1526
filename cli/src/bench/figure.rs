//! A figure with its limit, the parts it is judged against, and how both are written.

use serde::Serialize;

use crate::output::table;

/// Which side of its limit a figure should be on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
    /// It is judged by another figure.
    None,
}

/// One measured figure.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    /// Not there where this machine cannot do it.
    pub(crate) value: Option<f64>,
    pub(crate) unit: &'static str,
    pub(crate) limit: Limit,
    /// What a reader should know beside it.
    pub(crate) note: String,
}

/// A figure as a machine reads it.
#[derive(Serialize)]
struct Plain<'a> {
    name: &'a str,
    value: Option<f64>,
    unit: &'a str,
    limit: Option<f64>,
}

/// A time and the parts that nobody can leave out of it, in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Breakdown {
    pub(crate) name: String,
    pub(crate) measured_s: f64,
    pub(crate) parts: Vec<(String, f64)>,
    /// Where the measured time went, as far as it was told apart.
    pub(crate) phases: Vec<(&'static str, f64)>,
}

/// What a measurement gives.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) figures: Vec<Figure>,
    pub(crate) breakdowns: Vec<Breakdown>,
}

/// All that was measured.
pub(crate) struct Report {
    quick: bool,
    pub(crate) figures: Vec<Figure>,
    pub(crate) breakdowns: Vec<Breakdown>,
}

impl Figure {
    pub(crate) fn new(name: &'static str, value: f64, unit: &'static str, limit: Limit) -> Self {
        Self { name, value: Some(value), unit, limit, note: String::new() }
    }

    pub(crate) fn with_note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Whether the figure is on the right side of its limit, if it has both.
    pub(crate) fn holds(&self) -> Option<bool> {
        match (self.value?, self.limit) {
            (value, Limit::AtLeast(limit)) => Some(value >= limit),
            (value, Limit::AtMost(limit)) => Some(value <= limit),
            (_, Limit::None) => None,
        }
    }

    fn row(&self) -> Vec<String> {
        let value = self.value.map_or_else(
            || if self.note.is_empty() { "not on this CPU" } else { "not measured" }.to_owned(),
            |v| format!("{} {}", digits(v), self.unit).trim_end().to_owned(),
        );
        let limit = match self.limit {
            Limit::AtLeast(limit) => format!("≥ {limit}"),
            Limit::AtMost(limit) => format!("≤ {limit}"),
            Limit::None => String::new(),
        };
        let verdict = match self.holds() {
            Some(true) => "holds",
            Some(false) => "MISSED",
            None => "",
        };
        vec![self.name.to_owned(), value, limit, verdict.to_owned(), self.note.clone()]
    }
}

impl Breakdown {
    pub(crate) fn parts_s(&self) -> f64 {
        self.parts.iter().map(|(_, seconds)| seconds).sum()
    }

    pub(crate) fn over_parts(&self) -> f64 {
        self.measured_s / self.parts_s()
    }

    fn text(&self) -> String {
        let one = |(name, seconds): (&str, f64)| format!("{name} {}", time(seconds));
        let parts: Vec<String> = self.parts.iter().map(|(n, s)| one((n, *s))).collect();
        let phases: Vec<String> = self.phases.iter().map(|(n, s)| one((n, *s))).collect();
        let mut text = format!(
            "{}: {} measured, {} in its parts, {:.2} ×\n  parts:  {}\n",
            self.name,
            time(self.measured_s),
            time(self.parts_s()),
            self.over_parts(),
            parts.join(" + "),
        );
        if !phases.is_empty() {
            text += &format!("  spent:  {}\n", phases.join(" + "));
        }
        text
    }
}

impl Report {
    pub(crate) fn new(quick: bool) -> Self {
        Self { quick, figures: Vec::new(), breakdowns: Vec::new() }
    }

    pub(crate) fn add(&mut self, measured: Measured) {
        let mut figures = measured.figures;
        if self.quick {
            // The limits are for the sizes that they were set for.
            figures.iter_mut().for_each(|figure| figure.limit = Limit::None);
        }
        self.figures.extend(figures);
        self.breakdowns.extend(measured.breakdowns);
    }

    /// The figures that miss their limits.
    pub(crate) fn missed(&self) -> Vec<&'static str> {
        let missed = self.figures.iter().filter(|figure| figure.holds() == Some(false));
        missed.map(|figure| figure.name).collect()
    }

    pub(crate) fn text(&self) -> String {
        let mut rows = vec![["figure", "measured", "limit", "", ""].map(str::to_owned).to_vec()];
        rows.extend(self.figures.iter().map(Figure::row));
        let mut text = String::new();
        if self.quick {
            text += "QUICK: smaller sessions than the limits are for; for a look only.\n\n";
        }
        text += &table(&rows);
        for breakdown in &self.breakdowns {
            text.push('\n');
            text += &breakdown.text();
        }
        text
    }

    pub(crate) fn json(&self) -> impl Serialize {
        let plain = |figure: &Figure| Plain {
            name: figure.name,
            value: figure.value,
            unit: figure.unit,
            limit: match figure.limit {
                Limit::AtLeast(limit) | Limit::AtMost(limit) => Some(limit),
                Limit::None => None,
            },
        };
        // Owned names are 'static, so the list stands by itself.
        self.figures.iter().map(plain).collect::<Vec<_>>()
    }
}

/// Seconds, or what is read more easily.
pub(crate) fn time(seconds: f64) -> String {
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 1e-4 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{:.1} µs", seconds * 1e6)
    }
}

/// A number with three digits that count.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        x if x >= 100.0 => 0,
        x if x >= 10.0 => 1,
        x if x >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(quick: bool) -> Report {
        let mut report = Report::new(quick);
        let mut missing = Figure::new("kernel_vaes512_gb_s", 0.0, "GB/s", Limit::AtLeast(45.0));
        missing.value = None;
        report.add(Measured {
            figures: vec![
                Figure::new("client_1m_ms", 25.25, "ms", Limit::AtMost(28.0)).with_note("k = 120"),
                Figure::new("kernel_share_of_peak", 0.8, "", Limit::AtLeast(0.85)),
                missing,
            ],
            breakdowns: vec![Breakdown {
                name: "client_1m".into(),
                measured_s: 0.025,
                parts: vec![("121 expansions".into(), 0.01), ("240 agreements".into(), 0.01)],
                phases: vec![("sharing", 0.012)],
            }],
        });
        report
    }

    #[test]
    fn machines_read_four_keys_and_people_a_verdict() {
        let json = serde_json::to_value(report(false).json()).unwrap();
        let wanted = serde_json::json!([
            {"name": "client_1m_ms", "value": 25.25, "unit": "ms", "limit": 28.0},
            {"name": "kernel_share_of_peak", "value": 0.8, "unit": "", "limit": 0.85},
            {"name": "kernel_vaes512_gb_s", "value": null, "unit": "GB/s", "limit": 45.0},
        ]);
        assert_eq!(json, wanted);
        let text = report(false).text();
        assert!(text.contains("25.2 ms") && text.contains("≤ 28"), "{text}");
        assert!(text.contains("MISSED") && text.contains("not on this CPU"), "{text}");
        assert!(text.contains("1.25 ×"), "{text}");
        assert_eq!(report(false).missed(), ["kernel_share_of_peak"]);
    }

    #[test]
    fn a_quick_run_is_held_to_no_limit_and_says_so() {
        let quick = report(true);
        assert!(quick.missed().is_empty());
        assert!(quick.text().starts_with("QUICK"));
    }
}
