//! Compiles the .proto files with protox, so that nobody who builds Koinon needs protoc.

use std::error::Error;

const SCHEMA: [&str; 4] = [
    "koinon/v1/common.proto",
    "koinon/v1/round.proto",
    "koinon/v1/inference.proto",
    "koinon/v1/admin.proto",
];

/// Messages that carry values of models or rows: what `Debug` says of them is in `src/redacted.rs`.
const REDACTED: [&str; 5] = [
    "koinon.v1.Envelope",
    "koinon.v1.UploadChunk",
    "koinon.v1.BlobChunk",
    "koinon.v1.Activation",
    "koinon.v1.InferenceReply",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=koinon");
    let services = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    let descriptors = protox::compile(SCHEMA, ["."])?;
    tonic_prost_build::configure()
        .build_client(services)
        .build_server(services)
        .skip_debug(REDACTED)
        .compile_fds(descriptors)?;
    Ok(())
}
