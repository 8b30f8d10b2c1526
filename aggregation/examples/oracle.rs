//! Compares every kernel of this machine with the `aes` and `ctr` crates over a thousand million
//! words of key stream, or as many as the first argument says:
//! `cargo run --release -p koinon-aggregation --example oracle`. The second argument is a seed.

#![expect(clippy::print_stdout, reason = "the result is what this is run for")]

use std::process::ExitCode;

use koinon_aggregation::kernel::{Kernel, measure};
use rand::SeedableRng;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let words = numbers.next().unwrap_or(1_000_000_000);
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(numbers.next().unwrap_or(1));
    let mut good = true;
    for kernel in Kernel::ALL.into_iter().filter(|kernel| *kernel != Kernel::Portable) {
        match measure::compare(kernel, words, &mut rng) {
            Ok(compared) => {
                println!("{kernel}: {} of {} words differ", compared.differing, compared.words);
                good &= compared.differing == 0;
            }
            Err(absent) => println!("{kernel}: {absent}"),
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
