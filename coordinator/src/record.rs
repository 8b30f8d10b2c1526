//! Records: the coordinator's decisions, as they stand in the journal.
//!
//! A record says what was decided and when by the coordinator's clock; it holds peers' messages
//! verbatim, so that a restarted coordinator can check and continue everything. Its canonical bytes
//! are JSON without white space, fields in the order of declaration, byte strings in hex. Large
//! things (rosters, parameters, masked updates) are blobs, and a record names them by digest.
//!
//! Deliberately not here: what a record does to the state (`state`), and the chain that joins
//! records (`journal`). Start at [`Change`].

use std::fmt;

use koinon_proto::{Digest, Millis, SessionId, SiteId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::figures::Figures;
use crate::round::Kind;

/// One decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When, by the coordinator's clock. Only durations between records of one start are used.
    pub at_ms: Millis,
    /// What.
    pub change: Change,
}

/// What a record changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// The coordinator started. Deadlines move by the time it was down.
    Booted {
        /// Names this start to the sites' mailboxes.
        epoch: u64,
    },
    /// A roster came into force.
    RosterPublished {
        /// The blob with its verbatim bytes.
        roster: Digest,
    },
    /// An identity key waits for a roster, and its admission is spent.
    Enrolled {
        /// The admission's id.
        admission: Digest,
        /// The admitted name.
        name: SiteId,
        /// The identity key.
        key: Digest,
        /// The enrolment message, verbatim protobuf.
        enrolment: Bytes,
    },
    /// A task exists.
    TaskSubmitted {
        /// The manifest, verbatim; its digest is the task's name.
        manifest: Bytes,
        /// The parameters it starts from; none for statistics.
        version: Option<Digest>,
        /// Fitted statistics that come with the version it starts from.
        fitted: Option<Digest>,
    },
    /// A round began: the cohort is invited.
    RoundStarted {
        /// Whose round.
        task: Digest,
        /// What is asked of the sites.
        kind: Kind,
        /// Number of the round.
        round: u32,
        /// Which attempt at it, from 1.
        attempt: u32,
        /// The session, for readers of the journal; the plan has it too.
        session: SessionId,
        /// The session plan, canonical bytes.
        plan: Bytes,
        /// Who is invited, in ascending order.
        cohort: Vec<SiteId>,
        /// The signed head of the log of posted keys, where the invitation names some: of each of the
        /// cohort the first pair that waits, which is spent with this record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keys: Option<Bytes>,
    },
    /// A site posted one-time keys for sessions to come.
    KeysPosted {
        /// Who.
        site: SiteId,
        /// The identity key that signed them.
        identity: Digest,
        /// The coordinator's identity key, which names the log.
        keeper: Digest,
        /// The batch, verbatim.
        batch: Bytes,
    },
    /// A site's posted keys wait no longer: the roster has another identity key for it now, or none.
    KeysDropped {
        /// Whose.
        site: SiteId,
    },
    /// A site showed a head of the log of posted keys that this coordinator signed and the log does not
    /// begin with: the journal was restored from a backup. The log is not used any more.
    KeyLogLost {
        /// The coordinator's identity key, which names the log.
        keeper: Digest,
        /// The head, verbatim: it is evidence.
        head: Bytes,
    },
    /// A site is ready.
    BundleAccepted {
        /// Whose round.
        task: Digest,
        /// Who.
        site: SiteId,
        /// Its key bundle, verbatim.
        bundle: Bytes,
    },
    /// These take part, and nobody else.
    ParticipantsFixed {
        /// Whose round.
        task: Digest,
        /// Sites whose bundle was accepted, in ascending order.
        sites: Vec<SiteId>,
    },
    /// A site dealt its shares.
    SharesAccepted {
        /// Whose round.
        task: Digest,
        /// Who.
        site: SiteId,
        /// Its sealed shares, verbatim.
        shares: Bytes,
    },
    /// Everybody whose shares were accepted may report, and nobody else.
    DealersFixed {
        /// Whose round.
        task: Digest,
    },
    /// A masked update is counted.
    UpdateAccepted {
        /// Whose round.
        task: Digest,
        /// Who.
        site: SiteId,
        /// Its signed report, verbatim.
        report: Bytes,
        /// The blob with the packed masked words.
        update: Digest,
        /// Length of that blob.
        bytes: u64,
    },
    /// Everybody whose update was accepted is in the sum, and nobody else.
    SurvivorsFixed {
        /// Whose round.
        task: Digest,
    },
    /// A site signed the set of survivors.
    SignatureAccepted {
        /// Whose round.
        task: Digest,
        /// Who.
        site: SiteId,
        /// Its signature message, verbatim.
        signature: Bytes,
    },
    /// Enough have signed: reveals are asked for. From here on the parameters may be spent.
    UnmaskStarted {
        /// Whose round.
        task: Digest,
        /// The request with the signatures, verbatim.
        request: Bytes,
    },
    /// A site revealed its shares.
    RevealAccepted {
        /// Whose round.
        task: Digest,
        /// Who.
        site: SiteId,
        /// Its reveal message, verbatim.
        reveal: Bytes,
    },
    /// A site will not do, or could not do, or did badly its part in the round.
    Declined {
        /// Whose round.
        task: Digest,
        /// Who.
        site: SiteId,
        /// Its code, or ours.
        code: String,
    },
    /// The sum was opened, and this came of it.
    Committed {
        /// Whose round.
        task: Digest,
        /// The new version, the fitted statistics, or for an evaluation the version measured.
        result: Digest,
        /// The server optimizer's state after the step, if it has one.
        optimizer: Option<Digest>,
        /// Secure figures of the round.
        figures: Figures,
    },
    /// The round ended without a result.
    Abandoned {
        /// Whose round.
        task: Digest,
        /// A stable code.
        reason: String,
    },
    /// After a spent attempt the server optimizer took a step on its momentum alone, so that the
    /// round can be tried again on other parameters.
    Coasted {
        /// Whose parameters.
        task: Digest,
        /// The new version.
        version: Digest,
        /// The optimizer's state after the step.
        optimizer: Option<Digest>,
    },
    /// An operator ended the task.
    TaskCancelled {
        /// Which.
        task: Digest,
    },
    /// The task ended by itself.
    TaskEnded {
        /// Which.
        task: Digest,
        /// Why it failed; none when it is done.
        failure: Option<String>,
        /// For people: why it stopped before its last round, or has no final figures.
        note: Option<String>,
    },
}

impl Record {
    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("records are numbers, strings, lists and options")
    }

    /// The record that these canonical bytes are.
    ///
    /// # Errors
    /// [`RecordError`] if they are none, or not in canonical form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(bytes)
            .map_err(|error| RecordError::Unknown(error.to_string()))?;
        if record.to_bytes() == bytes { Ok(record) } else { Err(RecordError::NotCanonical) }
    }
}

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not JSON, or a record that this program does not know.
    #[error(
        "not a record that this program knows ({0}); run the version that wrote it, or a newer one"
    )]
    Unknown(String),
    /// A record, but not written by this program.
    #[error("the record is not in canonical form: it was changed after it was written")]
    NotCanonical,
}

/// Bytes that are written as lower-case hex in records.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.0.len())
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = b"0123456789abcdef";
        let mut text = String::with_capacity(self.0.len() * 2);
        for byte in &self.0 {
            text.push(char::from(digits[usize::from(byte >> 4)]));
            text.push(char::from(digits[usize::from(byte & 15)]));
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes: Option<Vec<u8>> =
            pairs.iter().map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect();
        match bytes {
            Some(bytes) if rest.is_empty() => Ok(Self(bytes)),
            _ => Err(serde::de::Error::custom("not lower-case hex of whole bytes")),
        }
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(loss: f64) -> Record {
        let figures = Figures { training_loss: Some(loss.into()), ..Figures::default() };
        let change = Change::Committed {
            task: Digest::of(b"task"),
            result: Digest::of(b"version"),
            optimizer: None,
            figures,
        };
        Record { at_ms: 7, change }
    }

    #[test]
    fn a_record_has_one_form() {
        for loss in [0.1 + 0.2, f64::MIN_POSITIVE, 1e300, -0.0, f64::NAN, f64::INFINITY] {
            let bytes = committed(loss).to_bytes();
            assert_eq!(Record::from_bytes(&bytes).unwrap().to_bytes(), bytes, "{loss}");
        }
        let bytes = committed(1.0).to_bytes();
        let mut spaced = bytes.clone();
        spaced.push(b' ');
        assert_eq!(Record::from_bytes(&spaced), Err(RecordError::NotCanonical));
        let text = String::from_utf8(bytes).unwrap();
        for bad in [text.replace("at_ms", "at"), text.replace("committed", "commited")] {
            assert!(matches!(Record::from_bytes(bad.as_bytes()), Err(RecordError::Unknown(_))));
        }
    }

    #[test]
    fn bytes_are_hex_and_nothing_else() {
        let json = serde_json::to_string(&Bytes(vec![0, 171, 255])).unwrap();
        assert_eq!(json, "\"00abff\"");
        assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap().0, [0, 171, 255]);
        for bad in ["\"0\"", "\"0g\"", "\"AB\"", "\"é\""] {
            assert!(serde_json::from_str::<Bytes>(bad).is_err(), "{bad}");
        }
    }
}
