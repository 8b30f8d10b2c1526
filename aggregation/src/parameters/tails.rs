//! Exact tails of draws without replacement: how often a neighbourhood, an arc of the ring or a
//! committee holds too many marked sites (colluders, or sites that are lost).
//!
//! Each probability is the finite sum of its terms, the first made of its factors and each next one
//! by the ratio to the one before: no approximation, no logarithm. Deliberately no policy: which
//! event matters, and how rare it must be, is for [`parameters`](crate::parameters).

use super::scaled::Scaled;

/// Terms this many bits below the sum, on the falling side, are left out with all after them; what
/// they add is below what [`Scaled::is_at_most_2_to_minus`] counts for rounding.
const NEGLIGIBLE_BITS: i64 = 56;

/// A draw without replacement: `drawn` of `all` sites, of which `marked` are marked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    pub(super) all: usize,
    pub(super) marked: usize,
    pub(super) drawn: usize,
}

impl Draw {
    /// The probability that at least `least` of the drawn are marked.
    pub(super) fn at_least(self, least: usize) -> Scaled {
        let Self { all, marked, drawn } = self;
        if least <= (marked + drawn).saturating_sub(all) {
            return Scaled::ONE;
        }
        let mut term = self.exactly(least);
        let mut sum = term;
        for x in least..marked.min(drawn) {
            let ratio = real(marked - x) * real(drawn - x)
                / (real(x + 1) * real(all + x + 1 - marked - drawn));
            term = term.times(ratio);
            if ratio < 0.999 && term.is_negligible_beside(sum, NEGLIGIBLE_BITS) {
                break;
            }
            sum = sum.plus(term);
        }
        sum
    }

    /// The probability that exactly `x` of the drawn are marked.
    fn exactly(self, x: usize) -> Scaled {
        let Self { all, marked, drawn } = self;
        if x > marked.min(drawn) || drawn - x > all - marked {
            return Scaled::ZERO;
        }
        let mut p = Scaled::ONE;
        for i in 0..x {
            p = p.times(real(marked - i) / real(all - i) * real(drawn - i) / real(i + 1));
        }
        for i in 0..drawn - x {
            p = p.times(real(all - marked - i) / real(all - x - i));
        }
        p
    }
}

/// The probability that of two given sets of `arc` sites each, without a common one, both hold at
/// least `least` of the `marked` among `all`.
pub(super) fn both_arcs_at_least(all: usize, marked: usize, arc: usize, least: usize) -> Scaled {
    let Some(beside) = all.checked_sub(2 * arc) else { return Scaled::ZERO };
    let most = arc.min(marked);
    let mut sum = Scaled::ZERO;
    // The probability of exactly `a` in the one arc and `least` in the other, once there is one.
    let mut corner: Option<Scaled> = None;
    for a in least..=most {
        let start = least.max(marked.saturating_sub(a + beside));
        if start > most.min(marked - a) {
            continue;
        }
        let head = match corner {
            Some(before) => before.times(
                real(arc + 1 - a) * real(marked + 1 - a - least)
                    / (real(a) * real(beside + a + least - marked)),
            ),
            None => {
                let one = Draw { all, marked, drawn: arc }.exactly(a);
                one.product(Draw { all: all - arc, marked: marked - a, drawn: arc }.exactly(start))
            }
        };
        if start == least {
            corner = Some(head);
        }
        let (mut term, mut row) = (head, head);
        for b in start..most.min(marked - a) {
            let ratio = real(arc - b) * real(marked - a - b)
                / (real(b + 1) * real(beside + a + b + 1 - marked));
            term = term.times(ratio);
            if ratio < 0.999 && term.is_negligible_beside(row, NEGLIGIBLE_BITS) {
                break;
            }
            row = row.plus(term);
        }
        let falls = corner.is_some() && a > arc * marked / all;
        if falls && row.is_negligible_beside(sum, NEGLIGIBLE_BITS) {
            break;
        }
        sum = sum.plus(row);
    }
    sum
}

/// A number of sites, exact in an `f64`.
pub(super) fn real(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("sites are counted in 16 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C(n, k) in integers, for small n.
    fn choose(n: usize, k: usize) -> f64 {
        let mut c: u128 = 1;
        for i in 0..k.min(n) {
            c = c * (n - i) as u128 / (i as u128 + 1);
        }
        if k > n { 0.0 } else { c as f64 }
    }

    #[test]
    fn tails_are_the_sums_of_their_counted_cases() {
        for (all, marked, drawn) in [(20, 7, 5), (20, 15, 12), (30, 0, 4), (9, 9, 3), (25, 6, 25)] {
            for least in 0..=drawn + 1 {
                let counted: f64 = (least..=drawn.min(marked))
                    .filter(|&x| drawn - x <= all - marked)
                    .map(|x| choose(marked, x) * choose(all - marked, drawn - x))
                    .sum::<f64>()
                    / choose(all, drawn);
                let tail = Draw { all, marked, drawn }.at_least(least).to_f64();
                assert!((tail - counted).abs() <= 1e-13, "{all} {marked} {drawn} {least}: {tail}");
            }
        }
    }

    #[test]
    fn two_arcs_are_the_sums_of_their_counted_cases() {
        for (all, marked, arc) in
            [(20_usize, 7_usize, 5_usize), (20, 12, 10), (30, 9, 6), (16, 15, 4)]
        {
            for least in 0..=arc + 1 {
                let mut counted = 0.0;
                for a in least..=arc {
                    for b in least..=arc {
                        let Some(rest) = marked.checked_sub(a + b) else { continue };
                        counted += choose(arc, a) * choose(arc, b) * choose(all - 2 * arc, rest);
                    }
                }
                let tail = both_arcs_at_least(all, marked, arc, least).to_f64();
                let counted = counted / choose(all, marked);
                assert!((tail - counted).abs() <= 1e-13, "{all} {marked} {arc} {least}: {tail}");
            }
        }
    }
}
