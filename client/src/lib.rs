//! Koinon: client.
