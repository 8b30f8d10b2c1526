//! Measures a network at this site, at a partition server and on the way between: a [`Profile`].
//!
//! At every cut that the policy permits the head is timed here and the rest at the server, with made-up
//! inputs, through the same door and connection as real questions. It chooses nothing; that is
//! [`crate::plan`]. Start at [`measure`].

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use koinon_model::codec::{Activation, Codec};
use koinon_model::crossing::Crossing;
use koinon_model::network::Network;
use koinon_model::program::Value;
use koinon_proto::Digest;

use super::config;
use super::control::read_policy;
use super::error::NodeError;
use super::inference::{Inference, Options};
use crate::plan::sample::{self, Size};
use crate::plan::{CodecProfile, CutProfile, Link, Profile};
use crate::policy::Policy;
use crate::split::{Origin, Placement};

/// Runs of which the median counts.
const RUNS: usize = 5;
/// A link about which nothing is known: a local network.
const RTT_US: f64 = 1_000.0;
const BYTES_PER_S: f64 = 125e6;
/// How long a measured question is waited for.
const PATIENCE_MS: u32 = 30_000;

/// What is measured.
pub struct Measured<'a> {
    /// The site's folder.
    pub dir: &'a Path,
    /// The partition server, `host:port`.
    pub server: &'a str,
    /// The network.
    pub network: Arc<Network>,
    /// Digests of its two files.
    pub names: (Digest, Digest),
    /// How large one question is.
    pub size: Size,
}

/// Measures; `progress` is told each cut as it is done, of how many.
///
/// # Errors
/// [`NodeError`]: settings, a policy without any permitted cut, a server that does not answer.
pub async fn measure(
    what: &Measured<'_>,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Profile, NodeError> {
    let config = config::load(what.dir)?;
    let policy = read_policy(&config.policy)?;
    let network = &what.network;
    let nodes = u32::try_from(network.n_nodes()).unwrap_or(u32::MAX);
    let cuts = permitted(network, what.names, &policy);
    if cuts.is_empty() {
        return Err(NodeError::Refused(
            "the policy permits no cut of this network: `koinon client permit-cut` adds one, \
             `koinon model cuts` shows them"
                .into(),
        ));
    }
    let inputs =
        sample::inputs(network, what.size).map_err(|e| NodeError::Config(e.to_string()))?;
    let servers = [what.server.to_owned()];
    let mut inference = Inference::open(Options {
        dir: what.dir,
        servers: &servers,
        network: Arc::clone(network),
        names: what.names,
        placement: Placement::here(nodes),
    })?;
    let mut link = Link::new(RTT_US, BYTES_PER_S);
    let mut measured = Vec::with_capacity(cuts.len());
    for (done, &position) in cuts.iter().enumerate() {
        measured.push(one_cut(what, position, &inputs, &mut inference, &mut link).await?);
        progress(done + 1, cuts.len());
    }
    let (here_us, _) = timed(network, 0, nodes, &inputs)?;
    inference.close().await;
    Ok(Profile {
        version: what.names.1.to_string(),
        rows: what.size.rows,
        nodes,
        here_us,
        kernels: network.kernels().to_owned(),
        cuts: measured,
        link,
    })
}

/// The legal cuts that the policy permits.
fn permitted(network: &Network, names: (Digest, Digest), policy: &Policy) -> Vec<u32> {
    let legal = network.cuts().iter().filter(|cut| cut.is_legal());
    let positions = legal.filter_map(|cut| u32::try_from(cut.position).ok());
    positions.filter(|&at| policy.permits_cut(&names.0, &names.1, at)).collect()
}

async fn one_cut(
    what: &Measured<'_>,
    position: u32,
    inputs: &[Value],
    inference: &mut Inference,
    link: &mut Link,
) -> Result<CutProfile, NodeError> {
    let network = &what.network;
    let nodes = u32::try_from(network.n_nodes()).unwrap_or(u32::MAX);
    let (head_us, crossing) = timed(network, 0, position, inputs)?;
    inference.place(Placement::tail(position, nodes).with_deadline(PATIENCE_MS))?;
    for _ in 0..RUNS {
        let answers = inference.answer(vec![inputs.to_vec()]).await?;
        if answers.iter().any(|answer| answer.origin != Origin::Split) {
            let why = inference.tally().problem.clone();
            let why = why.unwrap_or_else(|| "it rejected the question or was too slow".into());
            let server = what.server;
            return Err(NodeError::Refused(format!(
                "{server} did not answer at {position}: {why}"
            )));
        }
    }
    let trips = inference.trips();
    let there = trips.iter().map(|trip| trip.there).collect();
    // A server that does not tell its own time is taken to be as fast as this site.
    let tail_us = match median(there) {
        0.0 => timed(network, position, nodes, crossing.values())?.0,
        told => told,
    };
    for trip in &trips {
        let on_link = trip.whole.as_secs_f64() * 1e6 - tail_us;
        link.observe(trip.bytes.0, trip.bytes.1, on_link.max(0.0));
    }
    let after = network.cut(position).map(|cut| cut.after.clone()).unwrap_or_default();
    Ok(CutProfile {
        position,
        after,
        head_us,
        tail_us,
        answer_bytes: trips.first().map_or(0, |trip| trip.bytes.1),
        codecs: codecs(&crossing),
    })
}

/// The time of some nodes here, and what comes out.
fn timed(
    network: &Network,
    from: u32,
    to: u32,
    inputs: &[Value],
) -> Result<(f64, Crossing), NodeError> {
    let fault = |e: koinon_model::network::NetworkError| NodeError::Config(e.to_string());
    let (from, to) = (from as usize, to as usize);
    let at = network.crossing(from, inputs.to_vec()).map_err(fault)?;
    let mut times = Vec::with_capacity(RUNS);
    let mut out = None;
    for _ in 0..RUNS {
        let mut states = network.start(from..to);
        let started = Instant::now();
        out = Some(network.forward(to, &at, &mut states).map_err(fault)?);
        times.push(started.elapsed());
    }
    let out = out.ok_or_else(|| NodeError::State("nothing was run".into()))?;
    Ok((median(times), out))
}

/// Codecs that can write this crossing, with the time that writing and reading take.
fn codecs(crossing: &Crossing) -> Vec<CodecProfile> {
    let measure = |codec: Codec| {
        let activation = Activation::encode(crossing, codec).ok()?;
        let coding = (0..RUNS).map(|_| {
            let started = Instant::now();
            let written = Activation::encode(crossing, codec).ok()?;
            Activation::decode(written.bytes(), usize::MAX).ok()?;
            Some(started.elapsed())
        });
        Some(CodecProfile {
            codec,
            bytes: activation.bytes().len(),
            coding_us: median(coding.collect::<Option<_>>()?),
            error_max: activation.error_max(),
        })
    };
    Codec::ALL.into_iter().filter_map(measure).collect()
}

/// Microseconds; 0 for none.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
