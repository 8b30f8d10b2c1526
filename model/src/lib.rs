//! Koinon: model.
