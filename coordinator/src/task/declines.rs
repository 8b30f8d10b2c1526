//! Why sites did not take part: the last code of each, for operators and for who is asked again.
//!
//! A site's code stays until the site is ready for a round again. Deliberately no decision about
//! rounds. Start at [`Declines::note`].

use std::collections::BTreeMap;

use koinon_proto::SiteId;
use serde::Serialize;

use crate::event::codes;
use crate::record::Change;

/// Codes of sites that pass by themselves. All others, also those that this program does not know,
/// stay until somebody changes something: the site's table, its policy, the task.
const PASSING: [&str; 7] =
    ["bad_upload", "late", "not_approved", "paused", "roster_mismatch", "session_left", "stopped"];

/// A site's word for statistics that it opened before, under the same feature plan.
const STATISTICS_OPENED: &str = "statistics_opened";

/// Who declined a task's rounds, and with what code.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Declines {
    of: BTreeMap<SiteId, String>,
    last: Option<SiteId>,
}

impl Declines {
    /// A site declined, or is ready again.
    pub(crate) fn note(&mut self, change: &Change) {
        match change {
            Change::Declined { site, code, .. } => {
                self.of.insert(site.clone(), code.clone());
                self.last = Some(site.clone());
            }
            Change::BundleAccepted { site, .. } => self.remove(|of, _| of == site),
            _ => {}
        }
    }

    /// The next round starts from other parameters, or needs no statistics any more: nobody has spent
    /// what it is over.
    pub(crate) fn moved_on(&mut self) {
        self.remove(|_, code| [codes::SPENT, STATISTICS_OPENED].contains(&code));
    }

    fn remove(&mut self, which: impl Fn(&SiteId, &str) -> bool) {
        self.of.retain(|site, code| !which(site, code));
        self.last.take_if(|site| !self.of.contains_key(site));
    }

    /// The site's name, with its code if it declined: `hospital-50: spent`.
    pub(crate) fn named(&self, site: &str) -> String {
        self.of.get(site).map_or_else(|| site.to_owned(), |code| format!("{site}: {code}"))
    }

    /// Whether the site declined for something that does not pass by itself.
    pub(crate) fn lasts(&self, site: &str) -> bool {
        self.of.get(site).is_some_and(|code| !PASSING.contains(&code.as_str()))
    }

    /// `reason`, with the most frequent code and the site that declined last:
    /// `too_few: spent at 3 sites; last hospital-50: spent`.
    pub(crate) fn explain(&self, reason: &str) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        self.of.values().for_each(|code| *counts.entry(code).or_default() += 1);
        let Some((code, count)) = counts.into_iter().max_by_key(|(_, count)| *count) else {
            return reason.to_owned();
        };
        let sites = if count == 1 { "site" } else { "sites" };
        let last = self.last.as_ref().map(|site| format!("; last {}", self.named(site.as_str())));
        format!("{reason}: {code} at {count} {sites}{}", last.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use koinon_proto::Digest;

    use super::*;
    use crate::record::Bytes;

    fn site(name: &str) -> SiteId {
        SiteId::new(name).unwrap()
    }

    fn declined(declines: &mut Declines, name: &str, code: &str) {
        let (task, site) = (Digest::of(b"task"), site(name));
        declines.note(&Change::Declined { task, site, code: code.to_owned() });
    }

    #[test]
    fn the_most_frequent_code_and_the_last_site_are_named() {
        let mut declines = Declines::default();
        assert_eq!(declines.explain("deadline"), "deadline");
        declined(&mut declines, "a", "spent");
        assert_eq!(declines.explain("too_few"), "too_few: spent at 1 site; last a: spent");
        declined(&mut declines, "b", "spent");
        declined(&mut declines, "c", "data");
        assert_eq!(declines.explain("too_few"), "too_few: spent at 2 sites; last c: data");
        assert_eq!((declines.named("b"), declines.named("z")), ("b: spent".into(), "z".into()));
        let (task, bundle) = (Digest::of(b"task"), Bytes::default());
        declines.note(&Change::BundleAccepted { task, site: site("c"), bundle });
        assert_eq!(declines.explain("too_few"), "too_few: spent at 2 sites");
        declined(&mut declines, "d", "statistics_opened");
        declines.moved_on();
        assert_eq!(declines, Declines::default());
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_lasts() {
        let mut declines = Declines::default();
        declined(&mut declines, "a", "paused");
        declined(&mut declines, "b", "data");
        declined(&mut declines, "c", "of_a_newer_program");
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| declines.lasts(name)),
            [false, true, true, false]
        );
    }
}
