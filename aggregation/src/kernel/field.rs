//! Products in GF(2^128) by the CPU's carry-less multiplication, where it has one.
//!
//! Not the door: [`crate::gf128`] asks here first, and computes the same by itself where the answer
//! is `None`, because the CPU cannot or the portable kernel is forced.

use std::sync::atomic::Ordering;

use super::{FORCED, Kernel};
use crate::gf128::Element;

/// The product of two elements.
pub(crate) fn mul(a: Element, b: Element) -> Option<Element> {
    #[cfg(target_arch = "x86_64")]
    if is_wanted() {
        return super::x86::carryless::mul(a, b);
    }
    None
}

/// Every element times its own factor, a polynomial of degree below 16, plus `constant`.
pub(crate) fn scale(elements: &mut [Element], factors: &[u16], constant: Element) -> Option<()> {
    #[cfg(target_arch = "x86_64")]
    if is_wanted() {
        return super::x86::carryless::scale(elements, factors, constant);
    }
    None
}

/// The sum of the products of pairs.
pub(crate) fn dot(a: &[Element], b: &[Element]) -> Option<Element> {
    #[cfg(target_arch = "x86_64")]
    if is_wanted() {
        return super::x86::carryless::dot(a, b);
    }
    None
}

#[cfg(target_arch = "x86_64")]
fn is_wanted() -> bool {
    let forced = Kernel::ALL.get(usize::from(FORCED.load(Ordering::Relaxed)));
    forced != Some(&Kernel::Portable)
}
