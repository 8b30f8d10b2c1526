//! A whole consortium in one process, for the end-to-end tests: real sockets on loopback, real mutual
//! TLS, real folders, port 0.
//!
//! Every node has a runtime of its own, so that dropping one is as abrupt as `kill -9`: nothing of it
//! runs on, and only what was durable is left. Deliberately no stand-ins for the shipped code, except
//! for the trainer, which needs no data. Start at [`Cluster::start`].

#![expect(clippy::unwrap_used, missing_docs, reason = "support for tests")]

pub mod cluster;
pub mod hostile;
pub mod node;
pub mod operator;
pub mod relay;
pub mod task;
pub mod trainer;

pub use cluster::{Cluster, Shape};
pub use node::{CoordinatorNode, SiteNode};
pub use operator::Operator;
pub use relay::{Proxy, Relay};
pub use task::Task;
pub use trainer::{Gate, Steady};

use std::time::{Duration, Instant};

/// Waits until something is so, and says what it waited for if it never is.
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Logs of the nodes, when `RUST_LOG` asks for them.
pub fn logs() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
