//! Error bounds of the codecs, and bytes that are no activation.

use proptest::prelude::*;

use super::*;

/// An image of two channels and a vector in each row, and a mask.
fn crossing(rows: usize, values: &[f32]) -> Crossing {
    let mut values = values.iter().copied().cycle();
    let mut tensor = |shape: Vec<usize>| {
        let n = shape.iter().product();
        Value::new(shape, Data::F32(values.by_ref().take(n).collect())).unwrap()
    };
    let numbers = vec![tensor(vec![rows, 2, 4, 4]), tensor(vec![rows, 4])];
    let mask = Value::new(vec![rows, 3], Data::Bool(vec![true; rows * 3])).unwrap();
    Crossing::new(2, false, [numbers, vec![mask]].concat())
}

fn through(crossing: &Crossing, codec: Codec) -> Crossing {
    let bytes = Activation::encode(crossing, codec).unwrap().into_bytes();
    Crossing::new(2, false, Activation::decode(&bytes, 1 << 16).unwrap())
}

fn floats(crossing: &Crossing) -> Vec<f32> {
    let all = crossing.values().iter().filter_map(|value| match value.data() {
        Data::F32(items) => Some(items.clone()),
        _ => None,
    });
    all.flatten().collect()
}

#[test]
fn sizes_are_as_announced() {
    let crossing = crossing(2, &[1.0, -2.0, 0.5]);
    let shapes = || crossing.values().iter().map(|value| (value.dtype(), value.shape()));
    // Two rows of 32 + 4 values and 3 flags; headers of 8 + 3 · 8 bytes and 4 for each of 8 sides.
    let head = 8 + 24 + 32 + 6;
    let groups = 2 * 3;
    for (codec, bytes) in [
        (Codec::F32, 288),
        (Codec::F16, 144),
        (Codec::Bf16, 144),
        (Codec::Int8, 72 + groups * 8),
        (Codec::Int4, 36 + groups * 8),
    ] {
        let activation = Activation::encode(&crossing, codec).unwrap();
        assert_eq!(activation.bytes().len(), head + bytes, "{codec:?}");
        assert_eq!(codec.bytes_for(shapes()), head + bytes);
    }
}

#[test]
fn a_rows_bytes_do_not_depend_on_its_companions() {
    let values: Vec<f32> = (0..72).map(|i| (i as f32 * 0.7).sin() * (1 + i / 36) as f32).collect();
    let both = crossing(2, &values);
    for codec in Codec::ALL {
        let alone = through(&both.split(&[1, 1]).unwrap()[1], codec);
        assert!(through(&both, codec).split(&[1, 1]).unwrap()[1] == alone);
    }
}

#[test]
fn raw_inputs_and_unwritable_values_are_refused() {
    let raw = Crossing::new(0, true, crossing(1, &[0.5]).into_values());
    let refused = Activation::encode(&raw, Codec::F32).err();
    assert_eq!(refused, Some(CodecError::Raw { position: 0 }));
    for (value, codecs) in [
        (f32::NAN, &Codec::ALL[..]),
        (f32::INFINITY, &Codec::ALL),
        (65_520.0, &[Codec::F16]),
        (f32::MAX, &[Codec::F16, Codec::Bf16]),
    ] {
        for &codec in codecs {
            let error = Activation::encode(&crossing(1, &[value]), codec).err();
            assert_eq!(error, Some(CodecError::Value { tensor: 0, codec }));
        }
    }
}

#[test]
fn integers_and_single_numbers_pass_as_they_are() {
    let ids = Value::new(vec![2, 2], Data::I64(vec![1, -2, i64::MAX, 0])).unwrap();
    let number = Value::new(Vec::new(), Data::F32(vec![0.1])).unwrap();
    let empty = Value::new(vec![2, 0], Data::F32(Vec::new())).unwrap();
    let crossing = Crossing::new(2, false, vec![ids, number, empty]);
    for codec in [Codec::F32, Codec::Int8, Codec::Int4] {
        assert!(through(&crossing, codec) == crossing, "{codec:?}");
    }
}

#[test]
fn hostile_scales_give_an_error_and_no_infinity() {
    let crossing = crossing(1, &[0.0, 1.0]);
    let mut bytes = Activation::encode(&crossing, Codec::Int8).unwrap().into_bytes();
    let low = 8 + 4 + 4 * 4 + 4;
    for hostile in [f32::NAN, f32::INFINITY] {
        bytes[low..low + 4].copy_from_slice(&hostile.to_le_bytes());
        let read = Activation::decode(&bytes, 1 << 16).err();
        assert_eq!(read, Some(CodecError::Malformed("a value is no finite number")));
    }
    bytes[low..low + 4].copy_from_slice(&f32::MAX.to_le_bytes());
    bytes[low + 4..low + 8].copy_from_slice(&f32::MAX.to_le_bytes());
    assert!(Activation::decode(&bytes, 1 << 16).is_err());
}

#[test]
fn announced_sides_are_limited_before_anything_is_allocated() {
    let whole = Activation::encode(&crossing(1, &[1.0]), Codec::F32).unwrap().into_bytes();
    for side in [5u32, u32::MAX] {
        let mut bytes = whole.clone();
        bytes[12..16].copy_from_slice(&side.to_le_bytes());
        assert!(Activation::decode(&bytes, 1 << 16).is_err());
    }
    let error = Activation::decode(&whole, 33).err();
    assert_eq!(error, Some(CodecError::Large { max: 1 }), "32 of 33 are taken by the first");
}

proptest! {
    #[test]
    fn errors_stay_within_their_bounds(
        values in prop::collection::vec(-1000.0f32..1000.0, 36),
        rows in 1usize..4,
    ) {
        let whole = crossing(rows, &values);
        prop_assert!(through(&whole, Codec::F32) == whole);
        for codec in Codec::ALL {
            let bound = Activation::encode(&whole, codec).unwrap().error_max();
            let read = floats(&through(&whole, codec));
            let worst = floats(&whole).iter().zip(&read).fold(0.0f32, |m, (x, y)| m.max((x - y).abs()));
            prop_assert!(worst <= bound, "{codec:?}: {worst} > {bound}");
        }
        let half = floats(&through(&whole, Codec::F16));
        for (x, y) in floats(&whole).iter().zip(half) {
            prop_assert!((x - y).abs() <= x.abs() / 2048.0 + 2f32.powi(-25));
        }
    }

    #[test]
    fn garbage_never_panics(bytes in any::<Vec<u8>>(), tail in any::<Vec<u8>>()) {
        prop_assert!(Activation::decode(&bytes, 1 << 16).is_err());
        let framed = [b"KACT\x02\x00\x01\x00", tail.as_slice()].concat();
        let _ = Activation::decode(&framed, 1 << 16);
    }

    #[test]
    fn damage_is_an_error_or_other_values(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let activation = Activation::encode(&crossing(2, &[1.0, 2.0]), Codec::F16).unwrap();
        let mut bytes = activation.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let _ = Activation::decode(&bytes, 1 << 16);
    }
}
