//! The protocol as a whole: sums against an oracle, adversaries, decoders, known answers.

mod attacks;
mod decoders;
mod oracle;
mod support;
mod vectors;
