//! What a request must be before it may wait: its version served, its range legal, its boundary of the cut's own shapes.
//!
//! Everything a peer sends is judged here, once; what passes cannot fail for its shape later. A refusal has a stable code and
//! costs nobody else anything. It holds no queue and no clock. Start at [`admit`].

use std::sync::Arc;

use koinon_model::codec::{Activation, Codec};
use koinon_model::crossing::Crossing;
use koinon_model::program::DType;
use koinon_proto::{Digest, limits, wire};

use crate::batcher::{Key, Micros, Nodes};
use crate::models::{Models, Served};
use crate::scheduler::Step;

/// What a request costs the queue beside its tensors.
const OVERHEAD_BYTES: usize = 1024;

/// A request that may wait for its batch.
pub struct Admitted {
    /// The peer's number for it.
    pub request: u64,
    /// What it can share a batch with.
    pub key: Key,
    /// The version that it runs on, also when another is added meanwhile.
    pub served: Arc<Served>,
    /// The tensors.
    pub crossing: Crossing,
    /// Bytes that it holds while it waits.
    pub bytes: usize,
    /// When its answer is of no more use.
    pub expires: Option<Micros>,
    /// Which step of a sequence it is, where the range remembers something.
    pub step: Option<Step>,
    /// How its answer shall be written.
    pub codec: Codec,
}

/// Judges one activation.
///
/// # Errors
/// A rejection: `too_large`, `unknown_version`, `illegal_range`, `raw_input`, `wrong_shape`, `too_many_rows`,
/// `unknown_codec`.
pub fn admit(
    models: &Models,
    rows_max: usize,
    now: Micros,
    activation: wire::Activation,
) -> Result<Admitted, wire::Rejection> {
    let bytes = activation.boundary.len();
    if bytes > limits::BOUNDARY_BYTES_MAX {
        let most = limits::BOUNDARY_BYTES_MAX;
        return Err(rejection(
            "too_large",
            format!("{bytes} bytes; at most {most} are taken at once"),
        ));
    }
    let version = Digest::try_from(activation.version.as_slice())
        .map_err(|_| rejection("unknown_version", "a version is named by 32 bytes".into()))?;
    let served = models.get(&version).ok_or_else(|| {
        let detail = format!(
            "version {} is not served here; ask which are, or pull the newer one",
            version.short()
        );
        rejection("unknown_version", detail)
    })?;
    let (from, to) = (activation.from, activation.to);
    let (Some(cut), Some(_)) = (served.cut(from), served.cut(to).filter(|_| from < to)) else {
        let nodes = served.network.n_nodes();
        return Err(rejection(
            "illegal_range",
            format!("nodes {from}..{to} are no part of a model of {nodes} nodes"),
        ));
    };
    if cut.raw {
        return Err(rejection(
            "raw_input",
            format!("a raw input crosses at {from}; it is never taken"),
        ));
    }
    if let Some(obstacle) = &cut.obstacle {
        let what = format!("no cut may be made at {from}: {obstacle:?}");
        return Err(rejection("illegal_range", what));
    }
    let wrong = |what: String| rejection("wrong_shape", what);
    let values = Activation::decode(&activation.boundary, limits::BOUNDARY_VALUES_MAX)
        .map_err(|e| wrong(e.to_string()))?;
    let position = cut.position;
    let crossing = served.network.crossing(position, values).map_err(|e| wrong(e.to_string()))?;
    let rows = crossing.rows();
    if rows == 0 || rows > rows_max {
        let what = format!("{rows} rows, 1 to {rows_max} are taken at once");
        return Err(rejection("too_many_rows", what));
    }
    let codec = codec(activation.answer_codec)?;
    let remembers = !served.network.start(from as usize..to as usize).is_empty();
    let step = Step { sequence: activation.sequence, step: activation.step, last: activation.last };
    let deadline = Micros::from(activation.deadline_ms) * 1000;
    Ok(Admitted {
        request: activation.request,
        key: Key { range: Nodes { version: version.0, from, to }, like: like(&crossing) },
        served,
        bytes: held(&crossing),
        crossing,
        expires: (deadline > 0).then(|| now.saturating_add(deadline)),
        step: (remembers && step.sequence > 0).then_some(step),
        codec,
    })
}

fn codec(code: u32) -> Result<Codec, wire::Rejection> {
    let Some(code) = code.checked_sub(1) else { return Ok(Codec::F32) };
    let codec = Codec::ALL.into_iter().find(|codec| u32::from(codec.code()) == code);
    codec.ok_or_else(|| rejection("unknown_codec", format!("no codec has the number {code}")))
}

fn like(crossing: &Crossing) -> Vec<(DType, Vec<usize>)> {
    let values = crossing.values().iter();
    values.map(|v| (v.dtype(), v.shape().get(1..).unwrap_or_default().to_vec())).collect()
}

fn held(crossing: &Crossing) -> usize {
    let values = crossing.values().iter();
    values.map(|value| value.len() * value.dtype().bytes()).sum::<usize>() + OVERHEAD_BYTES
}

/// The answer of one request on the wire.
///
/// # Errors
/// A rejection `not_finite` when the model's answer is no number, or none that the codec holds.
pub fn answer(crossing: &Crossing, codec: Codec) -> Result<Vec<u8>, wire::Rejection> {
    Activation::encode(crossing, codec)
        .map(Activation::into_bytes)
        .map_err(|e| rejection("not_finite", e.to_string()))
}

/// A rejection with a stable code.
pub(crate) fn rejection(code: &str, mut detail: String) -> wire::Rejection {
    while detail.len() > limits::DETAIL_BYTES_MAX {
        detail.pop();
    }
    wire::Rejection { code: code.into(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koinon_model::network::Form;
    use koinon_model::params::Params;
    use koinon_model::program::{Data, Value};
    use koinon_model::spec::{CheckedSpec, ModelSpec};
    use proptest::prelude::*;

    fn spec() -> CheckedSpec {
        let text = r#"{"name":"m","inputs":[{"name":"x","shape":[3]}],"nodes":[
            {"name":"fc1","op":{"linear":{"units":4}},"inputs":["x"]},
            {"name":"act","op":"relu","inputs":["fc1"]},
            {"name":"fc2","op":{"linear":{"units":1}},"inputs":["act"]}]}"#;
        ModelSpec::from_json(text.as_bytes()).unwrap().check().unwrap()
    }

    fn models() -> (Models, Digest) {
        let spec = spec();
        let params = Params::init(&spec, 1).to_safetensors(spec.layout()).unwrap();
        let models = Models::new(u64::MAX);
        let version = models.add(Form::Layers, spec.canonical(), &params).unwrap();
        (models, version)
    }

    fn activation(version: Digest, from: u32, to: u32, rows: usize) -> wire::Activation {
        let (models, served) = models();
        let network = &models.get(&served).unwrap().network;
        let value = Value::new(vec![rows, 4], Data::F32(vec![0.5; rows * 4])).unwrap();
        let crossing = network.crossing(1, vec![value]).unwrap();
        let boundary = Activation::encode(&crossing, Codec::F32).unwrap().into_bytes();
        wire::Activation {
            request: 1,
            version: version.0.to_vec(),
            from,
            to,
            boundary,
            ..wire::Activation::default()
        }
    }

    #[test]
    fn a_good_request_is_admitted_and_answered_like_the_whole_model() {
        let (models, version) = models();
        let admitted = admit(&models, 64, 0, activation(version, 1, 3, 2)).ok().unwrap();
        let network = &admitted.served.network;
        let out = network.forward(3, &admitted.crossing, &mut network.start(1..3)).unwrap();
        assert!(answer(&out, admitted.codec).is_ok());
    }

    #[test]
    fn each_fault_has_its_code() {
        let (models, version) = models();
        let code = |a: wire::Activation| admit(&models, 64, 0, a).err().map(|r| r.code);
        let good = activation(version, 1, 3, 2);
        assert_eq!(
            code(wire::Activation { version: vec![1; 32], ..good.clone() }).unwrap(),
            "unknown_version"
        );
        assert_eq!(
            code(wire::Activation { version: vec![], ..good.clone() }).unwrap(),
            "unknown_version"
        );
        assert_eq!(code(activation(version, 3, 1, 2)).unwrap(), "illegal_range");
        assert_eq!(code(activation(version, 1, 9, 2)).unwrap(), "illegal_range");
        assert_eq!(code(activation(version, 0, 3, 2)).unwrap(), "raw_input");
        assert_eq!(code(activation(version, 1, 3, 65)).unwrap(), "too_many_rows");
        assert_eq!(
            code(wire::Activation { boundary: vec![0; 7], ..good.clone() }).unwrap(),
            "wrong_shape"
        );
        let exact = activation(version, 1, 3, 2);
        assert!(
            admit(&models, 64, 0, wire::Activation { answer_codec: 4, ..exact.clone() }).is_ok()
        );
        let odd = wire::Activation { answer_codec: 77, ..exact };
        assert_eq!(code(odd).unwrap(), "unknown_codec");
        let huge = vec![0; limits::BOUNDARY_BYTES_MAX + 1];
        assert_eq!(code(wire::Activation { boundary: huge, ..good }).unwrap(), "too_large");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(boundary in prop::collection::vec(any::<u8>(), 0..200), from in 0u32..5, to in 0u32..5) {
            let (models, version) = models();
            let request = wire::Activation { boundary, ..activation(version, from, to, 1) };
            let _ = admit(&models, 64, 0, request);
        }
    }
}
