//! The kernel of the `aes` and `ctr` crates: every CPU, constant time, and what the others are
//! compared with.

use aes::Aes128;
use aes::cipher::{KeyIvInit, StreamCipher};
use zeroize::Zeroizing;

use super::{Sign, Stream, Width};

/// Adds the key stream that begins with the block of `counter` to `bytes`.
pub(super) fn run(bytes: &mut [u8], width: Width, stream: &Stream, counter: u128) {
    let (key, iv) = (stream.round_keys[0].into(), counter.to_be_bytes().into());
    let mut cipher = ctr::Ctr128BE::<Aes128>::new(&key, &iv);
    let mut made = Zeroizing::new([0; MADE_BYTES]);
    for bytes in bytes.chunks_mut(MADE_BYTES) {
        if width == Width::Bytes {
            cipher.apply_keystream(bytes);
            continue;
        }
        made.fill(0);
        cipher.apply_keystream(made.as_mut_slice());
        match (width, stream.sign) {
            (Width::Narrow, Sign::Plus) => narrow(bytes, &made, u32::wrapping_add),
            (Width::Narrow, Sign::Minus) => narrow(bytes, &made, u32::wrapping_sub),
            (_, Sign::Plus) => wide(bytes, &made, u64::wrapping_add),
            (_, Sign::Minus) => wide(bytes, &made, u64::wrapping_sub),
        }
    }
}

/// Key stream made at a time.
const MADE_BYTES: usize = 4096;

fn narrow(words: &mut [u8], made: &[u8; MADE_BYTES], op: impl Fn(u32, u32) -> u32) {
    for (word, made) in words.as_chunks_mut().0.iter_mut().zip(made.as_chunks().0) {
        *word = op(u32::from_ne_bytes(*word), u32::from_le_bytes(*made)).to_ne_bytes();
    }
}

fn wide(words: &mut [u8], made: &[u8; MADE_BYTES], op: impl Fn(u64, u64) -> u64) {
    for (word, made) in words.as_chunks_mut().0.iter_mut().zip(made.as_chunks().0) {
        *word = op(u64::from_ne_bytes(*word), u64::from_le_bytes(*made)).to_ne_bytes();
    }
}
