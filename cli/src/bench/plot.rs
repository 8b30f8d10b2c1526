//! The figures as one picture: each measured time beside the sum of its parts, and each figure
//! against its limit.

use super::figure::{Limit, Report, time};
use crate::chart::{self, Stack};

/// The picture, an SVG file that stands by itself.
pub(crate) fn svg(report: &Report) -> String {
    let mut panels = Vec::new();
    let limited: Vec<(String, f64, String)> = report
        .figures
        .iter()
        .filter_map(|figure| {
            let value = figure.value?;
            let (share, sign, limit) = match figure.limit {
                Limit::AtLeast(limit) => (value / limit, "≥", limit),
                Limit::AtMost(limit) => (value / limit, "≤", limit),
                Limit::None => return None,
            };
            let caption = format!("{value:.3} {} ({sign} {limit})", figure.unit);
            Some((figure.name.to_owned(), share, caption))
        })
        .collect();
    if !limited.is_empty() {
        panels.push((
            "Measured, as a share of the limit".to_owned(),
            chart::bars("limits", &limited),
        ));
    }
    for breakdown in &report.breakdowns {
        let named = |name: &str, seconds: f64| (format!("{name}: {}", time(seconds)), seconds);
        let stacks = [
            Stack {
                name: "parts",
                pieces: breakdown.parts.iter().map(|(name, s)| named(name, *s)).collect(),
                caption: time(breakdown.parts_s()),
            },
            Stack {
                name: "measured",
                pieces: breakdown.phases.iter().map(|(name, s)| named(name, *s)).collect(),
                caption: time(breakdown.measured_s),
            },
        ];
        panels.push((breakdown.name.clone(), chart::stacks(&breakdown.name, &stacks)));
    }
    chart::page(&panels)
}
