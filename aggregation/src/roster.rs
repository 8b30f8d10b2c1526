//! The roster: who the members are and which key speaks for each, signed by the consortium.
//!
//! The consortium key is kept off the coordinator, so a coordinator cannot invent sites, bring back a
//! revoked one or swap a key: unsigned rows do not exist, and an older roster is refused by
//! [`SignedRoster::check_follows`]. Deliberately no network, no clock and no approval: the caller says
//! what time it is, and joining is the business of [`invitation`](crate::invitation).
//!
//! Canonical bytes: domain (its length first), version u64, previous (0, or 1 and 32 bytes), count
//! u32, then the members in ascending order of name: name (u8 length), role u8, key, valid from u64,
//! valid until u64, revoked u8; at the end the signature over all before it. Numbers are
//! little-endian. The digest is SHA-256 over all of it, signature included.
//!
//! ```
//! use koinon_aggregation::identity::Identity;
//! use koinon_aggregation::roster::{Member, Role, Roster, SignedRoster};
//! use koinon_aggregation::{Members, Signer};
//!
//! let consortium = Identity::from_secret_bytes(&[1; 32]);
//! let site = Identity::from_secret_bytes(&[2; 32]);
//! let member = Member {
//!     name: "hospital-05".into(),
//!     role: Role::Client,
//!     key: site.public(),
//!     valid_from_ms: 0,
//!     valid_until_ms: 1_000,
//!     revoked: false,
//! };
//! let signed = Roster { version: 1, previous: None, members: vec![member] }.sign(&consortium)?;
//!
//! // What travels is bytes; whoever pins the consortium's key reads them.
//! let read = SignedRoster::verify(signed.bytes(), &consortium.public())?;
//! assert_eq!(read.roster().clients_at(Some(999)).key_of("hospital-05"), Some(site.public()));
//! assert_eq!(read.roster().clients_at(Some(1_000)).key_of("hospital-05"), None); // expired
//! # Ok::<(), koinon_aggregation::roster::RosterError>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::codec::{CodecError, Reader, Writer, is_name};
use crate::identity::{Identity, is_public_key, verify};
use crate::planted::{Weakness, weak};
use crate::signer::{Members, Signer};

/// Most members of a roster.
pub const MEMBERS_MAX: usize = 100_000;
/// Longest signed roster, in bytes.
pub const ROSTER_BYTES_MAX: usize = 16 << 20;

const DOMAIN: &str = "koinon/1/roster";
const SIGNATURE_BYTES: usize = 64;
/// A member's row without its name.
const ROW_BYTES: usize = 1 + 1 + 32 + 8 + 8 + 1;
const HEAD_BYTES: usize = 1 + DOMAIN.len() + 8 + 33 + 4;

const _: () = assert!(HEAD_BYTES + MEMBERS_MAX * (ROW_BYTES + 64) + 64 <= ROSTER_BYTES_MAX);

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A client node at a site.
    Client,
    /// A partition server.
    Partition,
    /// An operator, who submits tasks.
    Operator,
    /// The coordinator.
    Coordinator,
}

impl Role {
    /// Every role, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::Client, Self::Partition, Self::Operator, Self::Coordinator];

    /// The role's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Partition => "partition",
            Self::Operator => "operator",
            Self::Coordinator => "coordinator",
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Client => 1,
            Self::Partition => 2,
            Self::Operator => 3,
            Self::Coordinator => 4,
        }
    }

    pub(crate) fn from_code(code: u8) -> Result<Self, CodecError> {
        Self::ALL.into_iter().find(|role| role.code() == code).ok_or(CodecError::Value("role"))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = RosterError;

    fn from_str(word: &str) -> Result<Self, RosterError> {
        Self::ALL.into_iter().find(|role| role.as_str() == word).ok_or(RosterError::Role)
    }
}

/// One row of the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// 1 to 64 characters of `a-z`, `0-9`, `-`, no `-` at either end; unique.
    pub name: String,
    /// What the member may do.
    pub role: Role,
    /// The Ed25519 identity key; unique too, so that nobody counts twice.
    pub key: [u8; 32],
    /// First moment of validity, Unix milliseconds.
    pub valid_from_ms: u64,
    /// First moment after validity, Unix milliseconds.
    pub valid_until_ms: u64,
    /// Whether the consortium took the membership back; the row stays, to say so.
    pub revoked: bool,
}

impl Member {
    /// Whether the member counts at `now_ms`; with `None` time is not asked, revocation is.
    #[must_use]
    pub fn counts_at(&self, now_ms: Option<u64>) -> bool {
        let valid = |now| self.valid_from_ms <= now && now < self.valid_until_ms;
        weak(Weakness::AnyMember) || !self.revoked && now_ms.is_none_or(valid)
    }
}

/// What the consortium says about its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// 1 for the first; each later one is higher.
    pub version: u64,
    /// The digest of the signed roster before this one.
    pub previous: Option<[u8; 32]>,
    /// In ascending order of name; [`Roster::sign`] sorts them.
    pub members: Vec<Member>,
}

impl Roster {
    /// Signs the roster with the consortium's key, members sorted by name.
    ///
    /// # Errors
    /// [`RosterError`] when a row or the whole is not what a roster may hold.
    pub fn sign(mut self, consortium: &Identity) -> Result<SignedRoster, RosterError> {
        self.members.sort_by(|a, b| a.name.cmp(&b.name));
        self.check()?;
        let mut bytes = self.write();
        let signature = consortium.sign(&bytes);
        bytes.extend_from_slice(&signature);
        Ok(SignedRoster { bytes, roster: self })
    }

    /// The member of that name, whether it counts or not.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        // Not a binary search: an unsigned roster need not be in order yet.
        self.members.iter().find(|member| member.name == name)
    }

    /// The members of `role` that count at `now_ms`; with `None` time is not asked.
    #[must_use]
    pub fn keys_at(&self, role: Role, now_ms: Option<u64>) -> Keys<'_> {
        Keys { roster: self, role, now_ms }
    }

    /// The sites that count at `now_ms`; with `None` time is not asked.
    #[must_use]
    pub fn clients_at(&self, now_ms: Option<u64>) -> Keys<'_> {
        self.keys_at(Role::Client, now_ms)
    }

    /// The coordinator that counts at `now_ms`, if there is one; there are never two.
    #[must_use]
    pub fn coordinator_at(&self, now_ms: Option<u64>) -> Option<&Member> {
        self.keys_at(Role::Coordinator, now_ms).members().next()
    }

    /// What this roster says differently from `before`, by name: to be shown, with fingerprints, to a
    /// site before it trusts the new one.
    #[must_use]
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let by_name = |roster: &Self| -> BTreeMap<String, Member> {
            roster.members.iter().map(|member| (member.name.clone(), member.clone())).collect()
        };
        let (mut old, new) = (by_name(before), by_name(self));
        let mut changes = Vec::new();
        for (name, now) in new {
            match old.remove(&name) {
                None => changes.push(Change::Joined(now)),
                Some(was) if was != now => changes.push(Change::Changed { was, now }),
                Some(_) => {}
            }
        }
        changes.extend(old.into_values().map(Change::Left));
        changes
    }

    fn check(&self) -> Result<(), RosterError> {
        if self.version == 0 || (self.version == 1) != self.previous.is_none() {
            return Err(RosterError::Version);
        }
        if self.members.len() > MEMBERS_MAX {
            return Err(RosterError::TooMany { members: self.members.len() });
        }
        let mut keys = BTreeSet::new();
        let mut coordinators = 0_usize;
        for member in &self.members {
            let name = || member.name.clone();
            if !is_member_name(&member.name) {
                return Err(RosterError::Name);
            }
            if !is_public_key(&member.key) {
                return Err(RosterError::Key { name: name() });
            }
            if !keys.insert(member.key) {
                return Err(RosterError::SharedKey { name: name() });
            }
            if member.valid_from_ms >= member.valid_until_ms {
                return Err(RosterError::Validity { name: name() });
            }
            coordinators += usize::from(member.role == Role::Coordinator && !member.revoked);
        }
        if coordinators > 1 {
            return Err(RosterError::Coordinators);
        }
        let pairs = self.members.iter().zip(self.members.iter().skip(1));
        for (one, next) in pairs {
            if one.name >= next.name {
                return Err(RosterError::Order { name: next.name.clone() });
            }
        }
        Ok(())
    }

    fn write(&self) -> Vec<u8> {
        let names: usize = self.members.iter().map(|member| member.name.len()).sum();
        let rows = self.members.len() * ROW_BYTES + names;
        let mut writer = Writer::with_capacity(HEAD_BYTES + rows + SIGNATURE_BYTES);
        writer.name(DOMAIN).u64(self.version);
        match &self.previous {
            None => writer.u8(0),
            Some(digest) => writer.u8(1).bytes(digest),
        };
        writer.u32(u32::try_from(self.members.len()).expect("check() allows at most 100,000"));
        for member in &self.members {
            writer.name(&member.name).u8(member.role.code()).bytes(&member.key);
            writer.u64(member.valid_from_ms).u64(member.valid_until_ms);
            writer.u8(u8::from(member.revoked));
        }
        writer.into_public()
    }

    fn read(body: &[u8]) -> Result<Self, RosterError> {
        let mut reader = Reader::new(body);
        read_domain(&mut reader, DOMAIN)?;
        let version = reader.u64("version")?;
        let previous = match reader.u8("previous")? {
            0 => None,
            1 => Some(reader.array("previous")?),
            _ => return Err(CodecError::Value("previous").into()),
        };
        let count = reader.u32("count")?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(Member {
                name: reader.name("name")?,
                role: Role::from_code(reader.u8("role")?)?,
                key: reader.array("key")?,
                valid_from_ms: reader.u64("valid from")?,
                valid_until_ms: reader.u64("valid until")?,
                revoked: match reader.u8("revoked")? {
                    0 => false,
                    1 => true,
                    _ => return Err(CodecError::Value("revoked").into()),
                },
            });
        }
        reader.end()?;
        let roster = Self { version, previous, members };
        roster.check()?;
        Ok(roster)
    }
}

/// The keys of the members of one role that count at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    roster: &'a Roster,
    role: Role,
    now_ms: Option<u64>,
}

impl<'a> Keys<'a> {
    /// The members themselves, in order of name.
    pub fn members(self) -> impl Iterator<Item = &'a Member> {
        self.roster.members.iter().filter(move |member| self.counts(member))
    }

    fn counts(self, member: &Member) -> bool {
        member.role == self.role && member.counts_at(self.now_ms)
    }
}

impl Members for Keys<'_> {
    fn key_of(&self, site: &str) -> Option<[u8; 32]> {
        self.roster.member(site).filter(|member| self.counts(member)).map(|member| member.key)
    }
}

/// One difference between two rosters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new member.
    Joined(Member),
    /// Another key, role or validity, or a revocation.
    Changed {
        /// The row before.
        was: Member,
        /// The row now.
        now: Member,
    },
    /// A member that is not named any more.
    Left(Member),
}

/// A roster whose signature by the consortium was made or verified here, with its verbatim bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRoster {
    bytes: Vec<u8>,
    roster: Roster,
}

impl SignedRoster {
    /// Reads a signed roster; nothing in it is looked at before the signature holds.
    ///
    /// # Errors
    /// [`RosterError::Signature`] when it is not the consortium's, the others when the consortium
    /// signed something that is no roster.
    pub fn verify(bytes: &[u8], consortium_key: &[u8; 32]) -> Result<Self, RosterError> {
        if bytes.len() > ROSTER_BYTES_MAX {
            return Err(RosterError::TooLong { bytes: bytes.len() });
        }
        let (body, signature) =
            bytes.split_last_chunk().ok_or(CodecError::Truncated("signature"))?;
        if !verify(consortium_key, body, signature) && !weak(Weakness::UnsignedRoster) {
            return Err(RosterError::Signature);
        }
        Ok(Self { bytes: bytes.to_vec(), roster: Roster::read(body)? })
    }

    /// The verbatim bytes, signature included.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was signed.
    #[must_use]
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// SHA-256 of the verbatim bytes: the name of this roster everywhere.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }

    /// Whether this roster may take the place of `held`: the very same one, or one with a higher
    /// version; if it is the very next, it must name `held` as its predecessor.
    ///
    /// # Errors
    /// [`RosterError::Older`] or [`RosterError::Fork`]; the caller keeps what it has.
    pub fn check_follows(&self, held: &Self) -> Result<(), RosterError> {
        let (offered_version, held_version) = (self.roster.version, held.roster.version);
        if self.bytes == held.bytes {
            return Ok(());
        }
        if offered_version < held_version && !weak(Weakness::OlderRoster) {
            return Err(RosterError::Older { offered: offered_version, held: held_version });
        }
        let next = held_version.checked_add(1) == Some(offered_version);
        if offered_version == held_version || (next && self.roster.previous != Some(held.digest()))
        {
            return Err(RosterError::Fork { version: offered_version });
        }
        Ok(())
    }
}

/// Whether `name` may name a member: like a site's name in a session, and no `-` at either end.
#[must_use]
pub fn is_member_name(name: &str) -> bool {
    is_name(name) && !name.starts_with('-') && !name.ends_with('-')
}

/// Reads the domain that a signed statement begins with.
pub(crate) fn read_domain(reader: &mut Reader<'_>, domain: &str) -> Result<(), CodecError> {
    let len = usize::from(reader.u8("domain")?);
    let found = reader.take(len, "domain")?;
    if found == domain.as_bytes() { Ok(()) } else { Err(CodecError::Value("domain")) }
}

/// Why something is no roster, or not one that may be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RosterError {
    /// Not signed by the pinned consortium key.
    #[error("the roster is not signed by the consortium key that this member pinned on joining")]
    Signature,
    /// Not the canonical bytes of a roster.
    #[error("the roster cannot be read: {0}")]
    Codec(#[from] CodecError),
    /// Too long.
    #[error("the roster has {bytes} bytes; at most {ROSTER_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Too many members.
    #[error("the roster has {members} members; at most {MEMBERS_MAX} are allowed")]
    TooMany {
        /// How many.
        members: usize,
    },
    /// A version without the right predecessor.
    #[error("roster versions start at 1; all but the first name the digest of the one before")]
    Version,
    /// A name that is none.
    #[error("a member's name has 1 to 64 characters of a-z, 0-9 and -, no - at either end")]
    Name,
    /// A role that is none.
    #[error("a role is client, partition, operator or coordinator")]
    Role,
    /// A key that cannot sign.
    #[error("the key of {name} is no usable Ed25519 public key")]
    Key {
        /// Whose key.
        name: String,
    },
    /// A key that another member has too.
    #[error("the key of {name} is another member's too; each member makes a key of its own")]
    SharedKey {
        /// The second member with that key.
        name: String,
    },
    /// An empty span of validity.
    #[error("the membership of {name} ends before it begins")]
    Validity {
        /// Whose membership.
        name: String,
    },
    /// Names twice or not in order.
    #[error("the roster names {name} twice or out of order")]
    Order {
        /// The name.
        name: String,
    },
    /// More than one coordinator that counts.
    #[error("a roster has at most one coordinator; revoke the old one first")]
    Coordinators,
    /// An older roster was offered.
    #[error("roster version {offered} was offered, but version {held} is known here already")]
    Older {
        /// Version offered.
        offered: u64,
        /// Version held.
        held: u64,
    },
    /// Another history was offered.
    #[error(
        "roster version {version} does not follow the one held here: two rosters were signed for \
         one place; ask the consortium which one counts"
    )]
    Fork {
        /// Version offered.
        version: u64,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(seed: u8) -> Identity {
        Identity::from_secret_bytes(&[seed; 32])
    }

    fn member(name: &str, role: Role, seed: u8) -> Member {
        let key = identity(seed).public();
        Member {
            name: name.into(),
            role,
            key,
            valid_from_ms: 5,
            valid_until_ms: 900,
            revoked: false,
        }
    }

    fn first() -> Roster {
        let coordinator = Member {
            valid_from_ms: 0,
            valid_until_ms: 1000,
            ..member("coordinator", Role::Coordinator, 3)
        };
        let members = vec![member("hospital-05", Role::Client, 2), coordinator];
        Roster { version: 1, previous: None, members }
    }

    fn second(first: &SignedRoster) -> Roster {
        let mut roster = first.roster().clone();
        roster.version = 2;
        roster.previous = Some(first.digest());
        roster
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Computed by a separate program from the module's description of the bytes.
    #[test]
    fn the_bytes_are_the_known_ones() {
        let one = first().sign(&identity(1)).unwrap();
        assert_eq!(one.bytes().len(), 217);
        let digest = "1ae24a1c496f2858e7102a7f809715e564052e7a913b252b5143c1f9a130b5c8";
        assert_eq!(hex(&one.digest()), digest);

        let mut roster = second(&one);
        roster.members[1].revoked = true;
        let two = roster.sign(&identity(1)).unwrap();
        let digest = "98039369a121864e666574bf4d5e2b486407862e5d1d1a70fac8a0e41325b542";
        assert_eq!(hex(&two.digest()), digest);
        assert_eq!(SignedRoster::verify(two.bytes(), &identity(1).public()), Ok(two));
    }

    #[test]
    fn another_key_signs_for_nobody() {
        let forged = first().sign(&identity(9)).unwrap();
        let read = SignedRoster::verify(forged.bytes(), &identity(1).public());
        assert_eq!(read, Err(RosterError::Signature));
    }

    #[test]
    fn rows_that_were_not_signed_do_not_exist() {
        let signed = first().sign(&identity(1)).unwrap();
        let (body, signature) = signed.bytes().split_last_chunk::<64>().unwrap();
        // The coordinator adds fifteen sites of its own and keeps the signature.
        let mut padded = first();
        for n in 10..25 {
            padded.members.push(member(&format!("phantom-{n}"), Role::Client, n));
        }
        padded.members.sort_by(|a, b| a.name.cmp(&b.name));
        let forged = [padded.write().as_slice(), signature].concat();
        let verify = |bytes: &[u8]| SignedRoster::verify(bytes, &identity(1).public());
        assert_eq!(verify(&forged), Err(RosterError::Signature));
        // Rows after the end, or none of the signature.
        assert_eq!(verify(&[body, b"row", signature].concat()), Err(RosterError::Signature));
        assert_eq!(verify(body), Err(RosterError::Signature));
        assert_eq!(verify(&[]), Err(CodecError::Truncated("signature").into()));
    }

    #[test]
    fn only_valid_unrevoked_clients_have_a_key() {
        let mut roster = first();
        roster.members.push(Member { revoked: true, ..member("revoked", Role::Client, 4) });
        roster.members.push(member("server", Role::Partition, 5));
        let signed = roster.sign(&identity(1)).unwrap();
        let at = |name: &str, now| signed.roster().clients_at(now).key_of(name).is_some();
        for (now, counts) in [(4, false), (5, true), (899, true), (900, false)] {
            assert_eq!(at("hospital-05", Some(now)), counts, "at {now}");
        }
        assert!(at("hospital-05", None));
        for absent in ["revoked", "server", "coordinator", "nobody", ""] {
            assert!(!at(absent, Some(10)) && !at(absent, None), "{absent}");
        }
        let names = |role| signed.roster().keys_at(role, Some(10)).members().count();
        assert_eq!(Role::ALL.map(names), [1, 1, 0, 1]);
        assert_eq!(signed.roster().coordinator_at(Some(10)).unwrap().name, "coordinator");
        assert_eq!(signed.roster().coordinator_at(Some(1000)), None);
    }

    #[test]
    fn an_older_or_another_roster_is_refused() {
        let one = first().sign(&identity(1)).unwrap();
        let two = second(&one).sign(&identity(1)).unwrap();
        let mut other = second(&one);
        other.members.remove(1);
        let fork = other.sign(&identity(1)).unwrap();
        assert_eq!(two.check_follows(&one), Ok(()));
        assert_eq!(one.check_follows(&one), Ok(()), "the same again is no news");
        assert_eq!(one.check_follows(&two), Err(RosterError::Older { offered: 1, held: 2 }));
        assert_eq!(fork.check_follows(&two), Err(RosterError::Fork { version: 2 }));

        let mut third = second(&two);
        third.version = 3;
        let three = third.sign(&identity(1)).unwrap();
        assert_eq!(three.check_follows(&two), Ok(()));
        assert_eq!(three.check_follows(&fork), Err(RosterError::Fork { version: 3 }));
        assert_eq!(three.check_follows(&one), Ok(()), "a site may have missed one");
    }

    #[test]
    fn what_no_roster_says_is_not_signed() {
        let sign = |change: &dyn Fn(&mut Roster)| {
            let mut roster = first();
            change(&mut roster);
            roster.sign(&identity(1)).unwrap_err()
        };
        let name = || "hospital-05".to_owned();
        assert_eq!(sign(&|r| r.version = 0), RosterError::Version);
        assert_eq!(sign(&|r| r.version = 2), RosterError::Version);
        assert_eq!(sign(&|r| r.previous = Some([0; 32])), RosterError::Version);
        assert_eq!(sign(&|r| r.members[0].name = "-x".into()), RosterError::Name);
        assert_eq!(sign(&|r| r.members[0].name = "Hospital".into()), RosterError::Name);
        assert_eq!(sign(&|r| r.members[0].key = [0; 32]), RosterError::Key { name: name() });
        assert_eq!(
            sign(&|r| r.members[0].valid_from_ms = 900),
            RosterError::Validity { name: name() }
        );
        let twice = |r: &mut Roster| r.members.push(member("hospital-05", Role::Client, 7));
        assert_eq!(sign(&twice), RosterError::Order { name: name() });
        // One site under two names would count as two.
        let sybil = |r: &mut Roster| r.members.push(member("hospital-06", Role::Client, 2));
        assert_eq!(sign(&sybil), RosterError::SharedKey { name: "hospital-06".into() });
        let two = |r: &mut Roster| r.members.push(member("other", Role::Coordinator, 8));
        assert_eq!(sign(&two), RosterError::Coordinators);
    }

    #[test]
    fn bytes_have_one_form() {
        let consortium = identity(1);
        let read = |body: Vec<u8>| {
            let signature = consortium.sign(&body);
            let bytes = [body.as_slice(), &signature].concat();
            SignedRoster::verify(&bytes, &consortium.public()).unwrap_err()
        };
        let mut roster = first();
        roster.members.sort_by(|a, b| a.name.cmp(&b.name));
        let good = roster.write();
        let trailing = [good.as_slice(), &[0]].concat();
        assert_eq!(read(trailing), CodecError::Trailing(1).into());
        assert!(matches!(read(good[..60].to_vec()), RosterError::Codec(CodecError::Truncated(_))));
        let mut revoked = good.clone();
        *revoked.last_mut().unwrap() = 2;
        assert_eq!(read(revoked), CodecError::Value("revoked").into());
        let mut domain = good.clone();
        domain[1] = b'K';
        assert_eq!(read(domain), CodecError::Value("domain").into());
        roster.members.reverse();
        assert_eq!(read(roster.write()), RosterError::Order { name: "coordinator".into() });
    }

    #[test]
    fn changes_name_who_joined_changed_and_left() {
        let before = first();
        let mut now = first();
        now.members.remove(1);
        now.members[0].key = identity(6).public();
        now.members.insert(1, member("hospital-06", Role::Client, 7));
        let (was, is) = (before.members[0].clone(), now.members[0].clone());
        assert_eq!(
            now.changes_since(&before),
            [
                Change::Changed { was, now: is },
                Change::Joined(now.members[1].clone()),
                Change::Left(before.members[1].clone()),
            ]
        );
        assert_eq!(before.changes_since(&before), []);
    }

    proptest! {
        #[test]
        fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let consortium = identity(1);
            prop_assert!(SignedRoster::verify(&bytes, &consortium.public()).is_err());
            // Even a consortium that signs garbage makes no roster of it.
            let signed = [bytes.as_slice(), &consortium.sign(&bytes)].concat();
            prop_assert!(SignedRoster::verify(&signed, &consortium.public()).is_err());
        }

        #[test]
        fn a_changed_bit_is_noticed(at in 0_usize..217 * 8) {
            let mut bytes = first().sign(&identity(1)).unwrap().bytes().to_vec();
            bytes[at / 8] ^= 1 << (at % 8);
            let read = SignedRoster::verify(&bytes, &identity(1).public());
            prop_assert_eq!(read, Err(RosterError::Signature));
        }

        #[test]
        fn what_is_signed_is_read(
            rows in prop::collection::btree_map("[a-z0-9]{1,64}", (0_usize..3, any::<bool>()), 0..8),
            version in 1_u64..,
            until in 1_u64..,
        ) {
            let rows = rows.into_iter().zip(10_u8..);
            let members = rows.map(|((name, (role, revoked)), seed)| Member {
                valid_from_ms: until - 1,
                valid_until_ms: until,
                revoked,
                ..member(&name, Role::ALL[role], seed)
            });
            let previous = (version > 1).then_some([7; 32]);
            let roster = Roster { version, previous, members: members.collect() };
            let signed = roster.clone().sign(&identity(1)).unwrap();
            let read = SignedRoster::verify(signed.bytes(), &identity(1).public()).unwrap();
            prop_assert_eq!(read.roster(), &roster);
        }
    }
}
