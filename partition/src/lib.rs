//! Koinon: partition.
