//! The text form of an invitation: `koinon1-` and lower-case base32 (RFC 4648 alphabet, no padding).
//!
//! The bytes under it: length of the rest u16, content, the first four bytes of the content's hash.
//! The length tells a cut-off token from a mistyped one; the hash finds typing errors, not forgers:
//! those are found by the admission's signature. Content: secret, consortium key, role u8, name
//! (u8 length), coordinator (u32 length), CA certificate (u32 length), expiry u64, signature of the
//! admission. Numbers are little-endian.

use zeroize::Zeroizing;

use super::admission::Admission;
use super::{ADDRESS_BYTES_MAX, CA_CERTIFICATE_BYTES_MAX, Invitation, InvitationError, Terms};
use crate::codec::{CodecError, Reader, Writer};
use crate::hash::hash;
use crate::roster::Role;
use crate::secret::Secret;

/// Longest token that is looked at, white space included.
pub const TOKEN_CHARACTERS_MAX: usize = 8 << 10;

const PREFIX: &str = "koinon1-";
const CHECKSUM_LABEL: &str = "koinon/1/token";
const CHECKSUM_BYTES: usize = 4;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Content without name, address and certificate.
const FIXED_BYTES: usize = 32 + 32 + 1 + 1 + 4 + 4 + 8 + 64;

pub(super) fn write(invitation: &Invitation) -> Zeroizing<String> {
    let Terms { name, role, coordinator, ca_certificate, expires_ms } = &invitation.terms;
    let bytes = FIXED_BYTES + name.len() + coordinator.len() + ca_certificate.len();
    let mut writer = Writer::with_capacity(bytes);
    writer.bytes(invitation.secret.expose()).bytes(&invitation.consortium_key);
    writer.u8(role.code()).name(name).chunk(coordinator.as_bytes()).chunk(ca_certificate);
    writer.u64(*expires_ms).bytes(&invitation.signature);
    let content = writer.into_secret();

    let rest = content.len() + CHECKSUM_BYTES;
    let mut framed = Writer::with_capacity(2 + rest);
    framed.u16(u16::try_from(rest).expect("the parts' limits add up to less than 4 KiB"));
    framed.bytes(&content).bytes(&checksum(&content));
    encode(&framed.into_secret())
}

pub(super) fn parse(text: &str) -> Result<Invitation, InvitationError> {
    if text.len() > TOKEN_CHARACTERS_MAX {
        return Err(InvitationError::NotAToken);
    }
    // Mail and terminals break long lines; typists use capitals.
    let mut clean = Zeroizing::new(String::with_capacity(text.len()));
    clean.extend(text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()));
    let Some(digits) = clean.strip_prefix(PREFIX) else {
        let other = clean.starts_with("koinon") && clean.contains('-');
        return Err(if other { InvitationError::TokenVersion } else { InvitationError::NotAToken });
    };
    let framed = decode(digits)?;
    let (content, found_checksum) =
        framed[2..].split_last_chunk().ok_or(InvitationError::TokenChecksum)?;
    if checksum(content) != *found_checksum {
        return Err(InvitationError::TokenChecksum);
    }
    read(content)
}

fn read(content: &[u8]) -> Result<Invitation, InvitationError> {
    let mut reader = Reader::new(content);
    let secret = Secret::new(reader.array("secret")?);
    let consortium_key = reader.array("consortium key")?;
    let role = Role::from_code(reader.u8("role")?)?;
    let name = reader.name("name")?;
    let coordinator = reader.chunk(ADDRESS_BYTES_MAX, "coordinator")?;
    let coordinator = str::from_utf8(coordinator).map_err(|_| CodecError::Value("coordinator"))?;
    let ca_certificate = reader.chunk(CA_CERTIFICATE_BYTES_MAX, "CA certificate")?.to_vec();
    let expires_ms = reader.u64("expiry")?;
    let signature = reader.array("signature")?;
    reader.end()?;
    let coordinator = coordinator.to_owned();
    let terms = Terms { name, role, coordinator, ca_certificate, expires_ms };
    terms.check()?;
    let invitation = Invitation { terms, consortium_key, secret, signature };
    Admission::verify_signature(&invitation.admission_bytes(), &consortium_key)?;
    Ok(invitation)
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = hash(CHECKSUM_LABEL, &[content]);
    [digest[0], digest[1], digest[2], digest[3]]
}

/// The prefix and five bits a character; the last character is filled up with zeros.
fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + characters(bytes.len())));
    text.push_str(PREFIX);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = (held << 8 | u32::from(*byte)) & 0xfff;
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(digit(held >> bits));
        }
    }
    if bits > 0 {
        text.push(digit(held << (5 - bits)));
    }
    text
}

/// The framed bytes: exactly as many characters as the length at the front asks for.
fn decode(digits: &str) -> Result<Zeroizing<Vec<u8>>, InvitationError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() * 5 / 8 + 1));
    let (mut held, mut bits) = (0_u32, 0);
    for (at, character) in digits.chars().enumerate() {
        let value = ALPHABET
            .iter()
            .zip(0_u32..)
            .find_map(|(known, value)| (char::from(*known) == character).then_some(value))
            .ok_or(InvitationError::TokenCharacter { place: at + 1 })?;
        held = (held << 5 | value) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).expect("masked to eight bits"));
        }
    }
    let found = digits.len();
    let Some(front) = bytes.first_chunk().copied() else {
        return Err(InvitationError::TokenCutOff { found, wanted: characters(2 + FIXED_BYTES) });
    };
    let wanted = characters(2 + usize::from(u16::from_le_bytes(front)));
    if found < wanted {
        return Err(InvitationError::TokenCutOff { found, wanted });
    }
    if found > wanted {
        return Err(InvitationError::TokenTooLong { found, wanted });
    }
    // One token has one text: the bits that fill the last character are zero.
    let filler = held & ((1 << bits) - 1);
    if filler == 0 { Ok(bytes) } else { Err(InvitationError::TokenChecksum) }
}

const fn characters(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

fn digit(value: u32) -> char {
    let at = usize::try_from(value & 31).expect("five bits fit a usize");
    char::from(ALPHABET[at])
}
