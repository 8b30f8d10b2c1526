//! Who may speak here: the roster in force, and those who wait for the next one.
//!
//! The consortium decides who is a member, off the coordinator; here its word is only kept, newest
//! version first and never back. An admission is spent by the first key that comes with it. What the
//! coordinator cannot check, the binding of a key to its invitation, it hands on verbatim for the
//! consortium to check. Start at [`Members::enrol`].

use std::collections::BTreeMap;

use koinon_aggregation::Signer;
use koinon_aggregation::identity::verify;
use koinon_aggregation::invitation::{Enrolment, InvitationError};
use koinon_aggregation::roster::{Role, SignedRoster};
use koinon_proto::limits::{ADMISSION_BYTES_MAX, PENDING_MAX};
use koinon_proto::{Digest, Millis, SiteId, wire};
use prost::Message;
use serde::Serialize;

use crate::event::{Rejection, codes};
use crate::record::{Bytes, Change};

/// The durable part: which roster, and which enrolments.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Members {
    /// The roster in force; its bytes are a blob.
    pub(crate) roster: Option<Digest>,
    /// The newest enrolment under each name, verbatim.
    enrolments: BTreeMap<SiteId, Bytes>,
    /// The identity key that came with each admission.
    spent: BTreeMap<Digest, Digest>,
}

/// An enrolment that was checked.
pub(crate) struct Enrolled {
    pub(crate) name: SiteId,
    pub(crate) role: Role,
    /// To be journaled; none when this very key is admitted already.
    pub(crate) change: Option<Change>,
}

impl Members {
    /// Checks an enrolment: admitted by the consortium, in time, with a key that the sender has, and
    /// with no other key before.
    pub(crate) fn enrol(
        &self,
        enrolment: &wire::Enrolment,
        roster: Option<&SignedRoster>,
        consortium_key: &[u8; 32],
        now: Millis,
    ) -> Result<Enrolled, Rejection> {
        if enrolment.admission.len() > ADMISSION_BYTES_MAX {
            return Err(Rejection::new(codes::BAD_ENROLMENT, "the admission is too long"));
        }
        let parts = read(enrolment)?;
        let admission = parts.verify(consortium_key, now).map_err(|error| {
            let code = match error {
                InvitationError::Possession => codes::BAD_ENROLMENT,
                _ => codes::BAD_ADMISSION,
            };
            Rejection::new(code, error.to_string())
        })?;
        let name = SiteId::new(admission.name.clone())?;
        let enrolled = |change| Enrolled { name: name.clone(), role: admission.role, change };
        match self.spent.get(&Digest(admission.id)) {
            Some(key) if key.0 == parts.identity_key => return Ok(enrolled(None)),
            Some(_) => {
                let detail = "this invitation was used with another identity key; if that was not \
                              you, tell the consortium; otherwise ask for a new one";
                return Err(Rejection::new(codes::ADMISSION_SPENT, detail));
            }
            None => {}
        }
        if self.pending(roster).count() >= PENDING_MAX {
            let detail = "too many enrolments wait for the consortium's next roster";
            return Err(Rejection::new(codes::TOO_MANY, detail));
        }
        Ok(enrolled(Some(Change::Enrolled {
            admission: Digest(admission.id),
            name: name.clone(),
            key: Digest(parts.identity_key),
            enrolment: enrolment.encode_to_vec().into(),
        })))
    }

    /// Checks a roster that an operator hands in; `None` when it is in force already.
    pub(crate) fn check_roster(
        held: Option<&SignedRoster>,
        bytes: &[u8],
        consortium_key: &[u8; 32],
        own: (&SiteId, &dyn Signer),
    ) -> Result<Option<SignedRoster>, Rejection> {
        let offered = SignedRoster::verify(bytes, consortium_key)
            .map_err(|error| Rejection::new(codes::BAD_ROSTER, error.to_string()))?;
        if let Some(held) = held {
            offered
                .check_follows(held)
                .map_err(|error| Rejection::new(codes::ROSTER_ROLLBACK, error.to_string()))?;
            if offered == *held {
                return Ok(None);
            }
        }
        let (name, identity) = own;
        let listed = offered
            .roster()
            .coordinator_at(None)
            .is_some_and(|row| row.name == name.as_str() && row.key == identity.public());
        if listed {
            return Ok(Some(offered));
        }
        let detail = format!(
            "the roster does not name {name} with its present identity key as the coordinator: \
             sites would believe nothing that it says; add that row and sign again"
        );
        Err(Rejection::new(codes::BAD_ROSTER, detail))
    }

    /// Enrolments that the roster in force does not answer, verbatim.
    pub(crate) fn pending<'a>(
        &'a self,
        roster: Option<&'a SignedRoster>,
    ) -> impl Iterator<Item = wire::Enrolment> + 'a {
        let known = move |enrolment: &wire::Enrolment, name: &str| {
            let row = roster.and_then(|signed| signed.roster().member(name));
            row.is_some_and(|row| row.key.as_slice() == enrolment.identity_key)
        };
        self.enrolments.iter().filter_map(move |(name, bytes)| {
            let enrolment = wire::Enrolment::decode(&bytes[..]).ok()?;
            (!known(&enrolment, name.as_str())).then_some(enrolment)
        })
    }

    /// Keeps an enrolment and spends its admission.
    pub(crate) fn apply_enrolment(
        &mut self,
        admission: Digest,
        name: &SiteId,
        key: Digest,
        enrolment: &Bytes,
    ) {
        self.spent.insert(admission, key);
        self.enrolments.insert(name.clone(), enrolment.clone());
    }
}

/// Whether the envelope's signature is that key's.
pub(crate) fn signed_by(key: [u8; 32]) -> impl Fn(&[u8], &[u8; 64]) -> bool {
    move |message, signature| verify(&key, message, signature)
}

fn read(enrolment: &wire::Enrolment) -> Result<Enrolment, Rejection> {
    Enrolment::from_parts(
        &enrolment.admission,
        &enrolment.identity_key,
        &enrolment.binding,
        &enrolment.certificate_request,
        &enrolment.signature,
    )
    .map_err(|error| Rejection::new(codes::BAD_ENROLMENT, error.to_string()))
}
