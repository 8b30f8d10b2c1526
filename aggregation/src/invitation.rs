//! Joining: one token from the consortium, and the coordinator in between can swap nothing.
//!
//! The consortium makes an [`Invitation`] and hands its token to the member by a safe way. The token
//! pins the coordinator's CA and the consortium's key and holds a secret. The member makes its identity
//! key and sends an [`Enrolment`]: the signed [`Admission`], which is all the coordinator needs to
//! check; the key; a *binding* of the key under the secret, which the coordinator cannot make; and a
//! signature that proves possession. The consortium, off the coordinator, checks the binding with
//! [`Invitation::admit`] and gets the row for the next [`roster`](crate::roster).
//!
//! Deliberately not here: the network, the files the consortium keeps its invitations in, TLS (the
//! certificate request passes as opaque bytes), and memory of which admissions were used; whoever
//! accepts enrolments keeps one per [`Admission::id`].
//!
//! ```
//! use koinon_aggregation::identity::Identity;
//! use koinon_aggregation::invitation::{Invitation, Terms};
//! use koinon_aggregation::roster::Role;
//! use koinon_aggregation::Signer;
//! # use rand::SeedableRng;
//! # let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//!
//! // The consortium invites, keeps the invitation and hands out the token.
//! let consortium = Identity::generate(&mut rng);
//! let terms = Terms {
//!     name: "hospital-05".into(),
//!     role: Role::Client,
//!     coordinator: "coordinator.example.org:7400".into(),
//!     ca_certificate: b"the CA's certificate in DER".to_vec(),
//!     expires_ms: 10_000,
//! };
//! let invitation = Invitation::new(terms, &consortium, &mut rng)?;
//! let token = invitation.to_token();
//!
//! // The member reads it, makes its key and enrols.
//! let invited = Invitation::parse_token(&token)?;
//! invited.check_expiry(9_999)?;
//! let site = Identity::generate(&mut rng);
//! let enrolment = invited.enrol(&site, b"certificate request".to_vec());
//!
//! // The coordinator checks what it can, without the secret.
//! let admission = enrolment.verify(&consortium.public(), 9_999)?;
//! assert_eq!(admission.name, "hospital-05");
//!
//! // The consortium checks the rest and has the row that it will sign.
//! let member = invitation.admit(&enrolment, 0, 1_000_000)?;
//! assert_eq!(member.key, site.public());
//! # Ok::<(), koinon_aggregation::invitation::InvitationError>(())
//! ```

mod admission;
mod token;

use hmac::{Hmac, KeyInit, Mac};
use rand::CryptoRng;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use self::admission::{Admission, Enrolment};
pub use self::token::TOKEN_CHARACTERS_MAX;

use crate::codec::CodecError;
use crate::hash::derive;
use crate::identity::Identity;
use crate::roster::{Member, Role, is_member_name};
use crate::secret::Secret;
use crate::signer::Signer;

/// Longest address of a coordinator, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Longest CA certificate (DER), in bytes.
pub const CA_CERTIFICATE_BYTES_MAX: usize = 2048;
/// Longest certificate signing request (DER), in bytes.
pub const CERTIFICATE_REQUEST_BYTES_MAX: usize = 8 << 10;

const ID_LABEL: &str = "koinon/1/invitation/id";
const BIND_LABEL: &str = "koinon/1/invitation/bind";

/// What an invitation says, apart from its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The name the member will have.
    pub name: String,
    /// The role the member will have.
    pub role: Role,
    /// Where the coordinator is found, `host:port`; 1 to 255 printable characters.
    pub coordinator: String,
    /// The coordinator's CA certificate, DER, 1 to 2048 bytes: the only one trusted for its TLS.
    pub ca_certificate: Vec<u8>,
    /// First moment at which the invitation is worth nothing, Unix milliseconds.
    pub expires_ms: u64,
}

/// A place in the roster, offered to whoever holds the token. It holds a secret: no `Debug`, no
/// `Clone`; [`Invitation::to_token`] writes it out on purpose.
///
/// ```compile_fail
/// fn needs_debug<T: std::fmt::Debug>() {}
/// needs_debug::<koinon_aggregation::invitation::Invitation>();
/// ```
pub struct Invitation {
    terms: Terms,
    consortium_key: [u8; 32],
    secret: Secret<32>,
    /// The consortium's signature over the admission.
    signature: [u8; 64],
}

impl Invitation {
    /// Makes an invitation with a fresh secret.
    ///
    /// # Errors
    /// [`InvitationError::Terms`] when name, address or certificate cannot be.
    pub fn new(
        terms: Terms,
        consortium: &Identity,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, InvitationError> {
        Self::with_secret(terms, consortium, Secret::random(rng))
    }

    fn with_secret(
        terms: Terms,
        consortium: &Identity,
        secret: Secret<32>,
    ) -> Result<Self, InvitationError> {
        terms.check()?;
        let consortium_key = consortium.public();
        let mut invitation = Self { terms, consortium_key, secret, signature: [0; 64] };
        invitation.signature = consortium.sign(&invitation.admission().body());
        Ok(invitation)
    }

    /// Reads a token, however it was broken into lines.
    ///
    /// A good token may still be past its time: [`Invitation::check_expiry`].
    ///
    /// # Errors
    /// [`InvitationError`], which tells a wrong text, a cut-off, a mistyped and a forged token apart.
    pub fn parse_token(text: &str) -> Result<Self, InvitationError> {
        token::parse(text)
    }

    /// The token: `koinon1-` and base32. It is a secret until it was used.
    #[must_use]
    pub fn to_token(&self) -> Zeroizing<String> {
        token::write(self)
    }

    /// What the invitation says.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The consortium's public key, which the member pins from now on.
    #[must_use]
    pub const fn consortium_key(&self) -> &[u8; 32] {
        &self.consortium_key
    }

    /// The name of this invitation: derived from the secret, says nothing about it.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        *derive(ID_LABEL, self.secret.expose(), &[])
    }

    /// Whether the invitation may still be used.
    ///
    /// # Errors
    /// [`InvitationError::Expired`].
    pub const fn check_expiry(&self, now_ms: u64) -> Result<(), InvitationError> {
        check_expiry(self.terms.expires_ms, now_ms)
    }

    /// The signed part, verbatim as it travels to the coordinator.
    #[must_use]
    pub fn admission_bytes(&self) -> Vec<u8> {
        let mut bytes = self.admission().body();
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// HMAC-SHA256 under a key derived from the secret, over name, role and identity key: only who
    /// holds the token can make it.
    #[must_use]
    pub fn binding(&self, identity_key: &[u8; 32]) -> [u8; 32] {
        let key = derive::<32>(BIND_LABEL, self.secret.expose(), &[]);
        let mut mac =
            Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length");
        let name = self.terms.name.as_bytes();
        mac.update(&[u8::try_from(name.len()).expect("names have at most 64 bytes")]);
        mac.update(name);
        mac.update(&[self.terms.role.code()]);
        mac.update(identity_key);
        mac.finalize().into_bytes().into()
    }

    /// Whether `binding` binds this identity key to this invitation; in constant time.
    ///
    /// # Errors
    /// [`InvitationError::Binding`]: the key was swapped on the way, or the token was another.
    pub fn check_binding(
        &self,
        identity_key: &[u8; 32],
        binding: &[u8; 32],
    ) -> Result<(), InvitationError> {
        let right: bool = self.binding(identity_key).ct_eq(binding).into();
        if right { Ok(()) } else { Err(InvitationError::Binding) }
    }

    /// The member's side: everything the coordinator and the consortium need.
    #[must_use]
    pub fn enrol(&self, identity: &dyn Signer, certificate_request: Vec<u8>) -> Enrolment {
        let identity_key = identity.public();
        let mut enrolment = Enrolment {
            admission: self.admission_bytes(),
            identity_key,
            binding: self.binding(&identity_key),
            certificate_request,
            signature: [0; 64],
        };
        enrolment.signature = identity.sign(&enrolment.signing_bytes());
        enrolment
    }

    /// The consortium's side: the row for the roster, after everything in the enrolment was checked
    /// against the invitation as it was given out. Time is not asked here, because the coordinator
    /// may hand on an enrolment long after it was made: the caller decides with
    /// [`Invitation::check_expiry`].
    ///
    /// # Errors
    /// [`InvitationError`] that says what does not fit; nothing of the enrolment should be trusted.
    pub fn admit(
        &self,
        enrolment: &Enrolment,
        valid_from_ms: u64,
        valid_until_ms: u64,
    ) -> Result<Member, InvitationError> {
        let admission = Admission::verify_signature(&enrolment.admission, &self.consortium_key)?;
        if admission != self.admission() {
            return Err(InvitationError::OtherInvitation);
        }
        enrolment.check_possession()?;
        self.check_binding(&enrolment.identity_key, &enrolment.binding)?;
        Ok(Member {
            name: admission.name,
            role: admission.role,
            key: enrolment.identity_key,
            valid_from_ms,
            valid_until_ms,
            revoked: false,
        })
    }

    fn admission(&self) -> Admission {
        Admission {
            id: self.id(),
            name: self.terms.name.clone(),
            role: self.terms.role,
            expires_ms: self.terms.expires_ms,
            consortium_key: self.consortium_key,
        }
    }
}

impl Terms {
    fn check(&self) -> Result<(), InvitationError> {
        let printable = self.coordinator.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_member_name(&self.name) {
            return Err(InvitationError::Terms("name: 1 to 64 of a-z, 0-9 and -, no - at an end"));
        }
        if !printable || !(1..=ADDRESS_BYTES_MAX).contains(&self.coordinator.len()) {
            return Err(InvitationError::Terms("coordinator: host:port, 1 to 255 characters"));
        }
        if !(1..=CA_CERTIFICATE_BYTES_MAX).contains(&self.ca_certificate.len()) {
            return Err(InvitationError::Terms("CA certificate: DER of 1 to 2048 bytes"));
        }
        Ok(())
    }
}

const fn check_expiry(expires_ms: u64, now_ms: u64) -> Result<(), InvitationError> {
    if now_ms < expires_ms { Ok(()) } else { Err(InvitationError::Expired { expires_ms }) }
}

/// Why an invitation, an admission or an enrolment is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// Terms that cannot be offered.
    #[error("an invitation cannot say this; {0}")]
    Terms(&'static str),
    /// Some other text.
    #[error("this is no token: a token begins with 'koinon1-'; paste it whole")]
    NotAToken,
    /// A token of another version.
    #[error("this token is of another version of Koinon; upgrade, or ask for a new token")]
    TokenVersion,
    /// A token that ends too early.
    #[error("the token is cut off: {found} of {wanted} characters; paste it whole")]
    TokenCutOff {
        /// Characters after the prefix.
        found: usize,
        /// How many there should be.
        wanted: usize,
    },
    /// A token with something after its end.
    #[error("the token has {found} characters instead of {wanted}; paste it alone")]
    TokenTooLong {
        /// Characters after the prefix.
        found: usize,
        /// How many there should be.
        wanted: usize,
    },
    /// A character that no token has.
    #[error("the token has a character that no token has, at place {place}; paste it again")]
    TokenCharacter {
        /// Place after the prefix, from 1.
        place: usize,
    },
    /// A checksum that does not fit.
    #[error("the token was changed by at least one character; paste it again")]
    TokenChecksum,
    /// Bytes that are not the canonical form.
    #[error("the invitation cannot be read: {0}")]
    Codec(#[from] CodecError),
    /// Past its time.
    #[error("the invitation expired at {expires_ms} ms (Unix time); ask for a new one")]
    Expired {
        /// When, Unix milliseconds.
        expires_ms: u64,
    },
    /// Not signed by the consortium.
    #[error("the admission is not signed by this consortium")]
    Signature,
    /// An enrolment for some other invitation.
    #[error("the enrolment belongs to another invitation")]
    OtherInvitation,
    /// No proof that the sender has the identity key.
    #[error("the enrolment is not signed by the identity key that it brings")]
    Possession,
    /// The identity key is not the one that the token's holder bound.
    #[error(
        "the identity key is not bound to the token: it was swapped on the way, or made with \
         another token; do not sign it into the roster"
    )]
    Binding,
    /// A part of the wrong length.
    #[error("{0} has the wrong length")]
    Length(&'static str),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::*;

    const TOKEN: &str = concat!(
        "koinon1-xiaascijbeeqscijbeeqscijbeeqscijbeeqscijbeeqscijbeeqscmkrdr525aj6gk72uw3fu6l",
        "uxlszjtqtpy5sqjbx43uraa3id3plqaqw2dponygs5dbnqwtanioaaaaamjsg4xdalrqfyytunzugayawaaa",
        "abrwk4tunftgsy3borsrajyaaaaaaaaaa7fha36n3oekkk72fsaw2i2fhbgit4xi72wkxtegf5akpxjm67m4",
        "354ip2mboodn4gbjcityjxkrrwt27t3z76g5poy66hwxuzlzec2ng5e6o"
    );

    fn identity(seed: u8) -> Identity {
        Identity::from_secret_bytes(&[seed; 32])
    }

    fn terms() -> Terms {
        Terms {
            name: "hospital-05".into(),
            role: Role::Client,
            coordinator: "127.0.0.1:7400".into(),
            ca_certificate: b"certificate".to_vec(),
            expires_ms: 10_000,
        }
    }

    fn invitation(secret: u8) -> Invitation {
        Invitation::with_secret(terms(), &identity(1), Secret::new([secret; 32])).unwrap()
    }

    /// `Invitation` has no `Debug`, on purpose: this unwraps an error without one.
    fn refusal(text: &str) -> InvitationError {
        Invitation::parse_token(text).err().expect("the token is bad")
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Computed by a separate program from the modules' descriptions of the bytes.
    #[test]
    fn the_bytes_are_the_known_ones() {
        let invitation = invitation(9);
        assert_eq!(&*invitation.to_token(), TOKEN);
        let id = "a1a344edf21cfee61f14f8e483b8856a846e30acaf666541c10626337b1471e4";
        assert_eq!(hex(&invitation.id()), id);
        let enrolment = invitation.enrol(&identity(2), b"request".to_vec());
        let admission = sha2::Sha256::digest(&enrolment.admission);
        let digest = "c9dad57961fa48b83b180eed7e71e9b2a44a34a61892892c225e505b76664a45";
        assert_eq!(hex(&admission), digest);
        let binding = "34819aea28eed68b573e86978ba6041a09196ef65b00559d8e8530962a1b1684";
        assert_eq!(hex(&enrolment.binding), binding);
        assert_eq!(hex(&enrolment.signature[..8]), "301304ce2a93d518");
    }

    #[test]
    fn a_token_survives_mail_and_capitals() {
        let wrapped: String =
            TOKEN.to_uppercase().chars().enumerate().fold(String::new(), |mut text, (at, c)| {
                if at % 76 == 0 {
                    text.push_str("\r\n ");
                }
                text.push(c);
                text
            });
        let read = Invitation::parse_token(&wrapped).unwrap();
        assert_eq!(*read.terms(), terms());
        assert_eq!(read.consortium_key(), &identity(1).public());
        assert_eq!(read.id(), invitation(9).id());
    }

    #[test]
    fn bad_tokens_are_told_apart() {
        assert_eq!(refusal("hello"), InvitationError::NotAToken);
        assert_eq!(refusal(""), InvitationError::NotAToken);
        assert_eq!(refusal(&"a".repeat(TOKEN_CHARACTERS_MAX + 1)), InvitationError::NotAToken);
        assert_eq!(refusal("koinon2-aaaa"), InvitationError::TokenVersion);
        let wanted = TOKEN.len() - 8;
        for kept in [10, 100, TOKEN.len() - 1] {
            let cut = InvitationError::TokenCutOff { found: kept - 8, wanted };
            let found = refusal(&TOKEN[..kept]);
            assert!(found == cut || kept == 10, "{found}");
            assert!(matches!(found, InvitationError::TokenCutOff { .. }));
        }
        let long = InvitationError::TokenTooLong { found: wanted + 5, wanted };
        assert_eq!(refusal(&format!("{TOKEN}hello")), long);
        let odd = format!("{}1{}", &TOKEN[..50], &TOKEN[51..]);
        assert_eq!(refusal(&odd), InvitationError::TokenCharacter { place: 43 });
        assert!(refusal(&TOKEN[..100]).to_string().contains("cut off"));
    }

    #[test]
    fn every_changed_character_is_noticed() {
        for at in 8..TOKEN.len() {
            let other = if TOKEN.as_bytes()[at] == b'a' { "b" } else { "a" };
            let changed = format!("{}{other}{}", &TOKEN[..at], &TOKEN[at + 1..]);
            let error = refusal(&changed);
            let length = at < 8 + 4;
            assert!(length || error == InvitationError::TokenChecksum, "{at}: {error}");
        }
    }

    #[test]
    fn a_token_of_another_consortium_key_is_a_forgery() {
        // Right checksum, but the admission was signed by somebody else.
        let mut forged = invitation(9);
        forged.consortium_key = identity(7).public();
        assert_eq!(refusal(&forged.to_token()), InvitationError::Signature);
        let mut promoted = invitation(9);
        promoted.terms.role = Role::Operator;
        assert_eq!(refusal(&promoted.to_token()), InvitationError::Signature);
    }

    #[test]
    fn an_invitation_ends_when_it_says() {
        let invitation = invitation(9);
        assert_eq!(invitation.check_expiry(9_999), Ok(()));
        let expired = InvitationError::Expired { expires_ms: 10_000 };
        assert_eq!(invitation.check_expiry(10_000), Err(expired.clone()));
        let enrolment = invitation.enrol(&identity(2), Vec::new());
        let consortium_key = identity(1).public();
        assert!(enrolment.verify(&consortium_key, 9_999).is_ok());
        assert_eq!(enrolment.verify(&consortium_key, 10_000), Err(expired));
    }

    #[test]
    fn a_forged_admission_admits_nobody() {
        let enrolment = invitation(9).enrol(&identity(2), Vec::new());
        let verify = |enrolment: &Enrolment| enrolment.verify(&identity(1).public(), 0);
        for at in 0..enrolment.admission.len() {
            let mut forged = enrolment.clone();
            forged.admission[at] ^= 1;
            forged.signature = identity(2).sign(&forged.signing_bytes());
            assert_eq!(verify(&forged), Err(InvitationError::Signature), "byte {at}");
        }
        // Signed by somebody who says so himself.
        let own = Invitation::with_secret(terms(), &identity(7), Secret::new([9; 32])).unwrap();
        let forged = own.enrol(&identity(2), Vec::new());
        assert_eq!(verify(&forged), Err(InvitationError::Signature));
        assert!(Admission::verify(&[], &identity(1).public(), 0).is_err());
    }

    #[test]
    fn a_swapped_key_passes_the_coordinator_but_not_the_consortium() {
        let invitation = invitation(9);
        let honest = invitation.enrol(&identity(2), b"request".to_vec());
        assert!(invitation.admit(&honest, 0, 1).is_ok());

        // The coordinator replaces the key by its own and signs with it: it lacks the secret.
        let mallory = identity(66);
        let mut swapped = honest.clone();
        swapped.identity_key = mallory.public();
        swapped.signature = mallory.sign(&swapped.signing_bytes());
        assert!(swapped.verify(&identity(1).public(), 0).is_ok());
        assert_eq!(invitation.admit(&swapped, 0, 1), Err(InvitationError::Binding));

        // Or the request for a TLS certificate, which it cannot sign.
        let mut request = honest.clone();
        request.certificate_request = b"another".to_vec();
        assert_eq!(request.verify(&identity(1).public(), 0), Err(InvitationError::Possession));
        assert_eq!(invitation.admit(&request, 0, 1), Err(InvitationError::Possession));

        // Or a binding under some other token.
        let mut other = honest.clone();
        other.binding = self::invitation(8).binding(&honest.identity_key);
        other.signature = identity(2).sign(&other.signing_bytes());
        assert_eq!(invitation.admit(&other, 0, 1), Err(InvitationError::Binding));
        let stranger = self::invitation(8).enrol(&identity(2), Vec::new());
        assert_eq!(invitation.admit(&stranger, 0, 1), Err(InvitationError::OtherInvitation));
    }

    #[test]
    fn a_binding_is_for_one_name_role_and_key() {
        let binding = invitation(9).binding(&[1; 32]);
        let mut operator = invitation(9);
        operator.terms.role = Role::Operator;
        let mut renamed = invitation(9);
        renamed.terms.name = "hospital-06".into();
        for other in [&operator, &renamed, &invitation(8)] {
            assert_eq!(other.check_binding(&[1; 32], &binding), Err(InvitationError::Binding));
        }
        assert_eq!(invitation(9).check_binding(&[1; 32], &binding), Ok(()));
        assert_eq!(invitation(9).check_binding(&[2; 32], &binding), Err(InvitationError::Binding));
    }

    #[test]
    fn terms_that_cannot_be_are_refused() {
        let refused = |change: &dyn Fn(&mut Terms)| {
            let mut terms = terms();
            change(&mut terms);
            let made = Invitation::with_secret(terms, &identity(1), Secret::new([9; 32]));
            matches!(made, Err(InvitationError::Terms(_)))
        };
        assert!(refused(&|t| t.name = "Hospital 05".into()));
        assert!(refused(&|t| t.name = "a".repeat(65)));
        assert!(refused(&|t| t.coordinator = String::new()));
        assert!(refused(&|t| t.coordinator = "host:1\nkey = 2".into()));
        assert!(refused(&|t| t.ca_certificate = vec![]));
        assert!(refused(&|t| t.ca_certificate = vec![0; CA_CERTIFICATE_BYTES_MAX + 1]));
        assert!(!refused(&|t| t.ca_certificate = vec![0; CA_CERTIFICATE_BYTES_MAX]));
    }

    #[test]
    fn parts_of_the_wrong_length_are_named() {
        let made = invitation(9).enrol(&identity(2), b"request".to_vec());
        let parts = |key: &[u8], binding: &[u8], request: &[u8], signature: &[u8]| {
            Enrolment::from_parts(&made.admission, key, binding, request, signature)
        };
        let (key, binding, signature) = (&made.identity_key, &made.binding, &made.signature);
        assert_eq!(parts(key, binding, b"request", signature), Ok(made.clone()));
        assert!(parts(&key[1..], binding, b"", signature).is_err());
        assert!(parts(key, &[], b"", signature).is_err());
        assert!(parts(key, binding, b"", &[0; 65]).is_err());
        let long = vec![0; CERTIFICATE_REQUEST_BYTES_MAX + 1];
        assert!(parts(key, binding, &long, signature).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,200}", tail in "[a-z2-7]{0,600}") {
            prop_assert!(Invitation::parse_token(&text).is_err());
            let token = ["koinon1-", &tail].concat();
            prop_assert!(Invitation::parse_token(&token).is_err());
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let consortium = identity(1);
            prop_assert!(Admission::verify(&bytes, &consortium.public(), 0).is_err());
            let signed = [bytes.as_slice(), &consortium.sign(&bytes)].concat();
            prop_assert!(Admission::verify(&signed, &consortium.public(), 0).is_err());
        }

        #[test]
        fn what_is_written_is_read(
            name in "[a-z0-9]{1,64}",
            coordinator in "[!-~]{1,255}",
            ca_certificate in prop::collection::vec(any::<u8>(), 1..600),
            role in 0_usize..4,
            expires_ms: u64,
            secret: [u8; 32],
        ) {
            let terms = Terms { name, role: Role::ALL[role], coordinator, ca_certificate, expires_ms };
            let made = Invitation::with_secret(terms, &identity(1), Secret::new(secret)).unwrap();
            let read = Invitation::parse_token(&made.to_token()).unwrap();
            prop_assert_eq!(read.terms(), made.terms());
            prop_assert_eq!(read.id(), made.id());
            prop_assert_eq!(read.admission_bytes(), made.admission_bytes());
        }
    }
}
