//! What the system says of a process: its CPU time and its memory.

use std::fs;

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit, setrlimit};

/// CPU time of a process so far, user and system, in seconds: fields 14 and 15 of its `stat`, in
/// ticks of 10 ms (proc(5)).
pub(super) fn cpu_s(id: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let rest = text.rsplit(')').next().unwrap_or_default();
    let ticks = |at: usize| rest.split_whitespace().nth(at)?.parse::<f64>().ok();
    let both = ticks(11).zip(ticks(12)).context("the system's figures of a process")?;
    Ok((both.0 + both.1) / 100.0)
}

/// The most memory that a process ever held, in MiB.
pub(super) fn peak_mib(id: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = text.lines().find(|line| line.starts_with("VmHWM"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    Ok(kib.context("the system's figures of a process")? / 1024.0)
}

/// Lets this process open so many files, as far as the system permits.
pub(super) fn allow_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        // Without them nodes say which file could not be opened.
        let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current, ..limit });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_had_time() {
        let id = std::process::id();
        assert!(peak_mib(id).unwrap() > 1.0);
        assert!(cpu_s(id).unwrap() >= 0.0);
        assert!(cpu_s(u32::MAX).is_err());
    }
}
