//! Koinon: model.
pub mod digest;
pub mod dataset;
pub mod features;
pub mod metrics;
