//! End-to-end tests, in one binary.

#![expect(clippy::unwrap_used, reason = "tests")]

mod adversaries;
mod hostile;
mod proxy;
mod restart;
mod rounds;
mod tidy;
