//! A link as it is seen: round trip and bandwidth, followed by what each activation took.
//!
//! Time on the link is modelled as `rtt + bytes / bandwidth`. Both are fitted to the last trips, the newest
//! weighing most, by least squares of the errors' logarithms, clamped, so that one late trip moves little; where the trips say nothing about one of the two (all of one size), both move by the same factor
//! from what was known before. It measures nothing itself. Start at [`Link::observe`].

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Round trip of an empty message, microseconds.
    rtt_us: f64,
    /// Microseconds for one byte.
    us_per_byte: f64,
    /// Bytes and microseconds of the last trips, the newest first.
    #[serde(skip)]
    trips: VecDeque<(f64, f64)>,
}

/// Trips that are remembered.
const TRIPS: usize = 24;
/// Weight of a trip beside the one after it.
const FADING: f64 = 0.7;
/// Weight of the wish that both parts move alike, beside a trip.
const PRIOR: f64 = 0.01;
/// Steps of the fit at each trip, and how far one trip and one step may go, as a logarithm.
const STEPS: usize = 12;
const STRIDE: f64 = 1.0;

impl Link {
    /// A link of a round trip in microseconds and a bandwidth in bytes a second.
    #[must_use]
    pub fn new(rtt_us: f64, bytes_per_s: f64) -> Self {
        let us_per_byte = 1e6 / bytes_per_s.max(1.0);
        Self { rtt_us, us_per_byte, trips: VecDeque::new() }
    }

    /// Round trip of an empty message, microseconds.
    #[must_use]
    pub fn rtt_us(&self) -> f64 {
        self.rtt_us
    }

    /// Bytes a second.
    #[must_use]
    pub fn bytes_per_s(&self) -> f64 {
        1e6 / self.us_per_byte.max(1e-6)
    }

    /// Predicted microseconds on the link for bytes out and back.
    #[must_use]
    pub fn trip_us(&self, out: usize, back: usize) -> f64 {
        self.rtt_us + self.us_per_byte * bytes(out, back)
    }

    /// A trip of so many bytes out and back took so long on the link, the server's own time left out.
    pub fn observe(&mut self, out: usize, back: usize, took_us: f64) {
        if !took_us.is_finite() || took_us < 0.0 {
            return;
        }
        self.trips.push_front((bytes(out, back), took_us.max(1.0)));
        self.trips.truncate(TRIPS);
        for _ in 0..STEPS {
            self.fit();
        }
    }

    /// One step from what is believed towards what the trips say.
    fn fit(&mut self) {
        let (rtt, per_byte) = (self.rtt_us, self.us_per_byte);
        // a and b: logarithms of what both parts are to be multiplied by, drawn to each other.
        let weights = std::iter::successors(Some(1.0), |weight| Some(weight * FADING));
        let (mut aa, mut ab, mut bb, mut a1, mut b1) = (PRIOR, -PRIOR, PRIOR, 0.0, 0.0);
        for (weight, (n, took)) in weights.zip(self.trips.iter().copied()) {
            let expected = rtt + per_byte * n;
            let (x, y) = (rtt / expected, per_byte * n / expected);
            let error = (took / expected).ln().clamp(-STRIDE, STRIDE);
            aa += weight * x * x;
            ab += weight * x * y;
            bb += weight * y * y;
            a1 += weight * x * error;
            b1 += weight * y * error;
        }
        let determinant = aa * bb - ab * ab;
        let (a, b) = ((a1 * bb - b1 * ab) / determinant, (b1 * aa - a1 * ab) / determinant);
        if a.is_finite() && b.is_finite() {
            self.rtt_us = (rtt * a.clamp(-STRIDE, STRIDE).exp()).max(1.0);
            self.us_per_byte = (per_byte * b.clamp(-STRIDE, STRIDE).exp()).max(1e-6);
        }
    }
}

/// A sum of lengths as a number.
fn bytes(out: usize, back: usize) -> f64 {
    let sum = u32::try_from(out.saturating_add(back)).unwrap_or(u32::MAX);
    f64::from(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_changed_is_known_again_within_some_trips() {
        let mut link = Link::new(200.0, 125e6);
        let new = Link::new(20_000.0, 6.25e6);
        for at in 0..12 {
            let out = if at % 2 == 0 { 2_000 } else { 60_000 };
            link.observe(out, 100, new.trip_us(out, 100));
        }
        for out in [1_000, 30_000, 100_000] {
            let (is, want) = (link.trip_us(out, 0), new.trip_us(out, 0));
            assert!((is / want - 1.0).abs() < 0.1, "{out}: {is} {want}");
        }
    }

    #[test]
    fn one_late_trip_moves_little_once_many_were_seen() {
        let truth = Link::new(1_000.0, 10e6);
        let mut link = truth.clone();
        for at in 0..40 {
            let out = if at % 3 == 0 { 1_000 } else { 20_000 };
            link.observe(out, 0, truth.trip_us(out, 0));
        }
        let before = link.trip_us(20_000, 0);
        link.observe(20_000, 0, before * 50.0);
        assert!(link.trip_us(20_000, 0) < before * 3.0);
        for _ in 0..8 {
            link.observe(20_000, 0, before);
        }
        assert!((link.trip_us(20_000, 0) / before - 1.0).abs() < 0.1);
    }

    #[test]
    fn nonsense_is_not_learned() {
        let mut link = Link::new(1_000.0, 10e6);
        let before = link.clone();
        link.observe(10, 10, f64::NAN);
        link.observe(10, 10, -5.0);
        assert_eq!(link, before);
        for _ in 0..1_000 {
            link.observe(5_000, 0, 1_500.0);
        }
        assert!((link.trip_us(5_000, 0) - 1_500.0).abs() < 1.0);
    }
}
