//! Koinon: simulations.
