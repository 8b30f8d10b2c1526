//! A tiny checkpoint against the algorithm of llama2.c's `run.c`, written again in plain loops.

use super::*;
use crate::network::Network;
use crate::program::{Data, Value};

const WIDTH: usize = 8;
const INNER: usize = 6;
const HEADS: usize = 4;
const WORDS: usize = 9;
const LENGTH: usize = 12;

/// A checkpoint with numbers that follow from the place.
fn checkpoint(kv_heads: usize, shared: bool) -> Vec<u8> {
    let words = i32::try_from(WORDS).unwrap();
    let side = |side: usize| i32::try_from(side).unwrap();
    let header = [
        side(WIDTH),
        side(INNER),
        2,
        side(HEADS),
        side(kv_heads),
        if shared { words } else { -words },
        side(LENGTH),
    ];
    let mut bytes: Vec<u8> = header.iter().flat_map(|one| one.to_le_bytes()).collect();
    let mut seed = 7u32;
    for _ in 0..Sides::read(&bytes).unwrap().items() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let number = (seed >> 8) as f32 / (1 << 23) as f32 - 1.0;
        bytes.extend(number.to_le_bytes());
    }
    bytes
}

/// One pass of `run.c` over one token, with its cache.
struct Oracle {
    w: Vec<f64>,
    kv_heads: usize,
    shared: bool,
    cache: Vec<Vec<(Vec<f64>, Vec<f64>)>>,
}

impl Oracle {
    fn new(bytes: &[u8], kv_heads: usize, shared: bool) -> Self {
        let words = bytes[HEADER_BYTES..].chunks(4);
        let w = words.map(|word| f64::from(f32::from_le_bytes(word.try_into().unwrap()))).collect();
        Self { w, kv_heads, shared, cache: vec![Vec::new(); 2] }
    }

    /// `w[rows, columns] x`.
    fn product(&self, from: usize, rows: usize, x: &[f64]) -> Vec<f64> {
        let row = |at: usize| &self.w[from + at * x.len()..][..x.len()];
        (0..rows).map(|at| row(at).iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    }

    fn norm(&self, from: usize, x: &[f64]) -> Vec<f64> {
        let square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let factor = 1.0 / (square + 1e-5).sqrt();
        x.iter().enumerate().map(|(at, x)| self.w[from + at] * x * factor).collect()
    }

    fn turn(x: &mut [f64], place: usize) {
        let each = WIDTH / HEADS;
        for at in (0..x.len()).step_by(2) {
            let angle = place as f64 / 10_000f64.powf((at % each) as f64 / each as f64);
            let (a, b) = (x[at], x[at + 1]);
            x[at] = a * angle.cos() - b * angle.sin();
            x[at + 1] = a * angle.sin() + b * angle.cos();
        }
    }

    fn step(&mut self, token: usize) -> Vec<f64> {
        let (each, keys) = (WIDTH / HEADS, WIDTH / HEADS * self.kv_heads);
        // Where each kind of weights begins, as in memory_map_weights of run.c.
        let norm1 = WORDS * WIDTH;
        let wq = norm1 + 2 * WIDTH;
        let wk = wq + 2 * WIDTH * WIDTH;
        let wv = wk + 2 * WIDTH * keys;
        let wo = wv + 2 * WIDTH * keys;
        let norm2 = wo + 2 * WIDTH * WIDTH;
        let w1 = norm2 + 2 * WIDTH;
        let w2 = w1 + 2 * WIDTH * INNER;
        let w3 = w2 + 2 * WIDTH * INNER;
        let last = w3 + 2 * WIDTH * INNER;
        let classes = if self.shared { 0 } else { last + WIDTH + LENGTH * each };
        let mut x = self.w[token * WIDTH..][..WIDTH].to_vec();
        for layer in 0..2 {
            let place = self.cache[layer].len();
            let h = self.norm(norm1 + layer * WIDTH, &x);
            let mut q = self.product(wq + layer * WIDTH * WIDTH, WIDTH, &h);
            let mut k = self.product(wk + layer * WIDTH * keys, keys, &h);
            let v = self.product(wv + layer * WIDTH * keys, keys, &h);
            Self::turn(&mut q, place);
            Self::turn(&mut k, place);
            self.cache[layer].push((k, v));
            let mut answer = vec![0.0; WIDTH];
            for head in 0..HEADS {
                let kv = head / (HEADS / self.kv_heads) * each;
                let score = |k: &[f64]| {
                    let dot: f64 = (0..each).map(|i| q[head * each + i] * k[kv + i]).sum();
                    (dot / (each as f64).sqrt()).exp()
                };
                let weights: Vec<f64> = self.cache[layer].iter().map(|(k, _)| score(k)).collect();
                let sum: f64 = weights.iter().sum();
                for i in 0..each {
                    let all = weights.iter().zip(&self.cache[layer]);
                    answer[head * each + i] = all.map(|(w, (_, v))| w / sum * v[kv + i]).sum();
                }
            }
            let out = self.product(wo + layer * WIDTH * WIDTH, WIDTH, &answer);
            x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
            let h = self.norm(norm2 + layer * WIDTH, &x);
            let gate = self.product(w1 + layer * WIDTH * INNER, INNER, &h);
            let wide = self.product(w3 + layer * WIDTH * INNER, INNER, &h);
            let gated: Vec<f64> =
                gate.iter().zip(wide).map(|(g, w)| g / (1.0 + (-g).exp()) * w).collect();
            let out = self.product(w2 + layer * WIDTH * INNER, WIDTH, &gated);
            x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
        }
        self.product(classes, WORDS, &self.norm(last, &x))
    }
}

fn built(bytes: &[u8]) -> Network {
    let built = import("tiny", bytes).unwrap();
    Network::program(built.program.check(built.constants).unwrap())
}

fn tokens(ids: &[usize]) -> Vec<Value> {
    let ids: Vec<i64> = ids.iter().map(|&id| i64::try_from(id).unwrap()).collect();
    vec![Value::new(vec![1, ids.len()], Data::I64(ids)).unwrap()]
}

fn near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-4, "{got} instead of {want}");
    }
}

fn best(scores: &[f64]) -> usize {
    (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap()
}

#[test]
fn it_continues_as_run_c_does() {
    for (kv_heads, shared) in [(HEADS, true), (2, true), (1, false)] {
        let bytes = checkpoint(kv_heads, shared);
        let (network, mut oracle) = (built(&bytes), Oracle::new(&bytes, kv_heads, shared));
        let nodes = network.n_nodes();
        let mut states = network.start(0..nodes);
        let (mut token, mut own) = (1, 1);
        for step in 0..LENGTH {
            let at = network.crossing(0, tokens(&[own])).unwrap();
            let out = network.forward(nodes, &at, &mut states).unwrap();
            let (got, want) = (out.values()[0].to_f64s(), oracle.step(token));
            near(&got, &want);
            (own, token) = (best(&got), best(&want));
            assert_eq!(own, token, "step {step}");
        }
    }
}

#[test]
fn many_tokens_at_once_are_the_same_as_one_by_one() {
    let network = built(&checkpoint(2, true));
    let nodes = network.n_nodes();
    let run = |steps: &[&[usize]]| {
        let mut states = network.start(0..nodes);
        let mut last = Vec::new();
        for step in steps {
            let at = network.crossing(0, tokens(step)).unwrap();
            last = network.forward(nodes, &at, &mut states).unwrap().values()[0].to_f64s();
        }
        (last, states.bytes())
    };
    let (one, bytes) = run(&[&[1], &[4], &[2], &[8]]);
    for steps in [&[&[1, 4, 2, 8][..]][..], &[&[1, 4], &[2, 8]], &[&[1], &[4, 2, 8]]] {
        let (all, held) = run(steps);
        near(&all, &one);
        assert_eq!(held, bytes);
    }
    // Two layers of keys and values for four tokens.
    assert_eq!(bytes, 2 * 2 * 4 * 2 * (WIDTH / HEADS) * 4);
}

#[test]
fn a_cut_decoder_remembers_on_both_sides() {
    let network = built(&checkpoint(2, true));
    let nodes = network.n_nodes();
    let legal: Vec<usize> =
        network.cuts().iter().filter(|cut| cut.is_legal()).map(|cut| cut.position).collect();
    let after = |at: &usize| network.cuts()[*at].after.as_str();
    assert_eq!(after(&legal[0]), "layers.0.attention.residual");
    assert!(legal.iter().any(|at| after(at) == "layers.0.residual"));
    for cut in legal {
        let mut whole = network.start(0..nodes);
        let (mut head, mut tail) = (network.start(0..cut), network.start(cut..nodes));
        for step in [&[1, 5][..], &[3], &[7]] {
            let at = network.crossing(0, tokens(step)).unwrap();
            let want = network.forward(nodes, &at, &mut whole).unwrap();
            let half = network.forward(cut, &at, &mut head).unwrap();
            let got = network.forward(nodes, &half, &mut tail).unwrap();
            assert!(got == want, "{}", after(&cut));
        }
        assert_eq!(head.bytes() + tail.bytes(), whole.bytes());
    }
}

#[test]
fn checkpoints_that_lie_are_refused() {
    let bytes = checkpoint(HEADS, true);
    for bad in [&bytes[..27], &bytes[..bytes.len() - 4], &bytes[..bytes.len() - 1], &[]] {
        assert!(import("tiny", bad).is_err(), "{}", bad.len());
    }
    for at in 0..7 {
        for number in [0i32, -3, i32::MIN, i32::MAX, 5] {
            let mut other = bytes.clone();
            other[at * 4..at * 4 + 4].copy_from_slice(&number.to_le_bytes());
            assert!(import("tiny", &other).is_err(), "{at}: {number}");
        }
    }
}

#[test]
fn a_sequence_ends_where_the_tables_end() {
    let network = built(&checkpoint(HEADS, true));
    let nodes = network.n_nodes();
    let at = network.crossing(0, tokens(&[1; LENGTH + 1])).unwrap();
    let error = network.forward(nodes, &at, &mut network.start(0..nodes)).err().unwrap();
    assert!(error.to_string().contains("beyond the table"), "{error}");
}
