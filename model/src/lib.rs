//! Koinon's models: what is trained, cut and answered with, as data; and the engine that runs it.
//!
//! A model is a [`spec`] (which operations, on which shapes), a [`layout`] that follows from it, and
//! [`params`] (the values). Around them: [`features`] make a site's columns into rows, a [`plan`]
//! says how to train, [`cut`] where to split, [`codec`] how what crosses a cut is written, and
//! [`artifact`] how a version is stored. The feature `engine` (on by default) adds the one module
//! that computes; without it this crate has no tensor library.
//!
//! It deliberately opens no file and no socket, reads no clock and draws no randomness of its own:
//! bytes, seeds and stop flags are arguments. No code ever comes from outside, models are data.
//!
//! Start at [`spec::ModelSpec`], then `engine::Engine` and `engine::train`.

pub mod architectures;
pub mod artifact;
pub mod codec;
pub mod contribution;
pub mod crossing;
pub mod cut;
pub mod dataset;
pub mod digest;
#[cfg(feature = "engine")]
pub mod engine;
pub mod features;
pub mod layout;
pub mod limits;
pub mod loss;
pub mod lowering;
pub mod metrics;
#[cfg(feature = "engine")]
pub mod network;
pub mod onnx;
pub mod params;
pub mod plan;
pub mod program;
pub mod sampling;
pub mod spec;
pub mod tensor;
pub mod text;
