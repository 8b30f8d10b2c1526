//! Initialisation, arithmetic and files.

use super::*;
use crate::spec::ModelSpec;

fn spec() -> CheckedSpec {
    let text = br#"{"name":"m","inputs":[{"name":"x","shape":[3,4,4]}],"nodes":[
        {"name":"conv","op":{"conv2d":{"channels":2,"kernel":[3,3]}},"inputs":["x"]},
        {"name":"bn","op":{"batch_norm":{}},"inputs":["conv"]},
        {"name":"flat","op":"flatten","inputs":["bn"]},
        {"name":"fc","op":{"linear":{"units":5}},"inputs":["flat"]}]}"#;
    ModelSpec::from_json(text).unwrap().check().unwrap()
}

#[test]
fn fresh_values_depend_on_the_seed_only_and_stay_in_their_bounds() {
    let spec = spec();
    let params = Params::init(&spec, 7);
    assert!(params == Params::init(&spec, 7));
    assert!(params != Params::init(&spec, 8));
    let part = |name: &str| params.slice(spec.layout().entry(name).unwrap());
    for (name, fan_in) in [("conv.weight", 27.0f32), ("conv.bias", 27.0), ("fc.weight", 8.0)] {
        let bound = 1.0 / fan_in.sqrt();
        let largest = part(name).iter().fold(0.0f32, |top, w| top.max(w.abs()));
        assert!(largest <= bound && largest > bound / 4.0, "{name}: {largest} of {bound}");
    }
    assert_eq!(part("bn.weight"), [1.0, 1.0]);
    assert_eq!(part("bn.running_var"), [1.0, 1.0]);
    assert_eq!(part("bn.running_mean"), [0.0, 0.0]);
}

/// The same seed must give the same start on every machine and in every version of this program.
#[test]
fn fresh_values_are_pinned() {
    let params = Params::init(&spec(), 7);
    assert_eq!(
        hex(&params.digest()),
        "c557ec19d8a81172582b7dbb573b1f20528b1c7857b671f6be209245fd3dd8e9"
    );
}

#[test]
fn a_step_moves_trainable_values_only() {
    let (spec, start) = (spec(), Params::init(&spec(), 1));
    let layout = spec.layout();
    let next = start.stepped(layout, &vec![0.5; layout.trainable()]).unwrap();
    assert_eq!(next.values()[0], start.values()[0] + 0.5);
    assert_eq!(next.values()[layout.trainable()..], start.values()[layout.trainable()..]);
    let delta = Delta::between(layout, &start, &next).unwrap();
    assert!(delta.values().iter().all(|d| (d - 0.5).abs() < 1e-6));
    assert_eq!(delta.values().len(), layout.trainable());
    let wrong = start.stepped(layout, &[0.0]).err();
    assert_eq!(wrong, Some(ParamsError::Length { got: 1, want: layout.trainable() }));
    let broken = start.stepped(layout, &vec![f32::INFINITY; layout.trainable()]).err();
    assert_eq!(broken, Some(ParamsError::NotFinite { name: "conv.weight".into() }));
    assert!(Delta::from_values(layout, vec![f32::NAN; layout.trainable()]).is_err());
    assert!(Delta::from_values(layout, vec![0.0; layout.len()]).is_err());
}

#[test]
fn values_of_another_layout_are_refused() {
    let text = br#"{"name":"m","inputs":[{"name":"x","shape":[3]}],"nodes":[
        {"name":"fc","op":{"linear":{"units":5}},"inputs":["x"]}]}"#;
    let other = ModelSpec::from_json(text).unwrap().check().unwrap();
    let params = Params::init(&other, 1);
    assert!(matches!(params.check_layout(spec().layout()), Err(ParamsError::Layout { .. })));
    let bytes = params.to_safetensors(other.layout()).unwrap();
    let read = Params::from_safetensors(spec().layout(), &bytes).err();
    assert!(matches!(read, Some(FileError::Missing(_) | FileError::Shape { .. })), "{read:?}");
}

#[test]
fn safetensors_round_trip_is_exact() {
    let (spec, params) = (spec(), Params::init(&spec(), 3));
    let bytes = params.to_safetensors(spec.layout()).unwrap();
    assert!(Params::from_safetensors(spec.layout(), &bytes).is_ok_and(|read| read == params));
}

/// Byte for byte what Python's `safetensors.torch.save` writes for the same tensors, but for the
/// padding of its header.
#[test]
fn reads_a_file_written_by_hand() {
    let text = br#"{"name":"m","inputs":[{"name":"x","shape":[2]}],"nodes":[
        {"name":"fc","op":{"linear":{"units":1,"bias":false}},"inputs":["x"]}]}"#;
    let spec = ModelSpec::from_json(text).unwrap().check().unwrap();
    let file = |header: &str, data: &[f32]| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend(data.iter().flat_map(|value| value.to_le_bytes()));
        Params::from_safetensors(spec.layout(), &bytes)
    };
    let entry = |name: &str, kind: &str, shape: &str| {
        format!(r#"{{"{name}":{{"dtype":"{kind}","shape":{shape},"data_offsets":[0,8]}}}}"#)
    };
    let read = file(&entry("fc.weight", "F32", "[1,2]"), &[1.5, -2.0]).unwrap();
    assert_eq!(read.values(), [1.5, -2.0]);
    for (header, values, part) in [
        (entry("fc.weight", "F32", "[2,1]"), [0.0, 0.0], "F32 [2, 1]"),
        (entry("fc.weight", "I32", "[1,2]"), [0.0, 0.0], "I32 [1, 2]"),
        (entry("fc.bias", "F32", "[1,2]"), [0.0, 0.0], "the file holds `fc.bias`"),
        (entry("fc.weight", "F32", "[1,2]"), [0.0, f32::NAN], "not a finite number"),
    ] {
        let error = file(&header, &values).err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
    }
}
