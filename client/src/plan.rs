//! Where to run a network: every permitted placement with its predicted time, and the choice.
//!
//! A prediction is a sum of what was measured: the head here, the codec, what crosses over the link, the
//! rest at the server, the answer back. All here is always a candidate; raw input never is, because no
//! cut that it crosses is legal. It runs nothing and sends nothing: times come from a [`Profile`], the
//! link from a [`Link`] that follows what is seen. Start at [`candidates`] and [`Planner`].
//!
//! The rule of choice is Neurosurgeon's (Kang et al., ASPLOS 2017: enumerate all cuts) with codecs as a
//! second axis, as in COACH, and hysteresis, so that noise does not move it.

mod link;
mod planner;
pub mod sample;

use koinon_model::codec::Codec;
use serde::{Deserialize, Serialize};

pub use link::Link;
pub use planner::Planner;

use crate::split::Placement;

/// What was measured of a network at this site and at a server, for one size of question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Digest of the values' file, hexadecimal.
    pub version: String,
    /// Rows of one question.
    pub rows: usize,
    /// Nodes of the network.
    pub nodes: u32,
    /// The whole network here, microseconds.
    pub here_us: f64,
    /// Kernels that computed here.
    pub kernels: String,
    /// For each permitted cut.
    pub cuts: Vec<CutProfile>,
    /// The link as it was.
    pub link: Link,
}

/// What was measured at one cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutProfile {
    /// Position of the cut.
    pub position: u32,
    /// The node before it.
    pub after: String,
    /// Nodes before the cut, here, microseconds.
    pub head_us: f64,
    /// Nodes behind it, at the server, microseconds.
    pub tail_us: f64,
    /// Bytes of the answer.
    pub answer_bytes: usize,
    /// By codec.
    pub codecs: Vec<CodecProfile>,
}

/// What was measured of one codec at one cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodecProfile {
    /// The codec.
    pub codec: Codec,
    /// Bytes that cross.
    pub bytes: usize,
    /// Writing here and reading there, microseconds.
    pub coding_us: f64,
    /// Most that a value differs by.
    pub error_max: f32,
}

impl Profile {
    /// Without the codecs that are coarser than this one: time is not everything.
    #[must_use]
    pub fn up_to(mut self, coarsest: Codec) -> Self {
        self.cuts.iter_mut().for_each(|cut| cut.codecs.retain(|one| one.codec <= coarsest));
        self
    }
}

/// One way to run the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Where the head ends; `None`: all here.
    pub cut: Option<u32>,
    /// The node before the cut.
    pub after: String,
    /// How what crosses is written.
    pub codec: Codec,
    /// Bytes that leave.
    pub bytes: usize,
    /// Predicted median, microseconds.
    pub p50_us: f64,
    /// Of these: here, on the link, at the server.
    pub parts_us: [f64; 3],
}

impl Candidate {
    /// As a placement.
    #[must_use]
    pub fn placement(&self, nodes: u32) -> Placement {
        match self.cut {
            None => Placement::here(nodes),
            Some(cut) => Placement::tail(cut, nodes).with_codec(self.codec),
        }
    }
}

/// Every placement and codec of a profile with its prediction over a link: all here first, then by cut.
#[must_use]
pub fn candidates(profile: &Profile, link: &Link) -> Vec<Candidate> {
    let here = Candidate {
        cut: None,
        after: String::new(),
        codec: Codec::F32,
        bytes: 0,
        p50_us: profile.here_us,
        parts_us: [profile.here_us, 0.0, 0.0],
    };
    let remote = profile.cuts.iter().flat_map(|cut| {
        cut.codecs.iter().map(move |coded| {
            let own = cut.head_us + coded.coding_us;
            let wire = link.trip_us(coded.bytes, cut.answer_bytes);
            Candidate {
                cut: Some(cut.position),
                after: cut.after.clone(),
                codec: coded.codec,
                bytes: coded.bytes,
                p50_us: own + wire + cut.tail_us,
                parts_us: [own, wire, cut.tail_us],
            }
        })
    });
    std::iter::once(here).chain(remote).collect()
}

/// The fastest; of equals the one that comes first, so all here before anything that leaves.
#[must_use]
pub fn best(candidates: &[Candidate]) -> Option<usize> {
    let times = candidates.iter().map(|candidate| candidate.p50_us).enumerate();
    times.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut 1 sends much early, cut 2 little late.
    pub(super) fn profile() -> Profile {
        let codecs = |bytes: usize| {
            let one = |(codec, part): (Codec, usize)| CodecProfile {
                codec,
                bytes: bytes / part,
                coding_us: if codec == Codec::F32 { 1.0 } else { 100.0 },
                error_max: 0.0,
            };
            [(Codec::F32, 1), (Codec::Int8, 4)].map(one).to_vec()
        };
        let cut = |position, head_us, tail_us, bytes| CutProfile {
            position,
            after: format!("n{position}"),
            head_us,
            tail_us,
            answer_bytes: 100,
            codecs: codecs(bytes),
        };
        Profile {
            version: String::new(),
            rows: 1,
            nodes: 3,
            here_us: 10_000.0,
            kernels: "fused".into(),
            cuts: vec![cut(1, 100.0, 1_000.0, 100_000), cut(2, 4_000.0, 600.0, 2_000)],
            link: Link::new(200.0, 125_000_000.0),
        }
    }

    #[test]
    fn a_prediction_is_the_sum_of_its_parts() {
        let profile = profile();
        let all = candidates(&profile, &profile.link);
        assert_eq!(all.len(), 5);
        for one in &all {
            assert!((one.parts_us.iter().sum::<f64>() - one.p50_us).abs() < 1e-9);
        }
        // 100,000 + 100 bytes at 125 MB/s are 800.8 µs.
        assert!((all[1].p50_us - (101.0 + 200.0 + 800.8 + 1_000.0)).abs() < 1e-6);
    }

    #[test]
    fn no_codec_is_coarser_than_the_caller_takes() {
        let exact = profile().up_to(Codec::F32);
        let all = candidates(&exact, &Link::new(200.0, 1.25e6));
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|one| one.codec == Codec::F32));
    }

    #[test]
    fn the_choice_follows_the_link() {
        let profile = profile();
        let choice = |rtt_us, bytes_per_s| {
            let all = candidates(&profile, &Link::new(rtt_us, bytes_per_s));
            let best = &all[best(&all).unwrap()];
            (best.cut, best.codec)
        };
        assert_eq!(choice(200.0, 1.25e9), (Some(1), Codec::F32));
        assert_eq!(choice(200.0, 12.5e6), (Some(1), Codec::Int8));
        assert_eq!(choice(1_000.0, 1.25e6), (Some(2), Codec::Int8));
        assert_eq!(choice(100_000.0, 625_000.0), (None, Codec::F32));
    }
}
