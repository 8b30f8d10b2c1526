//! Split inference in the demo: the measured site cuts the trained network where its policy permits, sends activations to the
//! partition server, and compares with the uncut network.

use anyhow::Context as _;
use serde::Deserialize;

use super::federation::{Federation, last_line};
use super::outcome::Split;
use super::screen::Screen;
use super::stage::Stage;
use crate::commands::view::TaskView;

/// What `koinon infer --format json` prints.
#[derive(Deserialize)]
struct Inferred {
    cut: u32,
    boundary: String,
    rows: u64,
    max_abs_diff: f64,
    activation_bytes: u64,
    raw_bytes: u64,
    transport: Bytes,
}

/// Bytes of one process.
#[derive(Clone, Copy, Default, Deserialize)]
pub(crate) struct Bytes {
    pub(crate) written: u64,
    pub(crate) handshake_written: u64,
}

/// What split inference wrote to its sockets.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) written: u64,
    pub(crate) handshake: u64,
}

impl From<Bytes> for Sent {
    fn from(bytes: Bytes) -> Sent {
        Sent { written: bytes.written, handshake: bytes.handshake_written }
    }
}

/// Runs it; gives the figures and what went over the wire.
pub(crate) fn run(
    stage: &mut Stage,
    federation: &mut Federation,
    screen: &Screen,
    view: &TaskView,
) -> anyhow::Result<(Split, Sent)> {
    let site = federation.measured.clone();
    stage.call(&[
        "model",
        "pull",
        &view.version,
        "--dir",
        "partition",
        "--out",
        "partition/models/federated",
    ])?;
    stage.call(&[
        "model",
        "pull",
        &view.version,
        "--dir",
        "operator",
        "--out",
        &format!("{site}/federated"),
    ])?;
    let listen = format!("127.0.0.1:{}", federation.partition_port);
    stage.start("partition", &["partition", "run", "--dir", "partition", "--listen", &listen])?;
    wait_for(&listen)?;
    // The cut behind the first layer's activation: the last thing that leaves is no longer a gene.
    let cut = "2";
    stage.call(&["client", "permit-cut", &view.version, cut, "--dir", &site])?;
    let through = format!("127.0.0.1:{}", federation.relay.port("partition")?);
    let model = format!("{site}/federated");
    let printed = stage.call(&[
        "infer",
        "--dir",
        &site,
        "--model",
        &model,
        "--partition",
        &through,
        "--cut",
        cut,
        "--format",
        "json",
    ])?;
    let inferred: Inferred =
        serde_json::from_str(last_line(&printed)).context("`koinon infer` is not understood")?;
    screen.step(
        "split",
        format!(
            "{site} cut the network behind `{}`, sent {} activations to the partition server; largest difference to the uncut network {:.1e}",
            inferred.boundary, inferred.rows, inferred.max_abs_diff
        ),
    );
    let sent = Sent::from(inferred.transport);
    let split = Split {
        cut: inferred.cut,
        boundary: inferred.boundary,
        rows: inferred.rows,
        max_abs_diff: inferred.max_abs_diff,
        bytes_sent: inferred.activation_bytes,
        raw_bytes: inferred.raw_bytes,
    };
    Ok((split, sent))
}

/// Waits until something listens.
pub(crate) fn wait_for(address: &str) -> anyhow::Result<()> {
    for _ in 0..500 {
        if std::net::TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    anyhow::bail!("nothing listens on {address} after ten seconds; see the logs folder")
}
