//! CPU time: what a figure is measured in. How long a machine with other work takes is not asked.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time that this process has had, all its threads together.
pub(crate) fn spent() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The CPU time of a piece of work, and what comes of it. Nothing else may run meanwhile.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = spent();
    let result = work();
    (result, spent().saturating_sub(start))
}

/// Sums up the CPU time of pieces of work that belong together.
#[derive(Default)]
pub(crate) struct Meter {
    total: Duration,
}

impl Meter {
    /// Does a piece of work on the meter.
    pub(crate) fn run<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (result, spent) = timed(work);
        self.total += spent;
        result
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.total.as_secs_f64()
    }
}

/// The middle of several runs of a piece of work that says how many units it did: nanoseconds of CPU
/// time a unit.
pub(crate) fn ns_per_unit(runs: usize, mut work: impl FnMut() -> u64) -> f64 {
    work();
    let mut all: Vec<f64> = (0..runs.max(1))
        .map(|_| {
            let (units, spent) = timed(&mut work);
            spent.as_secs_f64() * 1e9 / units.max(1) as f64
        })
        .collect();
    median(&mut all)
}

/// The middle one, the upper of two.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_cpu_time_and_sleep_does_not() {
        let count = || std::hint::black_box((0..20_000_000_u64).fold(0, |a, b| a ^ b));
        let (_, worked) = timed(count);
        assert!(worked > Duration::ZERO);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert!(median(&mut []).is_nan());
    }
}
