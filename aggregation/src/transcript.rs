//! The record of a session: every public message, so that anyone can open the sum once more.
//!
//! It holds what the coordinator saw, reveals included, and so nothing beyond the sum of the
//! survivors and who took part. The masked updates are kept as their sum; whoever stored them can
//! put them back in with [`Transcript::attach_update`]. `docs/protocol.md` describes the file; a
//! reader in another language is `docs/verify/verify_session.py`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::error::Rejection;
use crate::hash::{Digest, hash};
use crate::message::bundle::Bundle;
use crate::message::report::Report;
use crate::message::reveal::Reveal;
use crate::message::shares::Shares;
use crate::message::survivors::SurvivorSignature;
use crate::plan::SessionPlan;
use crate::update::Sum;

/// All public messages of a session that was opened, in canonical order, and its sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    pub(crate) plan: SessionPlan,
    pub(crate) bundles: Vec<Bundle>,
    pub(crate) identities: Vec<[u8; 32]>,
    pub(crate) shares: Vec<Shares>,
    pub(crate) reports: Vec<Report>,
    pub(crate) masked_sum: Vec<u8>,
    pub(crate) signatures: Vec<SurvivorSignature>,
    pub(crate) reveals: Vec<Reveal>,
    pub(crate) updates: BTreeMap<u16, Vec<u8>>,
    pub(crate) sum: Sum,
}

impl Transcript {
    /// Puts a survivor's masked update in.
    ///
    /// # Errors
    /// [`Rejection::UnknownIndex`] or [`Rejection::WrongUpdate`] unless it is the one reported.
    pub fn attach_update(&mut self, index: u16, packed: Vec<u8>) -> Result<(), Rejection> {
        let report = self.reports.iter().find(|report| report.index() == index);
        let unknown = Rejection::UnknownIndex { index, what: "masked update" };
        let report = report.ok_or(unknown)?;
        if *report.update() != report.digest_of(&packed) {
            let site = self.bundles[usize::from(index)].site().to_owned();
            return Err(Rejection::WrongUpdate { site });
        }
        self.updates.insert(index, packed);
        Ok(())
    }

    /// The digest over the plan, every signed message, and the sum.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut parts = vec![self.plan.to_bytes()];
        parts.extend(self.bundles.iter().map(Bundle::to_bytes));
        parts.extend(self.shares.iter().map(Shares::to_bytes));
        parts.extend(self.reports.iter().map(Report::to_bytes));
        parts.extend(self.signatures.iter().map(SurvivorSignature::to_bytes));
        parts.extend(self.reveals.iter().map(Reveal::to_bytes));
        parts.push(self.sum.values().iter().flat_map(|value| value.to_le_bytes()).collect());
        let digests: Vec<Digest> =
            parts.iter().map(|part| hash("koinon/1/transcript/part", &[part])).collect();
        hash("koinon/1/transcript", &[digests.as_flattened()])
    }

    /// The record as one JSON object: bytes as lower-case hexadecimal, the sum as integers.
    #[must_use]
    pub fn to_json(&self) -> String {
        let list = |items: Vec<String>| format!("[\n    {}\n  ]", items.join(",\n    "));
        let messages = |items: Vec<Vec<u8>>| list(items.iter().map(|m| quoted(m)).collect());
        let updates =
            self.updates.iter().map(|(index, packed)| format!("\"{index}\": {}", quoted(packed)));
        let values = self.sum.values().iter().map(i64::to_string).collect::<Vec<_>>();
        let parts = [
            ("plan", quoted(&self.plan.to_bytes())),
            ("identities", messages(self.identities.iter().map(|k| k.to_vec()).collect())),
            ("bundles", messages(self.bundles.iter().map(Bundle::to_bytes).collect())),
            ("shares", messages(self.shares.iter().map(Shares::to_bytes).collect())),
            ("reports", messages(self.reports.iter().map(Report::to_bytes).collect())),
            ("updates", format!("{{{}}}", updates.collect::<Vec<_>>().join(", "))),
            ("masked_sum", quoted(&self.masked_sum)),
            (
                "signatures",
                messages(self.signatures.iter().map(SurvivorSignature::to_bytes).collect()),
            ),
            ("reveals", messages(self.reveals.iter().map(Reveal::to_bytes).collect())),
            ("sum", format!("[{}]", values.join(", "))),
            ("digest", quoted(&self.digest())),
        ];
        let lines: Vec<String> =
            parts.iter().map(|(name, value)| format!("  \"{name}\": {value}")).collect();
        format!("{{\n{}\n}}\n", lines.join(",\n"))
    }
}

fn quoted(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(2 + 2 * bytes.len());
    hex.push('"');
    for byte in bytes {
        write!(hex, "{byte:02x}").expect("a string takes whatever is written");
    }
    hex.push('"');
    hex
}
