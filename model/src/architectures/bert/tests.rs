//! A tiny encoder against the same computed in plain loops from the untouched weights.

use super::*;
use crate::network::Network;
use crate::program::{Data, Value};
use safetensors::tensor::{Dtype, TensorView};

const WIDTH: usize = 4;
const INNER: usize = 6;
const WORDS: usize = 7;
const PLACES: usize = 5;

fn config(act: &str) -> String {
    format!(
        r#"{{"model_type":"bert","hidden_size":{WIDTH},"intermediate_size":{INNER},"num_hidden_layers":2,
        "num_attention_heads":2,"vocab_size":{WORDS},"max_position_embeddings":{PLACES},"type_vocab_size":2,
        "layer_norm_eps":1e-12,"hidden_act":"{act}","anything_else":true}}"#
    )
}

/// Names and shapes as in PyTorch, with numbers that follow from the place.
fn stored() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut all = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![WORDS, WIDTH]),
        ("embeddings.position_embeddings.weight".into(), vec![PLACES, WIDTH]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, WIDTH]),
        ("embeddings.LayerNorm.weight".into(), vec![WIDTH]),
        ("embeddings.LayerNorm.bias".into(), vec![WIDTH]),
        ("pooler.dense.weight".into(), vec![WIDTH, WIDTH]),
    ];
    for layer in 0..2 {
        let mut linear = |part: &str, sides: [usize; 2]| {
            let name = format!("encoder.layer.{layer}.{part}");
            all.push((format!("{name}.weight"), sides.to_vec()));
            all.push((format!("{name}.bias"), sides[..1].to_vec()));
        };
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            linear(&format!("attention.{part}"), [WIDTH, WIDTH]);
        }
        linear("intermediate.dense", [INNER, WIDTH]);
        linear("output.dense", [WIDTH, INNER]);
        for norm in ["attention.output.LayerNorm", "output.LayerNorm"] {
            all.push((format!("encoder.layer.{layer}.{norm}.weight"), vec![WIDTH]));
            all.push((format!("encoder.layer.{layer}.{norm}.bias"), vec![WIDTH]));
        }
    }
    let mut seed = 1u32;
    let mut number = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    all.into_iter()
        .map(|(name, shape)| {
            let items = (0..shape.iter().product()).map(|_| number()).collect();
            (name, shape, items)
        })
        .collect()
}

fn file(stored: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = stored
        .iter()
        .map(|(_, _, items)| items.iter().flat_map(|item| item.to_le_bytes()).collect())
        .collect();
    let views = stored.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn built(sentence: Sentence) -> Network {
    let weights = Weights::read(&file(&stored())).unwrap();
    let built = import("tiny", config("gelu").as_bytes(), weights, sentence).unwrap();
    assert_eq!(built.unused, ["pooler.dense.weight"]);
    Network::program(built.program.check(built.constants).unwrap())
}

fn inputs(rows: &[&[i64]], length: usize) -> Vec<Value> {
    let pad = |row: &&[i64], fill: i64, own: bool| {
        let mut all: Vec<i64> = row.iter().map(|id| if own { *id } else { 1 }).collect();
        all.resize(length, fill);
        all
    };
    let shape = vec![rows.len(), length];
    let ids = rows.iter().flat_map(|row| pad(row, 0, true)).collect();
    let mask = rows.iter().flat_map(|row| pad(row, 0, false)).collect();
    [ids, mask].map(|items| Value::new(shape.clone(), Data::I64(items)).unwrap()).into()
}

/// The encoder in plain loops, for one row without padding.
struct Oracle(Vec<(String, Vec<usize>, Vec<f32>)>);

impl Oracle {
    fn get(&self, name: &str) -> Vec<f64> {
        let found = self.0.iter().find(|one| one.0 == name).unwrap();
        found.2.iter().map(|&item| f64::from(item)).collect()
    }

    fn linear(&self, name: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (w, b) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let unit = |row: &Vec<f64>, unit: usize| {
            let own = &w[unit * row.len()..][..row.len()];
            b[unit] + row.iter().zip(own).map(|(a, b)| a * b).sum::<f64>()
        };
        x.iter().map(|row| (0..b.len()).map(|at| unit(row, at)).collect()).collect()
    }

    fn norm(&self, name: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (w, b) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let one = |row: &Vec<f64>| {
            let n = row.len() as f64;
            let mean = row.iter().sum::<f64>() / n;
            let var = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let unit = |(at, x): (usize, &f64)| (x - mean) / (var + 1e-12).sqrt() * w[at] + b[at];
            row.iter().enumerate().map(unit).collect()
        };
        x.iter().map(one).collect()
    }

    fn attention(&self, name: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let [q, k, v] =
            ["query", "key", "value"].map(|part| self.linear(&format!("{name}.{part}"), x));
        let mut out = vec![vec![0.0; WIDTH]; x.len()];
        for (at, out) in out.iter_mut().enumerate() {
            for head in 0..2 {
                let own = head * 2..head * 2 + 2;
                let score = |j: usize| own.clone().map(|i| q[at][i] * k[j][i]).sum::<f64>();
                let weights: Vec<f64> =
                    (0..x.len()).map(|j| (score(j) / 2f64.sqrt()).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for i in own.clone() {
                    out[i] = (0..x.len()).map(|j| weights[j] / sum * v[j][i]).sum();
                }
            }
        }
        out
    }

    fn states(&self, ids: &[i64]) -> Vec<Vec<f64>> {
        let [words, kinds, places] = ["word", "token_type", "position"]
            .map(|p| self.get(&format!("embeddings.{p}_embeddings.weight")));
        let embedded = |(at, id): (usize, &i64)| {
            let word = usize::try_from(*id).unwrap() * WIDTH;
            (0..WIDTH).map(|i| words[word + i] + kinds[i] + places[at * WIDTH + i]).collect()
        };
        let mut x: Vec<Vec<f64>> = ids.iter().enumerate().map(embedded).collect();
        x = self.norm("embeddings.LayerNorm", &x);
        let plus = |a: &[Vec<f64>], b: &[Vec<f64>]| -> Vec<Vec<f64>> {
            a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
        };
        for layer in 0..2 {
            let name = format!("encoder.layer.{layer}");
            let answer = self.attention(&format!("{name}.attention.self"), &x);
            let answer = self.linear(&format!("{name}.attention.output.dense"), &answer);
            x = self.norm(&format!("{name}.attention.output.LayerNorm"), &plus(&answer, &x));
            let mut wide = self.linear(&format!("{name}.intermediate.dense"), &x);
            for item in wide.iter_mut().flatten() {
                *item = 0.5 * *item * (1.0 + libm::erf(*item / 2f64.sqrt()));
            }
            let out = self.linear(&format!("{name}.output.dense"), &wide);
            x = self.norm(&format!("{name}.output.LayerNorm"), &plus(&out, &x));
        }
        x
    }
}

fn near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-5, "{got} instead of {want}");
    }
}

fn run(network: &Network, values: Vec<Value>) -> Vec<f64> {
    let at = network.crossing(0, values).unwrap();
    let nodes = network.n_nodes();
    let out = network.forward(nodes, &at, &mut network.start(0..nodes)).unwrap();
    out.values()[0].to_f64s()
}

#[test]
fn states_are_those_of_plain_loops_and_padding_changes_nothing() {
    let network = built(Sentence { pooling: Pooling::None, unit: false });
    let (one, two): (&[i64], &[i64]) = (&[2, 5, 6, 1], &[3, 3]);
    let oracle = Oracle(stored());
    let want = oracle.states(one).concat();
    near(&run(&network, inputs(&[one], 4)), &want);
    let padded = run(&network, inputs(&[one, two], 5));
    near(&padded[..4 * WIDTH], &want);
    near(&padded[5 * WIDTH..7 * WIDTH], &oracle.states(two).concat());
}

#[test]
fn a_sentence_is_the_mean_of_its_places_with_length_one() {
    let unit = built(Sentence { pooling: Pooling::Mean, unit: true });
    let first = built(Sentence { pooling: Pooling::First, unit: false });
    let ids: &[i64] = &[2, 5, 6];
    let states = Oracle(stored()).states(ids);
    near(&run(&first, inputs(&[ids], 5)), &states[0]);
    let mean: Vec<f64> =
        (0..WIDTH).map(|i| states.iter().map(|s| s[i]).sum::<f64>() / 3.0).collect();
    let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
    let want: Vec<f64> = mean.iter().map(|x| x / length).collect();
    near(&run(&unit, inputs(&[ids], 5)), &want);
}

#[test]
fn it_is_cut_behind_the_first_sum_with_attention_and_at_every_layer() {
    let network = built(Sentence { pooling: Pooling::Mean, unit: true });
    let legal: Vec<_> = network.cuts().iter().filter(|cut| cut.is_legal()).collect();
    assert_eq!(legal[0].after, "encoder.layer.0.attention.output.residual");
    let between = legal.iter().find(|cut| cut.after == "encoder.layer.0.output.LayerNorm").unwrap();
    let names: Vec<&str> = between.live.iter().map(|live| live.name.as_str()).collect();
    assert_eq!(names, ["attention_mask", "encoder.layer.0.output.LayerNorm"]);
    let values = inputs(&[&[2, 5, 6], &[1, 4]], 4);
    let whole = run(&network, values.clone());
    let nodes = network.n_nodes();
    for cut in legal {
        let start = network.crossing(0, values.clone()).unwrap();
        let head = network.forward(cut.position, &start, &mut network.start(0..cut.position));
        let tail = network.forward(nodes, &head.unwrap(), &mut network.start(cut.position..nodes));
        assert_eq!(tail.unwrap().values()[0].to_f64s(), whole, "{}", cut.after);
    }
}

#[test]
fn weights_are_given_back_under_their_names_and_onnx_answers_the_same() {
    let network = built(Sentence { pooling: Pooling::Mean, unit: true });
    let program = network.as_program().unwrap();
    let back = Weights::read(&crate::architectures::weights_of(program).unwrap()).unwrap();
    for (name, shape, items) in stored() {
        match back.0.get(&name) {
            Some(value) => {
                assert!(*value == Value::new(shape, Data::F32(items)).unwrap(), "{name}")
            }
            None => assert_eq!(name, "pooler.dense.weight"),
        }
    }
    let bytes = crate::onnx::export(program).unwrap();
    let again = crate::onnx::import(&bytes, &|_, _, _| Err("alone".into())).unwrap();
    let again = Network::program(again.program.check(again.constants).unwrap());
    let values = inputs(&[&[2, 5, 6], &[1, 4]], 4);
    assert_eq!(run(&again, values.clone()), run(&network, values));
}

#[test]
fn what_does_not_fit_is_named() {
    let none = Sentence { pooling: Pooling::None, unit: false };
    let refused = |config: &str, stored: &[(String, Vec<usize>, Vec<f32>)]| {
        let weights = Weights::read(&file(stored)).unwrap();
        import("tiny", config.as_bytes(), weights, none).err().unwrap().to_string()
    };
    assert!(refused(&config("swish"), &stored()).contains("`swish`"));
    let other = config("gelu").replace(r#""bert""#, r#""roberta""#);
    assert!(refused(&other, &stored()).contains("`roberta`"));
    let mut less = stored();
    less.remove(0);
    assert!(refused(&config("gelu"), &less).contains("word_embeddings"));
    let wide = config("gelu").replace(r#""intermediate_size":6"#, r#""intermediate_size":7"#);
    assert!(refused(&wide, &stored()).contains("expected [7, 4]"), "{}", refused(&wide, &stored()));
}
