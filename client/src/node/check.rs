//! `koinon client check`: everything that must be right at a site, looked at one by one.
//!
//! Each finding names one area, says what is so, and how to mend it: folder and keys, policy, data,
//! DNS, proxy, connection, interception, certificate, clock. What cannot be looked at because
//! something before it failed is left out. Nothing leaves but the first message of the protocol, and
//! that through the door. Deliberately no repair. Start at [`check`].

use std::fmt;
use std::path::Path;

use koinon_proto::id::Millis;
use serde::Serialize;

use super::config::{self, Config};
use super::connect::{self, ConnectError, Target};
use super::control::read_policy;
use super::counters::Counters;
use super::error::NodeError;
use super::keystore::KeyStore;
use super::outlet::Outlet;
use super::rounds::{call, check_version, client, refused, version_range};
use super::state::StateFolder;
use crate::ledger::Kind;
use crate::policy::Policy;
use crate::source::{DataError, Source};

/// The clocks may differ by this much before it is worth a word: certificates are valid from an hour
/// before they were made.
const CLOCK_MS_MAX: u64 = 5 * 60_000;
/// A certificate that ends sooner should have been renewed.
const CERTIFICATE_MS_MIN: u64 = 7 * 24 * 3_600_000;

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// The folder, its settings and keys.
    Folder,
    /// The policy file.
    Policy,
    /// The site's rows.
    Data,
    /// The ledger and what must survive a restart.
    State,
    /// Name resolution.
    Dns,
    /// The proxy on the way out.
    Proxy,
    /// The coordinator's address.
    Connection,
    /// Whether somebody opens TLS in between.
    Interception,
    /// This site's and the coordinator's certificates.
    Certificate,
    /// This machine's clock.
    Clock,
    /// The protocol's version.
    Version,
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Folder => "folder",
            Self::Policy => "policy",
            Self::Data => "data",
            Self::State => "state",
            Self::Dns => "dns",
            Self::Proxy => "proxy",
            Self::Connection => "connection",
            Self::Interception => "interception",
            Self::Certificate => "certificate",
            Self::Clock => "clock",
            Self::Version => "version",
        })
    }
}

/// One finding.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub area: Area,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What is so; if it is not right, also how to mend it.
    pub text: String,
    /// The exit code that this finding alone would give; 0 when it is right.
    pub exit_code: u8,
}

/// Looks at everything and gives one finding per area.
pub async fn check(dir: &Path) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    let opened = KeyStore::open(dir).and_then(|keys| Ok((keys, config::load(dir)?)));
    let Some((keys, config)) = findings.take(Area::Folder, opened, |(keys, _)| {
        format!("{} `{}`, keys are private", keys.pins().role, keys.pins().name)
    }) else {
        return findings.0;
    };
    let policy = findings.take(Area::Policy, read_policy(&config.policy), |policy| {
        format!(
            "smallest cohort {}, {} approved",
            policy.cohort.min,
            policy.approvals.approved.len()
        )
    });
    data(&mut findings, &config);
    let Some(target) = findings.take_quietly(Area::Proxy, config.coordinator.target()) else {
        return findings.0;
    };
    network(&mut findings, &keys, &config, &target, policy.unwrap_or_default()).await;
    findings.0
}

fn data(findings: &mut Findings, config: &Config) {
    let Some(data) = &config.data else {
        return findings.bad(
            Area::Data,
            4,
            format!("there is no [data] in {} yet: write where this site's rows are", config::FILE),
        );
    };
    let read = data.open().and_then(|mut source| Ok((count_rows(&mut *source)?, source)));
    match read {
        Ok((0, source)) => {
            let text = format!("{} has no rows: is it the right file?", source.name());
            findings.bad(Area::Data, 4, text);
        }
        Ok((rows, source)) => {
            let columns = source.columns();
            let strange: Vec<&str> = data
                .rename
                .keys()
                .map(String::as_str)
                .filter(|name| !columns.iter().any(|column| column == name))
                .collect();
            if strange.is_empty() {
                let text = format!("{}: {rows} rows, {} columns", source.name(), columns.len());
                findings.good(Area::Data, text);
            } else {
                let text = format!(
                    "[data.rename] names columns that {} does not have: {}; use the names in the file",
                    source.name(),
                    strange.join(", ")
                );
                findings.bad(Area::Data, 4, text);
            }
        }
        Err(error) => findings.bad(Area::Data, 4, error.to_string()),
    }
}

/// Reads the whole table, so that one that breaks off is found, but no cell: which columns matter is
/// a plan's to say.
fn count_rows(source: &mut dyn Source) -> Result<u64, DataError> {
    source.select(&[])?;
    let mut rows = 0;
    while let Some(batch) = source.next_batch()? {
        rows += batch.num_rows() as u64;
    }
    Ok(rows)
}

async fn network(
    findings: &mut Findings,
    keys: &KeyStore,
    config: &Config,
    target: &Target,
    policy: Policy,
) {
    let now = super::now_ms();
    match keys.not_after_ms() {
        Ok(Some(end)) if end < now => findings.bad(
            Area::Certificate,
            6,
            format!("this site's certificate ended {}; check this machine's clock, or join again with a new token", ago(now - end)),
        ),
        Ok(Some(end)) if end < now + CERTIFICATE_MS_MIN => findings.bad(
            Area::Certificate,
            6,
            format!("this site's certificate ends in {}; let the node run, it renews by itself", span(end - now)),
        ),
        Ok(Some(end)) => {
            findings.good(Area::Certificate, format!("valid for another {}", span(end - now)));
        }
        Ok(None) | Err(_) => {}
    }
    let counters = Counters::default();
    let tls = match keys.tls() {
        Ok(tls) => tls,
        Err(error) => return findings.fault(Area::Folder, &error),
    };
    let channel = match connect::channel(target, &tls, &counters).await {
        Ok(channel) => channel,
        Err(error) => return findings.bad(area_of(&error), 6, error.to_string()),
    };
    findings.good(Area::Connection, format!("{} answers", target.address));
    findings.good(Area::Interception, "the certificate shown is of the pinned CA".into());
    // A node that runs has the ledger; then its own status says how it gets on.
    let outlet = StateFolder::open(&config.state)
        .and_then(|(lock, _)| Ok((lock, Outlet::open(&config.ledger, policy.clone(), None)?)));
    let (_lock, outlet) = match outlet {
        Ok(opened) => opened,
        Err(error) if error.to_string().contains("in use") => {
            return findings.good(Area::State, "a node is running here; see its status".into());
        }
        Err(error) => return findings.fault(Area::State, &error),
    };
    findings.good(Area::State, format!("the ledger verifies, {} entries", outlet.head().entries));
    let range = version_range(policy.protocol.min_version);
    let range = match outlet.let_out(Kind::Negotiate, None, keys.coordinator_name(), range) {
        Ok(range) => range,
        Err(error) => return findings.fault(Area::State, &error),
    };
    match call(client(&channel).negotiate(range)).await {
        Ok(answer) => {
            clock(findings, answer.server_time_ms);
            let checked = check_version(&answer, policy.protocol.min_version);
            findings.take(Area::Version, checked, |()| format!("protocol {}", answer.version));
        }
        Err(status) => match refused(target, "negotiate", &status) {
            NodeError::Connect(error) => findings.bad(area_of(&error), 6, error.to_string()),
            error => findings.fault(Area::Version, &error),
        },
    }
}

fn clock(findings: &mut Findings, theirs: Millis) {
    let mine = super::now_ms();
    let difference = mine.abs_diff(theirs);
    if difference <= CLOCK_MS_MAX {
        return findings
            .good(Area::Clock, format!("within {} of the coordinator's", span(difference)));
    }
    let direction = if mine > theirs { "ahead of" } else { "behind" };
    findings.bad(
        Area::Clock,
        6,
        format!(
            "this machine's clock is {} {direction} the coordinator's: set it (for example by NTP), or certificates and the roster count as expired or not yet valid",
            span(difference)
        ),
    );
}

fn area_of(error: &ConnectError) -> Area {
    match error {
        ConnectError::Dns { .. } => Area::Dns,
        ConnectError::Proxy { .. } | ConnectError::ProxyAuthentication { .. } => Area::Proxy,
        ConnectError::Interception { .. } => Area::Interception,
        ConnectError::Validity { .. } => Area::Clock,
        ConnectError::Refused { .. } => Area::Certificate,
        _ => Area::Connection,
    }
}

fn ago(ms: u64) -> String {
    format!("{} ago", span(ms))
}

fn span(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, area: Area, text: String) {
        self.0.push(Finding { area, ok: true, text, exit_code: 0 });
    }

    fn bad(&mut self, area: Area, exit_code: u8, text: String) {
        self.0.push(Finding { area, ok: false, text, exit_code });
    }

    fn fault(&mut self, area: Area, error: &NodeError) {
        self.bad(area, error.exit_code(), error.to_string());
    }

    fn take<T>(
        &mut self,
        area: Area,
        result: Result<T, NodeError>,
        text: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let value = self.take_quietly(area, result)?;
        self.good(area, text(&value));
        Some(value)
    }

    fn take_quietly<T>(&mut self, area: Area, result: Result<T, NodeError>) -> Option<T> {
        result.map_err(|error| self.fault(area, &error)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::csv::{CsvOptions, CsvSource};

    #[tokio::test]
    async fn a_folder_without_a_member_is_one_finding() {
        let dir = tempfile::tempdir().unwrap();
        let findings = check(dir.path()).await;
        assert_eq!(findings.len(), 1);
        assert!(!findings[0].ok && findings[0].area == Area::Folder);
        assert!(findings[0].text.contains("koinon join"));
    }

    #[test]
    fn the_whole_table_is_read() {
        let rows = |text: &'static [u8]| {
            let source =
                CsvSource::from_reader("t.csv".into(), Box::new(text), CsvOptions::default());
            count_rows(&mut source.unwrap())
        };
        assert_eq!(rows(b"a,b\n1,2\n3,4\n").unwrap(), 2);
        assert_eq!(rows(b"a,b\n").unwrap(), 0);
        let error = rows(b"a,b\n1,2\n3").unwrap_err();
        assert!(matches!(error, DataError::Truncated { line: 3, .. }), "{error}");
    }

    #[test]
    fn spans_are_for_people() {
        assert_eq!(span(1_500), "1 s");
        assert_eq!(span(300_000), "5 min");
        assert_eq!(span(90 * 24 * 3_600_000), "90 days");
    }
}
