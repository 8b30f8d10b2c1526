//! Small planted networks of which it is known what they tell.

use koinon_model::params::Params;
use koinon_model::spec::ModelSpec;

use super::*;

const SETTINGS: Settings =
    Settings { aux_rows: 240, test_rows: 60, distance_rows: 120, epochs: 20, seed: 1 };

fn network(nodes: &str, width: usize) -> Network {
    let spec =
        format!(r#"{{"name":"m","inputs":[{{"name":"x","shape":[{width}]}}],"nodes":[{nodes}]}}"#);
    let spec = ModelSpec::from_json(spec.as_bytes()).unwrap().check().unwrap();
    Network::layers(&spec, &Params::init(&spec, 5)).unwrap()
}

/// Rows of independent numbers.
fn rows(n: usize) -> Vec<f32> {
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    (0..n).map(|_| (rng.next_u32() >> 8) as f32 / (1 << 24) as f32).collect()
}

fn of(network: &Network, width: usize, cut: u32, codec: Codec) -> Leakage {
    let x = rows(300 * width);
    let rows = Rows { x: &x, width, image: None };
    measure(network, &rows, cut, codec, &SETTINGS).unwrap_or_else(|error| panic!("{error}")).0
}

/// Wide, wide behind a ReLU, narrow, a single number, then the end.
fn funnel() -> Network {
    network(
        r#"{"name":"wide","op":{"linear":{"units":24}},"inputs":["x"]},
        {"name":"act","op":"relu","inputs":["wide"]},
        {"name":"narrow","op":{"linear":{"units":3}},"inputs":["act"]},
        {"name":"one","op":{"linear":{"units":1}},"inputs":["narrow"]},
        {"name":"end","op":{"linear":{"units":2}},"inputs":["one"]}"#,
        12,
    )
}

#[test]
fn an_invertible_head_tells_all_and_one_number_little() {
    let network = funnel();
    let all = of(&network, 12, 1, Codec::F32);
    let best = &all.best().unwrap().quality;
    assert!(best.r2.iter().all(|r2| r2.unwrap() > 0.999), "{best:?}");
    assert_eq!(best.recovered(), 12);
    assert!(all.distance_correlation > 0.9, "{all:?}");
    let one = of(&network, 12, 4, Codec::F32);
    let best = &one.best().unwrap().quality;
    let mean = best.r2.iter().flatten().sum::<f64>() / 12.0;
    // One direction of twelve equal ones holds a twelfth of the variance.
    assert!(mean < 0.15 && best.relative_error > 0.9, "{best:?}");
    assert_eq!((one.width, all.width, all.row_bytes), (1, 24, 8 + 8 + 2 * 4 + 24 * 4));
}

#[test]
fn it_gets_less_with_depth_and_with_coarser_codecs() {
    let network = funnel();
    let error = |cut, codec| of(&network, 12, cut, codec).best().unwrap().quality.relative_error;
    let depth: Vec<f64> = [1, 2, 3, 4].iter().map(|&cut| error(cut, Codec::F32)).collect();
    assert!(depth.is_sorted() && depth[3] > depth[0] + 0.5, "{depth:?}");
    let codecs = [Codec::F32, Codec::Int8, Codec::Int4].map(|codec| error(1, codec));
    assert!(codecs.is_sorted() && codecs[2] > 10.0 * codecs[0], "{codecs:?}");
}

#[test]
fn the_same_seed_measures_the_same_and_another_one_does_not() {
    let network = funnel();
    let x = rows(300 * 12);
    let rows = Rows { x: &x, width: 12, image: None };
    let one = measure(&network, &rows, 2, Codec::Int8, &SETTINGS).unwrap();
    let again = measure(&network, &rows, 2, Codec::Int8, &SETTINGS).unwrap();
    assert!(one.0 == again.0 && one.1.guess == again.1.guess);
    let other = Settings { seed: 2, ..SETTINGS };
    let other = measure(&network, &rows, 2, Codec::Int8, &other).unwrap();
    assert!(one.0.attacks != other.0.attacks && one.1.truth != other.1.truth);
    let text = serde_json::to_string(&one.0).unwrap();
    assert_eq!(serde_json::from_str::<Leakage>(&text).unwrap(), one.0);
}

#[test]
fn images_are_rebuilt_by_convolutions() {
    let spec = br#"{"name":"m","inputs":[{"name":"x","shape":[1,12,12]}],"nodes":[
        {"name":"conv","op":{"conv2d":{"channels":4,"kernel":[3,3],"padding":[1,1]}},"inputs":["x"]},
        {"name":"pool","op":{"max_pool2d":{"kernel":[2,2],"stride":[2,2]}},"inputs":["conv"]},
        {"name":"flat","op":"flatten","inputs":["pool"]},
        {"name":"fc","op":{"linear":{"units":2}},"inputs":["flat"]}]}"#;
    let spec = ModelSpec::from_json(spec).unwrap().check().unwrap();
    let network = Network::layers(&spec, &Params::init(&spec, 3)).unwrap();
    // Bright squares at many places.
    let x: Vec<f32> = (0..120usize)
        .flat_map(|at| {
            let (top, left) = (at * 7 % 8, at * 5 % 8);
            (0..144).map(move |cell| {
                let (y, x) = (cell / 12, cell % 12);
                f32::from(u8::from((top..top + 4).contains(&y) && (left..left + 4).contains(&x)))
            })
        })
        .collect();
    let rows = Rows { x: &x, width: 144, image: Some([1, 12, 12]) };
    let settings = Settings { aux_rows: 90, test_rows: 30, epochs: 30, ..SETTINGS };
    let got = [1, 2, 3].map(|cut| measure(&network, &rows, cut, Codec::F32, &settings).unwrap());
    let methods = got.each_ref().map(|(leakage, _)| {
        leakage.attacks.iter().any(|attack| attack.method == Method::Convolutions)
    });
    assert_eq!(methods, [true, true, false], "a vector has no places");
    let ssim = got.each_ref().map(|(leakage, _)| leakage.ssim().unwrap());
    assert!(ssim[0] > 0.95 && ssim[0] > ssim[1], "{ssim:?}");
    assert!(got.iter().all(|(leakage, rebuilt)| {
        leakage.r2().is_none() && rebuilt.guess.iter().all(|x| (0.0..=1.0).contains(x))
    }));
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let network = funnel();
    let x = rows(300 * 12);
    let all = Rows { x: &x, width: 12, image: None };
    let of = |rows: &Rows<'_>, cut, settings: &Settings| {
        measure(&network, rows, cut, Codec::F32, settings).map(|_| ()).unwrap_err()
    };
    assert!(matches!(of(&all, 0, &SETTINGS), LeakageError::Cut(0)));
    assert!(matches!(of(&all, 5, &SETTINGS), LeakageError::Cut(5)));
    assert!(matches!(of(&all, 99, &SETTINGS), LeakageError::Cut(99)));
    let many = Settings { aux_rows: usize::MAX, ..SETTINGS };
    assert!(matches!(of(&all, 1, &many), LeakageError::Rows { have: 300, .. }));
    let few = Settings { test_rows: 3, ..SETTINGS };
    assert!(matches!(of(&all, 1, &few), LeakageError::Rows { .. }));
    let none = Rows { x: &[], width: 0, image: None };
    assert!(matches!(of(&none, 1, &SETTINGS), LeakageError::Rows { .. }));
    let other = Rows { x: &x, width: 10, image: None };
    assert!(matches!(of(&other, 1, &SETTINGS), LeakageError::Network(_)));
}
