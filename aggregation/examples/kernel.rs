//! Measures the kernel on this machine, one core: pin it, as in
//! `taskset -c 1 cargo run --release -p koinon-aggregation --example kernel`.

#![expect(clippy::print_stdout, reason = "figures are what this is run for")]

use koinon_aggregation::kernel::{Kernel, measure};
use rustix::time::{ClockId, clock_gettime};

/// The time that this thread has had on a CPU, in nanoseconds.
fn cpu_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// The median of several runs, in units per nanosecond of CPU time.
fn rate(mut work: impl FnMut() -> u64) -> f64 {
    let mut rates: Vec<f64> = (0..9)
        .map(|_| {
            let start = cpu_ns();
            let units = work();
            units as f64 / (cpu_ns() - start)
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn main() {
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let peak = measure::peak(kernel, 1 << 30)
            .map_or(f64::NAN, |_| rate(|| measure::peak(kernel, 1 << 30).unwrap_or(0)));
        println!("{kernel}: peak of the AES units {peak:.1} GB/s");
        for (n_seeds, entries) in [(120, 1 << 20), (120, 16_514), (1, 1 << 20)] {
            let mut masks = measure::Masks::new(kernel, n_seeds, entries).expect("available");
            let got = rate(|| masks.add());
            println!(
                "  {n_seeds} masks of {entries} words: {got:.1} GB/s, {:.2} of it",
                got / peak
            );
        }
    }
}
