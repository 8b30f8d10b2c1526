//! Measures the kernel on this machine, one core: pin it, as in
//! `taskset -c 1 cargo run --release -p koinon-aggregation --example kernel`.

#![expect(clippy::print_stdout, reason = "figures are what this is run for")]

use koinon_aggregation::kernel::{Kernel, measure};
use rand::SeedableRng;
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
        let peak = match kernel {
            Kernel::Portable => f64::NAN,
            _ => rate(|| measure::peak(kernel, 1 << 30).expect("the kernel is available")),
        };
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
    rows();
    field();
}

fn rows() {
    for entries in [1 << 14, 1 << 24] {
        let mut rows = measure::Rows::new(entries);
        println!("adding rows of {entries} words: {:.1} GB/s", rate(|| rows.add()));
        for bits in [8, 17, 20, 25, 31, 32, 33, 40, 63] {
            let mut packed = measure::Packed::new(entries, bits);
            let pack = 1.0 / rate(|| packed.pack());
            let add = 1.0 / rate(|| packed.add());
            println!("  {bits} bits a word: pack {pack:.2}, add packed {add:.2} ns a word");
        }
    }
}

fn field() {
    println!("products: {:.2} a nanosecond", rate(|| measure::products(1 << 22)));
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    for (t, holders) in [(51, 101), (87, 120), (667, 1_000)] {
        let mut sharing = measure::Sharing::new(t, holders, &mut rng);
        let each_us = |work: &mut dyn FnMut()| {
            let n = 20;
            let run = || {
                (0..n).for_each(|_| work());
                n
            };
            1e-3 / rate(run)
        };
        let split = each_us(&mut || sharing.split(&mut rng));
        let find = each_us(&mut || sharing.find_coefficients(1));
        let mut without = 0;
        let adapt = each_us(&mut || {
            without = (without + 1) % t;
            sharing.adapt_coefficients(without);
        });
        let combine = each_us(&mut || assert!(sharing.combine()));
        println!(
            "{t} of {holders}: split {split:.1} us, coefficients {find:.1} us, \
             one holder for another {adapt:.1} us, combine {combine:.2} us"
        );
    }
}
