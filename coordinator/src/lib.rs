//! Koinon: coordinator.
