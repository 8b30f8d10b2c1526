//! Koinon: proto.
