//! End-to-end tests, in one binary.

mod hostile;
mod proxy;
mod restart;
mod rounds;
mod tidy;
