//! Bytes that nobody else may know: wiped when dropped, never printed, never copied by accident.
//!
//! A [`Secret`] has neither `Debug` nor `Clone`, and compares in constant time. It is not a vault:
//! it lives in ordinary memory and may be paged out by the system.

use rand::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `N` secret bytes.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    pub(crate) fn random(rng: &mut dyn CryptoRng) -> Self {
        let mut secret = Self([0; N]);
        secret.fill(rng);
        secret
    }

    /// Draws the bytes anew, where they are.
    pub(crate) fn fill(&mut self, rng: &mut dyn CryptoRng) {
        rng.fill_bytes(&mut self.0);
    }

    pub(crate) fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    pub(crate) fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// A second copy, said aloud.
    pub(crate) fn duplicate(&self) -> Self {
        Self(self.0)
    }
}

impl<const N: usize> ConstantTimeEq for Secret<N> {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}
