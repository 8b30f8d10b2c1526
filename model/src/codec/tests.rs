//! Error bounds of the codecs, and bytes that are no activation.

use proptest::prelude::*;

use super::*;
use crate::spec::{CheckedSpec, ModelSpec};

/// At the cut behind `act` a channel image and a vector are alive.
fn spec() -> CheckedSpec {
    let text = r#"{"name":"m","inputs":[{"name":"x","shape":[2,5,5]},{"name":"z","shape":[3]}],
        "nodes":[
        {"name":"conv","op":{"conv2d":{"channels":2,"kernel":[2,2]}},"inputs":["x"]},
        {"name":"fc","op":{"linear":{"units":4}},"inputs":["z"]},
        {"name":"act","op":"relu","inputs":["fc"]},
        {"name":"pool","op":"flatten","inputs":["conv"]},
        {"name":"cat","op":{"concat":{"axis":0}},"inputs":["pool","act"]},
        {"name":"out","op":{"linear":{"units":2}},"inputs":["cat"]}]}"#;
    ModelSpec::from_json(text.as_bytes()).unwrap().check().unwrap()
}

fn cut() -> Cut {
    Cut::after(&spec(), "act").unwrap()
}

fn boundary(rows: usize, values: &[f32]) -> Boundary {
    let mut values = values.iter().copied().cycle();
    let mut tensor = |shape: Vec<usize>| {
        let n = shape.iter().product();
        Tensor::new(shape, values.by_ref().take(n).collect()).unwrap()
    };
    Boundary::new(vec![tensor(vec![rows, 2, 4, 4]), tensor(vec![rows, 4])]).unwrap()
}

fn same(left: &Boundary, right: &Boundary, fine: impl Fn(f32, f32) -> bool) -> bool {
    left.tensors().iter().zip(right.tensors()).all(|(left, right)| {
        left.shape() == right.shape()
            && left.data().iter().zip(right.data()).all(|(&left, &right)| fine(left, right))
    })
}

#[test]
fn sizes_are_as_announced() {
    let cut = cut();
    // Two rows of 32 + 4 values, headers of 12 + 2 · 4 bytes; 2 + 1 groups a row.
    for (codec, bytes) in [(Codec::F32, 288), (Codec::F16, 144), (Codec::Int8, 72 + 6 * 8)] {
        let activation = Activation::encode(&cut, &boundary(2, &[1.0, -2.0, 0.5]), codec).unwrap();
        assert_eq!(activation.bytes().len(), 20 + bytes);
        assert_eq!(codec.bytes_for(&cut, 2), 20 + bytes);
    }
}

#[test]
fn a_rows_bytes_do_not_depend_on_its_companions() {
    let cut = cut();
    let values: Vec<f32> = (0..72).map(|i| (i as f32 * 0.7).sin() * (1 + i / 36) as f32).collect();
    let both = boundary(2, &values);
    for codec in [Codec::F16, Codec::Int8] {
        let decode = |boundary: &Boundary| {
            let bytes = Activation::encode(&cut, boundary, codec).unwrap().into_bytes();
            Activation::decode(&bytes, &cut, 8).unwrap()
        };
        let alone = decode(&both.rows(1..2).unwrap());
        assert!(decode(&both).rows(1..2).unwrap() == alone);
    }
}

#[test]
fn raw_inputs_and_unwritable_values_are_refused() {
    let spec = spec();
    let start = Cut::at(&spec, 0).unwrap();
    let rows = Boundary::from_rows(&spec, &[0.5; 53]).unwrap();
    let refused = Activation::encode(&start, &rows, Codec::F32).err();
    assert_eq!(refused, Some(CodecError::Raw { position: 0 }));
    // Behind `conv` the second input is still alive.
    assert!(Cut::after(&spec, "conv").unwrap().is_raw());
    for (value, codecs) in [
        (f32::NAN, &[Codec::F32, Codec::F16, Codec::Int8][..]),
        (f32::INFINITY, &[Codec::F32, Codec::F16, Codec::Int8]),
        (65_520.0, &[Codec::F16]),
    ] {
        for &codec in codecs {
            let error = Activation::encode(&cut(), &boundary(1, &[value]), codec).err();
            assert_eq!(error, Some(CodecError::Value { name: "conv".into(), codec }));
        }
    }
}

#[test]
fn hostile_scales_give_an_error_and_no_infinity() {
    let mut bytes =
        Activation::encode(&cut(), &boundary(1, &[0.0, 1.0]), Codec::Int8).unwrap().into_bytes();
    for hostile in [f32::MAX, f32::NAN, f32::INFINITY] {
        bytes[20..24].copy_from_slice(&hostile.to_le_bytes());
        let read = Activation::decode(&bytes, &cut(), 1).err();
        assert_eq!(read, Some(CodecError::Malformed("a value is no finite number")));
    }
}

#[test]
fn announced_rows_are_limited_before_anything_is_allocated() {
    let mut bytes =
        Activation::encode(&cut(), &boundary(1, &[1.0]), Codec::F32).unwrap().into_bytes();
    for (rows, max) in [(0u32, 4), (5, 4), (u32::MAX, usize::MAX)] {
        bytes[8..12].copy_from_slice(&rows.to_le_bytes());
        let error = Activation::decode(&bytes, &cut(), max).err();
        assert!(matches!(error, Some(CodecError::Rows { .. })), "{rows}: {error:?}");
    }
}

proptest! {
    #[test]
    fn errors_stay_within_their_bounds(
        values in prop::collection::vec(-1000.0f32..1000.0, 36),
        rows in 1usize..4,
    ) {
        let (cut, whole) = (cut(), boundary(rows, &values));
        let through = |codec| {
            let bytes = Activation::encode(&cut, &whole, codec).unwrap().into_bytes();
            Activation::decode(&bytes, &cut, rows).unwrap()
        };
        prop_assert!(through(Codec::F32) == whole);
        let half = |x: f32, y: f32| (x - y).abs() <= x.abs() / 2048.0 + 2f32.powi(-25);
        prop_assert!(same(&whole, &through(Codec::F16), half));
        let decoded = through(Codec::Int8);
        for (tensor, read) in whole.tensors().iter().zip(decoded.tensors()) {
            let group = if tensor.shape().len() == 4 { 16 } else { 4 };
            for (values, read) in tensor.data().chunks(group).zip(read.data().chunks(group)) {
                let low = values.iter().copied().fold(f32::INFINITY, f32::min);
                let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let bound = (high - low) / 510.0 + (low.abs() + high.abs()) * 2f32.powi(-22);
                prop_assert!(values.iter().zip(read).all(|(x, y)| (x - y).abs() <= bound));
            }
        }
    }

    #[test]
    fn garbage_never_panics(bytes in any::<Vec<u8>>(), tail in any::<Vec<u8>>()) {
        prop_assert!(Activation::decode(&bytes, &cut(), 8).is_err());
        let framed = [b"KACT\x01\x02\x02\x00\x01\x00\x00\x00", tail.as_slice()].concat();
        prop_assert!(Activation::decode(&framed, &cut(), 8).is_err() || tail.len() == 68);
    }

    #[test]
    fn damage_is_an_error_or_another_boundary_of_the_same_cut(
        at in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let activation = Activation::encode(&cut(), &boundary(2, &[1.0, 2.0]), Codec::F16).unwrap();
        let mut bytes = activation.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(read) = Activation::decode(&bytes, &cut(), 8) {
            prop_assert!(cut().check(&read).is_ok());
        }
    }
}
