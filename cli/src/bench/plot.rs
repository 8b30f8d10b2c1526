//! The figures as one picture: each measured time beside the sum of its parts, and each figure
//! against its limit.

use super::figure::{Limit, Report};
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
        let parts = breakdown.parts.iter().map(|(name, s)| (name.as_str(), *s)).collect();
        let phases = breakdown.phases.iter().map(|(name, s)| (*name, *s)).collect();
        let stacks =
            [Stack { name: "parts", pieces: parts }, Stack { name: "measured", pieces: phases }];
        panels.push((breakdown.name.clone(), chart::stacks(&breakdown.name, &stacks)));
    }
    chart::page(&panels)
}
