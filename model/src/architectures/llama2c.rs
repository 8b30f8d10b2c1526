//! Decoders in the raw single-precision format of llama2.c (TinyStories).
//!
//! Root mean square norms, rotary positions, causal attention, a gated feed-forward network (Touvron et
//! al. 2023). The tokens of one sequence in, `[1, tokens]`; the scores of the next token out. The keys and
//! values of earlier tokens are states, so each part of a cut network remembers its own, and tells a
//! token's place by how many it remembers. Start at [`import`].

use super::build::{Builder, f32s, signed};
use super::{ArchitectureError, Built, turned, words};
use crate::program::op::{Binary, Rotary, Unary};
use crate::program::{DType, Port, Program, Role, State, TensorOp, Value};

/// Base of the rotary angles.
const THETA: f32 = 10_000.0;
/// Added to the mean square.
const EPS: f64 = 1e-5;
/// What is added to the score of a later token: `exp` of it is 0, and half precision holds it.
const UNSEEN: f32 = -10_000.0;
/// Bytes of the header: seven integers.
const HEADER_BYTES: usize = 28;
/// Sides beyond which no header is believed.
const SIDE_MAX: usize = 1 << 20;

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sides {
    width: usize,
    inner: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    vocabulary: usize,
    length: usize,
    /// Whether scores are made with the embedding's own table.
    shared: bool,
}

/// Makes the decoder's program of a checkpoint.
///
/// # Errors
/// [`ArchitectureError`] where the header and the bytes do not agree.
pub fn import(name: &str, bytes: &[u8]) -> Result<Built, ArchitectureError> {
    let sides = Sides::read(bytes)?;
    let items = words(&bytes[HEADER_BYTES..], f32::from_le_bytes);
    let want = sides.items();
    if bytes.len() != HEADER_BYTES + 4 * items.len() || items.len() != want {
        let got = bytes.len();
        return Err(ArchitectureError::File(format!(
            "{got} bytes, where the header of the checkpoint asks for {}",
            HEADER_BYTES + 4 * want
        )));
    }
    let mut decoder = Decoder { b: Builder::default(), s: sides, states: Vec::new() };
    decoder.weights(&items)?;
    let gather = TensorOp::Gather { axis: 0 };
    let mut hidden = decoder.b.push("tok_embeddings", gather, &["tok_embeddings.weight", "tokens"]);
    for layer in 0..sides.layers {
        hidden = decoder.layer(&format!("layers.{layer}"), &hidden);
    }
    let output = decoder.scores(&hidden);
    let Decoder { b, states, .. } = decoder;
    let (program, constants) = b.finish(Program {
        name: name.into(),
        inputs: vec![Port {
            name: "tokens".into(),
            dtype: DType::I64,
            shape: Some(vec![Some(1), None]),
            role: Role::Rows,
        }],
        nodes: Vec::new(),
        outputs: vec![output],
        states,
    });
    Ok(Built { program, constants, unused: Vec::new() })
}

impl Sides {
    fn read(bytes: &[u8]) -> Result<Self, ArchitectureError> {
        let refuse = |words: &str| ArchitectureError::File(words.into());
        let header = bytes.get(..HEADER_BYTES).ok_or_else(|| refuse("no header of 28 bytes"))?;
        let numbers = words(header, i32::from_le_bytes);
        let side = |at: usize| match usize::try_from(numbers[at].unsigned_abs()) {
            Ok(side) if (1..=SIDE_MAX).contains(&side) => Ok(side),
            _ => Err(refuse("its header is not one of llama2.c's raw checkpoints")),
        };
        let sides = Self {
            width: side(0)?,
            inner: side(1)?,
            layers: side(2)?,
            heads: side(3)?,
            kv_heads: side(4)?,
            vocabulary: side(5)?,
            length: side(6)?,
            shared: numbers[5] > 0,
        };
        let signs = numbers.iter().enumerate().all(|(at, number)| at == 5 || *number > 0);
        let fits = signs
            && sides.layers <= 1024
            && sides.width.is_multiple_of(sides.heads)
            && (sides.width / sides.heads).is_multiple_of(2)
            && sides.heads.is_multiple_of(sides.kv_heads);
        if fits { Ok(sides) } else { Err(refuse("the sides of its header do not fit together")) }
    }

    /// Width of a head.
    fn each(&self) -> usize {
        self.width / self.heads
    }

    /// Width of a layer's keys.
    fn keys(&self) -> usize {
        self.each() * self.kv_heads
    }

    /// Numbers behind the header.
    fn items(&self) -> usize {
        let (w, table) = (self.width as u128, self.vocabulary as u128 * self.width as u128);
        let layer = 2 * w * w + 2 * w * self.keys() as u128 + 2 * w + 3 * w * self.inner as u128;
        let angles = self.length as u128 * self.each() as u128;
        let scores = if self.shared { 0 } else { table };
        let all = table + self.layers as u128 * layer + w + angles + scores;
        usize::try_from(all).unwrap_or(usize::MAX)
    }
}

struct Decoder {
    b: Builder,
    s: Sides,
    states: Vec<State>,
}

impl Decoder {
    /// All weights in the order of the file, kind by kind.
    fn weights(&mut self, items: &[f32]) -> Result<(), ArchitectureError> {
        let Sides { width, inner, layers, vocabulary, .. } = self.s;
        let keys = self.s.keys();
        let mut rest = items;
        let mut take = |name: &str, shape: &[usize], linear: bool| {
            let (own, after) = rest.split_at(shape.iter().product());
            rest = after;
            let fault =
                || ArchitectureError::Weight { name: name.into(), problem: "too large".into() };
            let value = f32s(shape.to_vec(), own.to_vec()).ok_or_else(fault)?;
            self.b.weight(name, if linear { turned(&value) } else { value });
            Ok::<(), ArchitectureError>(())
        };
        take("tok_embeddings.weight", &[vocabulary, width], false)?;
        // Name, rows and columns; a norm has columns only.
        let kinds = [
            ("attention_norm", 0, width),
            ("attention.wq", width, width),
            ("attention.wk", keys, width),
            ("attention.wv", keys, width),
            ("attention.wo", width, width),
            ("ffn_norm", 0, width),
            ("feed_forward.w1", inner, width),
            ("feed_forward.w2", width, inner),
            ("feed_forward.w3", inner, width),
        ];
        for (kind, rows, columns) in kinds {
            for layer in 0..layers {
                let shape = if rows == 0 { vec![columns] } else { vec![rows, columns] };
                take(&format!("layers.{layer}.{kind}.weight"), &shape, rows > 0)?;
            }
        }
        take("norm.weight", &[width], false)?;
        if !self.s.shared {
            // What the format keeps of older tables of angles lies between.
            rest = &rest[self.s.length * self.s.each()..];
            let (own, _) = rest.split_at(vocabulary * width);
            let fault = || ArchitectureError::File("its scores are too large".into());
            let value = f32s(vec![vocabulary, width], own.to_vec()).ok_or_else(fault)?;
            self.b.weight("output.weight", turned(&value));
        }
        let [cos, sin] = angles(&self.s).ok_or_else(|| {
            ArchitectureError::File("it has more places than this program takes".into())
        })?;
        self.b.weight("#cos", cos);
        self.b.weight("#sin", sin);
        Ok(())
    }

    fn norm(&mut self, name: &str, x: &str) -> String {
        self.b.push(name, TensorOp::RmsNorm { axis: -1, eps: EPS }, &[x, &format!("{name}.weight")])
    }

    fn linear(&mut self, name: &str, x: &str) -> String {
        self.b.matmul(name, x, &format!("{name}.weight"))
    }

    fn layer(&mut self, name: &str, x: &str) -> String {
        let normed = self.norm(&format!("{name}.attention_norm"), x);
        let answer = self.attention(&format!("{name}.attention"), &normed);
        let x = self.b.add(&format!("{name}.attention.residual"), x, &answer);
        let normed = self.norm(&format!("{name}.ffn_norm"), &x);
        let part = |part: &str| format!("{name}.feed_forward.{part}");
        let gate = self.linear(&part("w1"), &normed);
        let gate = self.b.unary(&part("silu"), Unary::Swish { alpha: 1.0 }, &gate);
        let wide = self.linear(&part("w3"), &normed);
        let wide = self.b.mul(&part("gated"), &gate, &wide);
        let out = self.linear(&part("w2"), &wide);
        self.b.add(&format!("{name}.residual"), &x, &out)
    }

    /// Attention to all tokens so far, which the states hold: `[tokens, heads · width]`.
    fn attention(&mut self, name: &str, x: &str) -> String {
        let part = |part: &str| format!("{name}.{part}");
        let k_state = self.state(&part("past_keys"), &part("keys"));
        let v_state = self.state(&part("past_values"), &part("values"));
        let (q, k, v) =
            (self.linear(&part("wq"), x), self.linear(&part("wk"), x), self.linear(&part("wv"), x));
        let places = Places::of(&mut self.b, name, x, &k_state);
        let (heads, kv, each) = (self.s.heads, self.s.kv_heads, self.s.each());
        let q = self.rotary(&part("wq.turned"), &q, heads, &places);
        let k = self.rotary(&part("wk.turned"), &k, kv, &places);
        let b = &mut self.b;
        let wide = signed(kv * each);
        // Keys and values of this step behind those of the steps before.
        let mut whole =
            [(k, &k_state, "keys"), (v, &v_state, "values")].map(|(new, past, what)| {
                let flat = b.reshape(&part(&format!("{what}.new")), &new, &[-1, wide]);
                b.push(&part(what), TensorOp::Concat { axis: 0 }, &[past, &flat])
            });
        for (one, order) in whole.iter_mut().zip([[1, 2, 0], [1, 0, 2]]) {
            let apart = b.reshape(&format!("{one}.heads"), one, &[0, signed(kv), signed(each)]);
            *one = b.transpose(&format!("{one}.turned"), &apart, &order);
        }
        let [mut k, mut v] = whole;
        // A head of keys serves a run of heads of queries.
        let group = heads / kv;
        let (shape, order, back): (Vec<i64>, Vec<usize>, Vec<usize>) = if group == 1 {
            (vec![0, 0, signed(heads), signed(each)], vec![0, 2, 1, 3], vec![0, 2, 1, 3])
        } else {
            k = b.unsqueeze(&part("keys.shared"), &k, &[1]);
            v = b.unsqueeze(&part("values.shared"), &v, &[1]);
            let shape = vec![0, 0, signed(kv), signed(group), signed(each)];
            (shape, vec![0, 2, 3, 1, 4], vec![0, 3, 1, 2, 4])
        };
        let apart = b.reshape(&part("wq.heads"), &q, &shape);
        let q = b.transpose(&part("wq.ordered"), &apart, &order);
        let scores = b.matmul(&part("product"), &q, &k);
        let factor = b.float(1.0 / (each as f32).sqrt());
        let scores = b.mul(&part("scaled"), &scores, &factor);
        let scores = b.add(&part("masked"), &scores, &places.mask);
        let answer = b.attend(name, &scores, &v);
        let turned = b.transpose(&part("turned"), &answer, &back);
        let joined = b.reshape(&part("joined"), &turned, &[0, 0, signed(heads * each)]);
        self.linear(&part("wo"), &joined)
    }

    fn state(&mut self, name: &str, output: &str) -> String {
        self.states.push(State {
            name: name.into(),
            dtype: DType::F32,
            shape: vec![0, self.s.keys()],
            output: output.into(),
        });
        name.to_owned()
    }

    fn rotary(&mut self, name: &str, x: &str, heads: usize, places: &Places) -> String {
        let op = TensorOp::Rotary(Rotary { interleaved: true, heads: Some(heads), width: 0 });
        self.b.push(name, op, &[x, "#cos", "#sin", &places.row])
    }

    /// Scores of the token after the last.
    fn scores(&mut self, hidden: &str) -> String {
        let last = self.b.int(-1);
        let last = self.b.push("last", TensorOp::Gather { axis: 1 }, &[hidden, &last]);
        let normed = self.norm("norm", &last);
        if self.s.shared {
            let table = self.b.transpose("output.table", "tok_embeddings.weight", &[1, 0]);
            return self.b.matmul("output", &normed, &table);
        }
        self.linear("output", &normed)
    }
}

/// The tokens' places, and which tokens see which.
struct Places {
    /// `[1, tokens]`.
    row: String,
    /// `[tokens, places]`: 0 where a token sees a place.
    mask: String,
}

impl Places {
    fn of(b: &mut Builder, name: &str, x: &str, past: &str) -> Self {
        let part = |part: &str| format!("{name}.places.{part}");
        let past = b.side(&part("past"), past, 0);
        let new = b.side(&part("new"), x, 1);
        let all = b.add(&part("all"), &past, &new);
        let (zero, one) = (b.int(0), b.int(1));
        let own = b.push(&part("own"), TensorOp::Range, &[&past, &all, &one]);
        let seen = b.push(&part("seen"), TensorOp::Range, &[&zero, &all, &one]);
        let row = b.unsqueeze(&part("row"), &own, &[0]);
        let column = b.unsqueeze(&part("column"), &own, &[1]);
        let op = TensorOp::Binary(Binary::LessOrEqual);
        let seen = b.push(&part("before"), op, &[&seen, &column]);
        let (open, shut) = (b.float(0.0), b.float(UNSEEN));
        let mask = b.push(&part("mask"), TensorOp::Where, &[&seen, &open, &shut]);
        Self { row, mask }
    }
}

/// Cosines and sines for all places, `[places, width of a head / 2]`, as llama2.c computes them.
fn angles(s: &Sides) -> Option<[Value; 2]> {
    let each = s.each();
    let angle = |at: usize| {
        let (place, pair) = (at / (each / 2), at % (each / 2));
        place as f32 * (1.0 / libm::powf(THETA, (2 * pair) as f32 / each as f32))
    };
    let shape = vec![s.length, each / 2];
    crate::program::value::elements(&shape).ok()?;
    let all: Vec<f32> = (0..s.length * each / 2).map(angle).collect();
    let table = |of: fn(f32) -> f32| f32s(shape.clone(), all.iter().map(|&x| of(x)).collect());
    Some([table(libm::cosf)?, table(libm::sinf)?])
}

#[cfg(test)]
mod tests;
