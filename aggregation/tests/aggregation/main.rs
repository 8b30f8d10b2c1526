//! The protocol as a whole: sums against an oracle, adversaries, decoders, known answers.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod attacks;
mod case;
mod decoders;
mod oracle;
mod sparse;
mod sparse_attacks;
mod support;
mod vectors;
