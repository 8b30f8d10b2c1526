//! The key stream kernels, each forced in turn: GB of mask added in a second of one core, and the
//! share of what the AES units could do if there were no memory at all.

use koinon_aggregation::kernel::{Kernel, measure};

use super::figure::{Figure, Limit, Measured};
use super::{Options, Progress, cpu};

/// Masks of one session with the parameters for 1,000 sites, a million words each.
const SEEDS: usize = 120;
const ENTRIES: usize = 1 << 20;
const PEAK_BYTES: u64 = 1 << 30;

pub(crate) fn measure(options: &Options, progress: &Progress) -> anyhow::Result<Measured> {
    let runs = if options.quick { 3 } else { 9 };
    progress.phase("key stream kernels", Kernel::ALL.len());
    let mut measured = Measured::default();
    let mut share = None;
    for kernel in Kernel::ALL {
        let (name, limit) = match kernel {
            Kernel::Vaes512 => ("kernel_vaes512_gb_s", Limit::AtLeast(45.0)),
            Kernel::Vaes256 => ("kernel_vaes256_gb_s", Limit::AtLeast(20.0)),
            Kernel::AesNi => ("kernel_aesni_gb_s", Limit::AtLeast(11.0)),
            Kernel::Portable => ("kernel_portable_gb_s", Limit::None),
        };
        let mut figure = Figure::new(name, 0.0, "GB/s", limit);
        figure.value = None;
        if kernel.is_available() {
            let mut masks = measure::Masks::new(kernel, SEEDS, ENTRIES)?;
            let gb_s = 1.0 / cpu::ns_per_unit(runs, || masks.add());
            figure.value = Some(gb_s);
            if let Some(peak) = peak(kernel, runs) {
                figure.note = format!("{:.2} of the AES units' {peak:.1} GB/s", gb_s / peak);
                if kernel == Kernel::best() {
                    share = Some((kernel, gb_s / peak));
                }
            }
        }
        measured.figures.push(figure);
        progress.step(1);
    }
    let mut figure = Figure::new("kernel_share_of_peak", 0.0, "", Limit::AtLeast(0.85));
    figure.value = share.map(|(_, share)| share);
    figure.note = share.map_or_else(
        || "this CPU has no AES instructions".to_owned(),
        |(kernel, _)| format!("of {kernel}, which every session here uses"),
    );
    measured.figures.push(figure);
    Ok(measured)
}

/// GB/s of the AES units alone, if the kernel uses them.
fn peak(kernel: Kernel, runs: usize) -> Option<f64> {
    measure::peak(kernel, PEAK_BYTES / 16)?;
    Some(1.0 / cpu::ns_per_unit(runs, || measure::peak(kernel, PEAK_BYTES).unwrap_or(0)))
}
