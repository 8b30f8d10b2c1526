//! The loss of one step, on a grid.
//!
//! The sum without the unit is N(0, z²), with it the mixture (1−q) N(0, z²) + q N(1, z²), in units
//! of the sensitivity. Between two points of the grid the mass of both laws is split onto the two
//! points so that each law keeps its mass there. That makes the curve delta(epsilon) the chord of
//! the true one between the points (Doroshenko et al. 2022, arXiv:2207.04380), which lies above it
//! because delta is convex in exp(epsilon); and a pair of laws that dominates one step dominates
//! when composed (Zhu, Dong, Wang 2022, arXiv:2106.08567, Theorem 10). The error falls with the
//! square of the width. Start with [`Loss::on_grid`].

use super::super::numeric::{normal_above, normal_between};

/// Points of the grid at most; more would not be composed in a second.
const POINTS_MAX: f64 = 131_072.0;
/// Width of the grid over the standard deviation of the loss: adds 1/6 of its square to the
/// variance, relatively.
const WIDTH_OVER_STD: f64 = 0.05;

/// Width that is fine enough, as long as it is a fraction of the standard deviation of the loss:
/// a hair above the 1e-4 that others use, so that figures are not below theirs either.
const WIDTH_FINE: f64 = 1.1e-4;
const FINE_OVER_STD_MAX: f64 = 0.2;

/// Which of the two neighbours is the one that the unit belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Direction {
    /// The outcome has the unit; the neighbour has one unit less.
    Less,
    /// The outcome does not have the unit; the neighbour has one unit more.
    More,
}

/// The privacy loss of one step in one direction.
pub(super) struct Loss {
    q: f64,
    z: f64,
    direction: Direction,
}

/// Masses on the points `(first + i) * width`, the rest at infinity.
pub(super) struct Grid {
    pub(super) width: f64,
    pub(super) first: i64,
    pub(super) masses: Vec<f64>,
    pub(super) infinite: f64,
}

impl Loss {
    pub(super) fn new(q: f64, z: f64, direction: Direction) -> Self {
        Self { q, z, direction }
    }

    /// log of mixture over N(0, z²) at x; rises with x.
    fn ratio(&self, x: f64) -> f64 {
        let log_odds = (2.0 * x - 1.0) / (2.0 * self.z * self.z);
        if self.q == 1.0 {
            return log_odds;
        }
        if log_odds > 30.0 {
            // exp would overflow before the mixture's other part mattered.
            let log_q = libm::log(self.q);
            return log_odds + log_q + libm::log1p((1.0 - self.q) / self.q * libm::exp(-log_odds));
        }
        libm::log1p(self.q * libm::expm1(log_odds))
    }

    /// Where [`Self::ratio`] is `at`; minus infinity where it is below its least value.
    fn place(&self, at: f64) -> f64 {
        let (q, z) = (self.q, self.z);
        let log_odds = if q == 1.0 {
            at
        } else if at > 30.0 {
            at - libm::log(q) + libm::log1p(-(1.0 - q) * libm::exp(-at))
        } else {
            let odds = (libm::expm1(at) + q) / q;
            if odds > 0.0 { libm::log(odds) } else { f64::NEG_INFINITY }
        };
        z * z * log_odds + 0.5
    }

    /// Masses of (a, b) under the law with the unit and under the one without.
    fn masses(&self, a: f64, b: f64) -> (f64, f64) {
        let without = normal_between(a / self.z, b / self.z);
        let shifted = normal_between((a - 1.0) / self.z, (b - 1.0) / self.z);
        ((1.0 - self.q) * without + self.q * shifted, without)
    }

    /// The width of the grid, unless the range of the losses asks for a wider one.
    pub(super) fn width(&self) -> f64 {
        let std = self.std();
        (WIDTH_OVER_STD * std).max(WIDTH_FINE.min(FINE_OVER_STD_MAX * std))
    }

    /// The loss on a grid, with less than `tail` of either law cut off on each side: below it is
    /// moved up to the first point, above it counts as infinite loss.
    pub(super) fn on_grid(&self, tail: f64, width: f64) -> Grid {
        let reach = self.z * quantile_above(tail);
        let (low, high) = (self.ratio(-reach), self.ratio(1.0 + reach));
        let width = width.max((high - low) / POINTS_MAX);
        // Points of `ratio`; the loss is it or, in the other direction, its negative.
        #[expect(clippy::cast_possible_truncation, reason = "both bounded by the losses' range")]
        let (first, last) = ((low / width).floor() as i64, (high / width).ceil() as i64);
        let n_points = usize::try_from(last - first + 1).expect("high lies above low");
        let mut masses = vec![0.0; n_points];
        let mut infinite = 0.0;
        let rises = self.direction == Direction::Less;
        let shrink = -libm::expm1(-width);
        let mut a = self.place(first as f64 * width);
        for i in 0..n_points - 1 {
            let upper = (first + i as i64 + 1) as f64 * width;
            let b = self.place(upper);
            let (with, without) = self.masses(a, b);
            // `of`, the outcome's law, and `other`, at the end of the cell where the loss is
            // smaller: of − e^{loss there}·other is what the upper end gets, times 1 − e^{−width}.
            let (of, other, lower_loss, above, below) = if rises {
                (with, without, upper - width, i + 1, i)
            } else {
                (without, with, -upper, i, i + 1)
            };
            let upper_part = ((of - libm::exp(lower_loss) * other) / shrink).clamp(0.0, of);
            masses[above] += upper_part;
            masses[below] += of - upper_part;
            a = b;
        }
        let start = self.place(first as f64 * width);
        let (with_below, without_below) = self.masses(f64::NEG_INFINITY, start);
        let (with_above, without_above) = self.masses(a, f64::INFINITY);
        if rises {
            masses[0] += with_below;
            infinite += with_above;
            Grid { width, first, masses, infinite }
        } else {
            masses[n_points - 1] += without_above;
            infinite += without_below;
            masses.reverse();
            Grid { width, first: -last, masses, infinite }
        }
    }

    /// The standard deviation of the loss, or near it: that of the ratio of the two laws, or of
    /// the mechanism without sampling where that is less.
    fn std(&self) -> f64 {
        let z = self.z;
        (self.q * libm::sqrt(libm::expm1((1.0 / (z * z)).min(50.0)))).min(1.0 / z)
    }
}

/// Some x with a normal mass of at most `tail` above it, and not much less.
fn quantile_above(tail: f64) -> f64 {
    let (mut low, mut high) = (0.0, 40.0);
    while high - low > 1e-3 {
        let middle = 0.5 * (low + high);
        if normal_above(middle) > tail { low = middle } else { high = middle }
    }
    high
}
