//! The last screen: five lines that tell it, and the commands with which anybody can check it.

use std::path::Path;

use super::outcome::{Outcome, Score};
use super::report::words_for;
use super::screen::Screen;
use crate::output::thousands;

/// Three commands that check what the demo claims.
pub(crate) fn checks(dir: &Path, o: &Outcome) -> Vec<String> {
    let dir = dir.display();
    // As it was called: after `cargo run` the program is not on the path.
    let koinon = std::env::args().next().unwrap_or_else(|| "koinon".into());
    let site = format!("{dir}/{}", o.ledger.site);
    vec![
        format!("{koinon} client ledger verify --dir {site} --transcript {site}/transcript"),
        format!("{koinon} client ledger list --dir {site}"),
        format!("{koinon} model verify {dir}/referee/federated"),
    ]
}

/// Prints the five lines.
pub(crate) fn tell(screen: &Screen, o: &Outcome, checks: &[String]) {
    let interval = |s: &Score| format!("{:.3} [{:.3}–{:.3}]", s.auc, s.low, s.high);
    let words = words_for(&o.data);
    let alone = Score { auc: o.alone.auc_median, low: o.alone.low, high: o.alone.high };
    screen.line("");
    screen.line(format!(
        "1  alone {} → together {} → pooled {}   (AUC on all test {}, 95 % intervals; pooled is what nobody may do)",
        interval(&alone),
        interval(&o.federated),
        interval(&o.pooled),
        words.rows
    ));
    screen.line(format!(
        "2  what left {}: {} bytes in {} messages, all in its ledger; its sockets carried {} by its own count, {} by the relay's",
        o.ledger.site,
        thousands(o.ledger.bytes),
        thousands(o.ledger.entries),
        thousands(o.transport.bytes),
        thousands(o.relay.bytes)
    ));
    screen.line(format!(
        "3  its true update {}  what the coordinator stored for it {}  (noise: z = {:.2})",
        spark(&o.masking.truth),
        spark(&o.masking.stored),
        o.masking.stored_z
    ));
    screen.line(format!(
        "4  killed {} ({} site, {} coordinator), lost {} versions and {} updates; split inference differs by {:.1e} at most",
        times(o.faults.site_kills + o.faults.coordinator_kills),
        o.faults.site_kills,
        o.faults.coordinator_kills,
        o.lost_versions,
        o.lost_updates,
        o.split.max_abs_diff
    ));
    screen.line("5  check it yourself:");
    for check in checks {
        screen.line(format!("     {check}"));
    }
    screen.line(format!("\nreport  {}   ({:.0} seconds)", o.report, o.seconds));
}

fn times(n: u32) -> String {
    match n {
        0 => "nobody".into(),
        1 => "once".into(),
        2 => "twice".into(),
        n => format!("{n} times"),
    }
}

/// A histogram as one word of block characters, folded to 24 columns.
fn spark(counts: &[u64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = 24.min(counts.len().max(1));
    let fold = counts.len().div_ceil(columns).max(1);
    let sums: Vec<u64> = counts.chunks(fold).map(|c| c.iter().sum()).collect();
    let most = sums.iter().copied().max().unwrap_or(0).max(1);
    sums.iter()
        .map(|n| LEVELS[usize::try_from((n * 7).div_ceil(most)).unwrap_or(7).min(7)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spark_shows_the_shape() {
        assert_eq!(spark(&[0, 1, 7]), "▁▂█");
        assert_eq!(spark(&[]), "");
        assert_eq!(spark(&[5; 48]).chars().count(), 24);
    }
}
