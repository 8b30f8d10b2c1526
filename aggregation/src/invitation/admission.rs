//! What the coordinator sees of an invitation, and what a member sends to enrol.
//!
//! Deliberately without the token's secret: who reads these can check them, not make them.

use super::{CERTIFICATE_REQUEST_BYTES_MAX, InvitationError, check_expiry};
use crate::codec::{CodecError, Reader, Writer};
use crate::identity::{is_public_key, verify};
use crate::roster::{Role, is_member_name, read_domain};

const ADMISSION_DOMAIN: &str = "koinon/1/admission";
const ENROLMENT_DOMAIN: &str = "koinon/1/enrolment";
const SIGNATURE_BYTES: usize = 64;

/// The consortium's word that the holder of one secret may join under one name and role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Names the invitation; whoever accepts enrolments keeps one identity key per id.
    pub id: [u8; 32],
    /// The member's name.
    pub name: String,
    /// The member's role.
    pub role: Role,
    /// First moment at which it is worth nothing, Unix milliseconds.
    pub expires_ms: u64,
    /// Who admits.
    pub consortium_key: [u8; 32],
}

impl Admission {
    /// Reads the signed bytes: signature by `consortium_key`, canonical form, time.
    ///
    /// # Errors
    /// [`InvitationError`] that says which of them fails.
    pub fn verify(
        bytes: &[u8],
        consortium_key: &[u8; 32],
        now_ms: u64,
    ) -> Result<Self, InvitationError> {
        let admission = Self::verify_signature(bytes, consortium_key)?;
        check_expiry(admission.expires_ms, now_ms)?;
        Ok(admission)
    }

    pub(super) fn verify_signature(
        bytes: &[u8],
        consortium_key: &[u8; 32],
    ) -> Result<Self, InvitationError> {
        let (body, signature) = bytes
            .split_last_chunk::<SIGNATURE_BYTES>()
            .ok_or(CodecError::Truncated("signature"))?;
        if !verify(consortium_key, body, signature) {
            return Err(InvitationError::Signature);
        }
        let admission = Self::read(body)?;
        if admission.consortium_key != *consortium_key {
            return Err(InvitationError::Signature);
        }
        Ok(admission)
    }

    /// What the consortium signs: domain (its length first), id, name (u8 length), role u8, expiry
    /// u64 LE, consortium key.
    pub(super) fn body(&self) -> Vec<u8> {
        let bytes = 1 + ADMISSION_DOMAIN.len() + 32 + 1 + self.name.len() + 1 + 8 + 32;
        let mut writer = Writer::with_capacity(bytes + SIGNATURE_BYTES);
        writer.name(ADMISSION_DOMAIN).bytes(&self.id).name(&self.name).u8(self.role.code());
        writer.u64(self.expires_ms).bytes(&self.consortium_key);
        writer.into_public()
    }

    fn read(body: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        read_domain(&mut reader, ADMISSION_DOMAIN)?;
        let admission = Self {
            id: reader.array("id")?,
            name: reader.name("name")?,
            role: Role::from_code(reader.u8("role")?)?,
            expires_ms: reader.u64("expiry")?,
            consortium_key: reader.array("consortium key")?,
        };
        reader.end()?;
        let named = is_member_name(&admission.name);
        if named { Ok(admission) } else { Err(CodecError::Value("name")) }
    }
}

/// A member's request to join. Not secret: it shows who is meant, and nothing that lets another join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The signed admission, verbatim.
    pub admission: Vec<u8>,
    /// The member's new Ed25519 identity key.
    pub identity_key: [u8; 32],
    /// The binding of that key under the token's secret; only the consortium can check it.
    pub binding: [u8; 32],
    /// Certificate signing request for TLS, DER, at most 8 KiB; opaque here.
    pub certificate_request: Vec<u8>,
    /// By the identity key over all the rest.
    pub signature: [u8; 64],
}

impl Enrolment {
    /// Puts together what arrived as byte fields.
    ///
    /// # Errors
    /// [`InvitationError::Length`] when a part cannot be what it should be.
    pub fn from_parts(
        admission: &[u8],
        identity_key: &[u8],
        binding: &[u8],
        certificate_request: &[u8],
        signature: &[u8],
    ) -> Result<Self, InvitationError> {
        let length = |part| move |_| InvitationError::Length(part);
        if certificate_request.len() > CERTIFICATE_REQUEST_BYTES_MAX {
            return Err(InvitationError::Length("the certificate request"));
        }
        Ok(Self {
            admission: admission.to_vec(),
            identity_key: identity_key.try_into().map_err(length("the identity key"))?,
            binding: binding.try_into().map_err(length("the binding"))?,
            certificate_request: certificate_request.to_vec(),
            signature: signature.try_into().map_err(length("the signature"))?,
        })
    }

    /// What the coordinator can check: the consortium admits this name, in time, and the sender has
    /// the identity key. Whether the *right* sender has it, only [`super::Invitation::admit`] knows.
    ///
    /// # Errors
    /// [`InvitationError`] that says what fails.
    pub fn verify(
        &self,
        consortium_key: &[u8; 32],
        now_ms: u64,
    ) -> Result<Admission, InvitationError> {
        let admission = Admission::verify(&self.admission, consortium_key, now_ms)?;
        self.check_possession()?;
        Ok(admission)
    }

    /// What the identity key signs: domain (its length first), admission, key, binding and certificate
    /// request; those of varying length with a u32 LE length before them.
    pub(super) fn signing_bytes(&self) -> Vec<u8> {
        let parts = self.admission.len() + self.certificate_request.len();
        let mut writer = Writer::with_capacity(1 + ENROLMENT_DOMAIN.len() + parts + 8 + 64);
        writer.name(ENROLMENT_DOMAIN).chunk(&self.admission).bytes(&self.identity_key);
        writer.bytes(&self.binding).chunk(&self.certificate_request);
        writer.into_public()
    }

    pub(super) fn check_possession(&self) -> Result<(), InvitationError> {
        let message = self.signing_bytes();
        let own = is_public_key(&self.identity_key)
            && verify(&self.identity_key, &message, &self.signature);
        if own { Ok(()) } else { Err(InvitationError::Possession) }
    }
}
