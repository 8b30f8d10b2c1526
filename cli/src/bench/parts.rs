//! The parts that nobody can leave out of a session, and what each costs on this machine now: key
//! stream, agreements, signatures, and the bytes that pass through memory. Nothing else counts as
//! unavoidable: no hash, no share, no copy, no encoding. Agreements are priced one ladder at a time, as
//! any CPU does them; where vectors do eight at once, a session can cost less than its parts.

use koinon_aggregation::kernel::{Kernel, measure as kernel};
use koinon_aggregation::measure;

use super::{Options, cpu};
use crate::output::thousands;

/// How much of each part there is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    /// Masks, each as long as the update.
    pub(crate) expansions: u64,
    /// Bytes of one mask.
    pub(crate) mask_bytes: u64,
    /// Products of a curve point, X25519.
    pub(crate) agreements: u64,
    /// Signatures made.
    pub(crate) signed: u64,
    /// Signatures verified, in batches.
    pub(crate) verified: u64,
    /// Bytes of updates read from memory and added or written.
    pub(crate) added_bytes: u64,
}

/// What one of each costs, in nanoseconds of CPU time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    kernel: Kernel,
    mask_byte: f64,
    agreement: f64,
    sign: f64,
    verify: f64,
    added_byte: f64,
}

impl Costs {
    /// Measures them; a second or so. Masks are expanded over a row of `entries` words.
    pub(crate) fn measure(options: &Options, entries: usize) -> anyhow::Result<Self> {
        let runs = if options.quick { 3 } else { 7 };
        let kernel = Kernel::active();
        let mut masks = kernel::Masks::new(kernel, 120, entries)?;
        let mut signatures = measure::Signatures::new(128);
        // Far larger than any cache: updates come from the network, each into memory of its own.
        let mut rows = kernel::Rows::new(1 << 24);
        Ok(Self {
            kernel,
            mask_byte: cpu::ns_per_unit(runs, || masks.add()),
            agreement: cpu::ns_per_unit(runs, || measure::agreements(256)),
            sign: cpu::ns_per_unit(runs, || signatures.sign()),
            verify: cpu::ns_per_unit(runs, || signatures.verify()),
            added_byte: cpu::ns_per_unit(runs, || rows.add()),
        })
    }

    /// The parts of this work by name, in seconds.
    pub(crate) fn parts(&self, work: &Work) -> Vec<(String, f64)> {
        let seconds = |count: u64, ns: f64| count as f64 * ns * 1e-9;
        let gb_s = |ns_per_byte: f64| 1.0 / ns_per_byte;
        let each_us = |ns: f64| ns * 1e-3;
        let stream = work.expansions * work.mask_bytes;
        vec![
            (
                format!(
                    "{} masks of {} bytes at {:.1} GB/s ({})",
                    thousands(work.expansions),
                    thousands(work.mask_bytes),
                    gb_s(self.mask_byte),
                    self.kernel
                ),
                seconds(stream, self.mask_byte),
            ),
            (
                format!(
                    "{} agreements of {:.1} µs, each by itself",
                    thousands(work.agreements),
                    each_us(self.agreement)
                ),
                seconds(work.agreements, self.agreement),
            ),
            (
                format!(
                    "{} signatures made and {} verified of {:.1} and {:.1} µs",
                    thousands(work.signed),
                    thousands(work.verified),
                    each_us(self.sign),
                    each_us(self.verify)
                ),
                seconds(work.signed, self.sign) + seconds(work.verified, self.verify),
            ),
            (
                format!(
                    "{} bytes of updates at {:.1} GB/s",
                    thousands(work.added_bytes),
                    gb_s(self.added_byte)
                ),
                seconds(work.added_bytes, self.added_byte),
            ),
        ]
    }
}
