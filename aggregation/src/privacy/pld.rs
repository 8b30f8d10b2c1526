//! Privacy-loss distributions.
