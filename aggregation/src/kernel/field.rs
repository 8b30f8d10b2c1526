//! Products in GF(2^128) by the CPU's carry-less multiplication, where it has one.
//!
//! Not the door: [`crate::gf128`] asks here first, and computes the same by itself where the answer
//! is `None`, because the CPU cannot or the portable kernel is forced.

use std::sync::atomic::Ordering;

#[cfg(target_arch = "x86_64")]
use super::x86::carryless as cpu;
use super::{FORCED, Kernel};
use crate::gf128::Element;

/// The product of two elements.
pub(crate) fn mul(a: Element, b: Element) -> Option<Element> {
    is_wanted().then(|| cpu::mul(a, b))?
}

/// Every element times its own factor, a polynomial of degree below 16, plus `constant`.
pub(crate) fn scale(elements: &mut [Element], factors: &[u16], constant: Element) -> Option<()> {
    is_wanted().then(|| cpu::scale(elements, factors, constant))?
}

/// The sum of the products of pairs.
pub(crate) fn dot(a: &[Element], b: &[Element]) -> Option<Element> {
    is_wanted().then(|| cpu::dot(a, b))?
}

/// Whether the CPU may be asked.
pub(super) fn is_wanted() -> bool {
    let forced = Kernel::ALL.get(usize::from(FORCED.load(Ordering::Relaxed)));
    forced != Some(&Kernel::Portable)
}

#[cfg(not(target_arch = "x86_64"))]
mod cpu {
    use crate::gf128::Element;

    pub(super) fn mul(_: Element, _: Element) -> Option<Element> {
        None
    }

    pub(super) fn scale(_: &mut [Element], _: &[u16], _: Element) -> Option<()> {
        None
    }

    pub(super) fn dot(_: &[Element], _: &[Element]) -> Option<Element> {
        None
    }
}
