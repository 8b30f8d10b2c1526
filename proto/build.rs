//! Compiles the .proto files with protox, so that nobody who builds Koinon needs protoc.

use std::error::Error;

const SCHEMA: [&str; 4] = [
    "koinon/v1/common.proto",
    "koinon/v1/round.proto",
    "koinon/v1/inference.proto",
    "koinon/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=koinon");
    let services = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    let descriptors = protox::compile(SCHEMA, ["."])?;
    tonic_prost_build::configure()
        .build_client(services)
        .build_server(services)
        .compile_fds(descriptors)?;
    Ok(())
}
