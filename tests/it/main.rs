//! End-to-end tests, in one binary.

#![expect(clippy::unwrap_used, reason = "tests")]

mod hostile;
mod proxy;
mod restart;
mod rounds;
mod tidy;
