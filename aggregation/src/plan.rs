//! What every participant of a session must have been told alike: the session plan.
//!
//! Its digest goes into every seed and under every signature, so sites that were given different
//! plans produce masks that do not cancel. The plan holds digests, not the things themselves: what
//! a model or a task is, its maker knows. A site checks a plan against its own policy before it
//! acts on it; this module only sees to it that there is one plan and one encoding of it.

use crate::codec::{CodecError, Reader, Writer};
use crate::encode::{EncodingPlan, PlanError};
use crate::hash::{Digest, hash};
use crate::message::Agreed;
use crate::parameters::{Assumptions, Sparse};
use crate::participants::{COMPLETE_MAX, PARTICIPANTS_MAX, PARTICIPANTS_MIN};
use crate::topology::{Topology, Version};

/// The terms of one session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionPlan {
    /// The session's name: never used twice.
    pub session: Digest,
    /// A digest over everything the sum depends on beside this plan: task, model, training plan,
    /// version, feature statistics, round. The caller makes it.
    pub context: Digest,
    /// The digest of the roster whose keys count.
    pub roster: Digest,
    /// What is summed and how it is written.
    pub encoding: EncodingPlan,
    /// The fewest sites whose sum may be opened, 3..=`n_max`.
    pub n_min: u16,
    /// Who shares with whom.
    pub topology: Topology,
}

impl SessionPlan {
    /// The version of the protocol that this plan is carried out with.
    #[must_use]
    pub fn protocol_version(&self) -> u32 {
        self.version().number()
    }

    pub(crate) fn version(&self) -> Version {
        self.topology.version()
    }

    /// The plan, as bundles are bound to it.
    pub(crate) fn agreed(&self) -> Agreed {
        Agreed { version: self.version(), digest: self.digest() }
    }

    /// The plan's digest, SHA-256 over its canonical bytes under a label.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let label = match self.version() {
            Version::Complete => "koinon/1/plan",
            Version::Sparse => "koinon/2/plan",
        };
        hash(label, &[&self.to_bytes()])
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(114 + self.encoding.bytes_max());
        out.u32(self.protocol_version());
        out.bytes(&self.session).bytes(&self.context).bytes(&self.roster).u16(self.n_min);
        if let Topology::Sparse(sparse) = &self.topology {
            write_sparse(sparse, &mut out);
        }
        self.encoding.write(&mut out);
        out.into_public()
    }

    /// The plan that these canonical bytes are.
    ///
    /// # Errors
    /// If the bytes are not canonical, of another version, or not a permitted plan.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let version = Version::from_number(from.u32("protocol version")?)?;
        let (session, context) = (from.array("session")?, from.array("context")?);
        let (roster, n_min) = (from.array("roster")?, from.u16("n_min")?);
        let topology = match version {
            Version::Complete => Topology::Complete,
            Version::Sparse => Topology::Sparse(read_sparse(&mut from)?),
        };
        let encoding = EncodingPlan::read(&mut from)?;
        let plan = Self { session, context, roster, encoding, n_min, topology };
        from.end()?;
        plan.check().map_err(|_| CodecError::Value("n_min"))?;
        Ok(plan)
    }

    /// Whether the parts fit together.
    ///
    /// # Errors
    /// [`PlanError::Range`] with the name of the part that does not.
    pub fn check(&self) -> Result<(), PlanError> {
        let n_max = match self.topology {
            Topology::Complete => COMPLETE_MAX,
            Topology::Sparse(_) => PARTICIPANTS_MAX,
        };
        if u64::from(self.encoding.n_max()) > n_max as u64 {
            return Err(PlanError::Range("n_max"));
        }
        let n_min = usize::from(self.n_min);
        let any = crate::planted::weak(crate::planted::Weakness::AnyCohort);
        if n_min < PARTICIPANTS_MIN && !any || u32::from(self.n_min) > self.encoding.n_max() {
            return Err(PlanError::Range("n_min"));
        }
        Ok(())
    }
}

/// The graph's numbers, then what they assume.
fn write_sparse(sparse: &Sparse, out: &mut Writer) {
    let Sparse { degree, threshold, committee, quorum, assumptions } = sparse;
    out.u16(*degree).u16(*threshold).u16(*committee).u16(*quorum);
    out.u8(assumptions.colluding_percent).u8(assumptions.dropout_percent);
    out.u8(assumptions.sigma).u8(assumptions.failure_bits);
}

fn read_sparse(from: &mut Reader<'_>) -> Result<Sparse, CodecError> {
    let (degree, threshold) = (from.u16("degree")?, from.u16("threshold")?);
    let (committee, quorum) = (from.u16("committee")?, from.u16("quorum")?);
    let assumptions = Assumptions {
        colluding_percent: from.u8("colluding_percent")?,
        dropout_percent: from.u8("dropout_percent")?,
        sigma: from.u8("sigma")?,
        failure_bits: from.u8("failure_bits")?,
    };
    Ok(Sparse { degree, threshold, committee, quorum, assumptions })
}

/// How many of `n` participants must hold a share for a secret to be opened, and must sign a set of
/// survivors: ⌊2n/3⌋ + 1.
///
/// Two sets signed by so many of n participants share more than n/3 signers; as long as no more
/// than that collude with the coordinator, one of them is honest and signs once (Bonawitz et al.
/// 2017, section 6). At n = 3 all three are needed: no drop-out is tolerated.
#[must_use]
pub fn threshold(n: usize) -> usize {
    2 * n / 3 + 1
}

/// More bytes than any plan takes: 255 fields of at most 79 bytes, and the rest.
pub const PLAN_BYTES_MAX: usize = 1 << 15;

/// The newest protocol version spoken here; every plan and every signed message states its own.
pub const PROTOCOL_VERSION: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Field;

    fn plan() -> SessionPlan {
        let update =
            Field { name: "update".into(), len: 5, bound: 1.0, frac_bits: 16, weighted: true };
        SessionPlan {
            session: [1; 32],
            context: [2; 32],
            roster: [3; 32],
            encoding: EncodingPlan::new(vec![update], Some(1.0), 16, 100).unwrap(),
            n_min: 5,
            topology: Topology::Complete,
        }
    }

    #[test]
    fn bytes_give_the_plan_back_and_every_flipped_bit_another_digest() {
        let bytes = plan().to_bytes();
        assert_eq!(SessionPlan::from_bytes(&bytes).unwrap(), plan());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = SessionPlan::from_bytes(&flipped) {
                assert_eq!(other.to_bytes(), flipped, "one plan, one encoding");
                assert_ne!(other.digest(), plan().digest());
            }
        }
    }

    #[test]
    fn floors_and_versions_are_checked() {
        let bytes = |p: &SessionPlan| SessionPlan::from_bytes(&p.to_bytes());
        assert!(bytes(&SessionPlan { n_min: 2, ..plan() }).is_err());
        assert!(bytes(&SessionPlan { n_min: 17, ..plan() }).is_err());
        let mut older = plan().to_bytes();
        older[0] = 0;
        assert_eq!(SessionPlan::from_bytes(&older), Err(CodecError::Version(0)));
    }

    #[test]
    fn two_quorums_share_more_than_a_third() {
        assert_eq!([3, 4, 5, 6, 9, 16, 64].map(threshold), [3, 3, 4, 5, 7, 11, 43]);
        for n in 3..=64 {
            assert!(threshold(n) <= n && 3 * (2 * threshold(n) - n) > n);
        }
    }
}
