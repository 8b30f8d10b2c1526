//! The sub-commands, one file each. They parse, call a role's library and say what came out.

#[cfg(feature = "bench")]
pub(crate) mod bench;
#[cfg(feature = "client")]
pub(crate) mod client;
mod clock;
mod consortium;
#[cfg(feature = "coordinator")]
pub(crate) mod coordinator;
#[cfg(feature = "client")]
pub(crate) mod infer;
#[cfg(feature = "client")]
pub(crate) mod join;
#[cfg(feature = "client")]
pub(crate) mod ledger;
#[cfg(feature = "client")]
pub(crate) mod model;
#[cfg(feature = "client")]
pub(crate) mod operator;
#[cfg(feature = "partition")]
pub(crate) mod partition;
#[cfg(feature = "client")]
pub(crate) mod plan;
#[cfg(feature = "client")]
mod privacy;
mod public;
pub(crate) mod roster;
#[cfg(feature = "simulate")]
pub(crate) mod simulate;
#[cfg(feature = "client")]
pub(crate) mod task;
#[cfg(feature = "client")]
pub(crate) mod taskfile;
#[cfg(feature = "client")]
pub(crate) mod view;

use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};

/// The operating system's randomness. Without it no key can be made, and nothing sensible can go on.
fn entropy() -> StdRng {
    StdRng::try_from_rng(&mut SysRng).expect("the operating system gives randomness")
}

/// Logs go to standard error, ids and counts only; `KOINON_LOG` sets how much (`info` unless given).
#[cfg(any(feature = "client", feature = "coordinator", feature = "partition"))]
fn log_to_stderr() {
    use std::io::IsTerminal as _;
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("KOINON_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Colours are for people: in a file they are noise.
    let _ = log.with_ansi(std::io::stderr().is_terminal()).try_init();
}

#[cfg(any(feature = "client", feature = "coordinator", feature = "partition"))]
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).max_blocking_threads(8).enable_all().build()?)
}

/// Resolves when somebody presses Ctrl-C or the system asks the program to end.
#[cfg(any(feature = "client", feature = "coordinator", feature = "partition"))]
async fn asked_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
