//! BERT encoders (Devlin et al. 2019) and sentence encoders made of them, as Hugging Face stores them.
//!
//! Token ids and mask in, one vector per row out: the encoder's states, their mean over the places that
//! hold data, and that divided by its length, where the folder asks for these (sentence-transformers).
//! Only what is asked for is computed: no pooler, no second segment. Start at [`import`].

use serde::Deserialize;

use super::build::{Builder, signed};
use super::{ArchitectureError, Built, Weights};
use crate::program::op::{Binary, Fold, Reduce, Unary};
use crate::program::{DType, Port, Program, Role, TensorOp};

/// What is added to the score of a place that holds no data: `exp` of it is 0, and half precision holds it.
const UNSEEN: f32 = -10_000.0;
/// Lengths are at least this, as in PyTorch's `normalize`.
const LENGTH_MIN: f32 = 1e-12;
/// Layers and sides beyond which no configuration is believed.
const SIDE_MAX: usize = 1 << 20;

/// What comes out for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The states of all places, `[batch, length, width]`.
    None,
    /// The first place's state.
    First,
    /// The mean of the states of places that hold data.
    Mean,
}

/// How a sentence's vector is made of the encoder's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// One vector of many.
    pub pooling: Pooling,
    /// Whether its length is made 1.
    pub unit: bool,
}

/// The part of `config.json` that decides what is computed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Config {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

fn absolute() -> String {
    "absolute".into()
}

/// Makes the encoder's program of its configuration and weights.
///
/// # Errors
/// [`ArchitectureError`] with the setting or the weight that does not fit.
pub fn import(
    name: &str,
    config: &[u8],
    mut weights: Weights,
    sentence: Sentence,
) -> Result<Built, ArchitectureError> {
    let config: Config =
        serde_json::from_slice(config).map_err(|e| ArchitectureError::Config(e.to_string()))?;
    config.check()?;
    let prefix = if weights.has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
    let mut made = Encoder { b: Builder::default(), weights: &mut weights, config, prefix };
    let embedded = made.embed()?;
    let mut hidden = made.norm("embeddings.LayerNorm", &embedded)?;
    for layer in 0..made.config.num_hidden_layers {
        hidden = made.layer(&format!("encoder.layer.{layer}"), &hidden)?;
    }
    let output = made.sentence(&hidden, sentence);
    let port = |name: &str, role| Port {
        name: name.into(),
        dtype: DType::I64,
        shape: Some(vec![None, None]),
        role,
    };
    let (program, constants) = made.b.finish(Program {
        name: name.into(),
        inputs: vec![port("input_ids", Role::Rows), port("attention_mask", Role::Mask)],
        nodes: Vec::new(),
        outputs: vec![output],
        states: Vec::new(),
    });
    Ok(Built { program, constants, unused: weights.0.into_keys().collect() })
}

impl Config {
    fn check(&self) -> Result<(), ArchitectureError> {
        let refuse = |words: String| Err(ArchitectureError::Config(words));
        if self.model_type != "bert" {
            let other = &self.model_type;
            return refuse(format!("model_type `{other}`; `bert` is what is known of folders"));
        }
        if self.position_embedding_type != "absolute" {
            let other = &self.position_embedding_type;
            return refuse(format!("position_embedding_type `{other}` is not supported"));
        }
        activation(&self.hidden_act)?;
        let sides = [
            self.hidden_size,
            self.intermediate_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.vocab_size,
            self.max_position_embeddings,
            self.type_vocab_size,
        ];
        if sides.iter().any(|side| !(1..=SIDE_MAX).contains(side)) {
            return refuse(format!("sizes go from 1 to {SIDE_MAX}"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (width, heads) = (self.hidden_size, self.num_attention_heads);
            return refuse(format!("hidden_size {width} is no multiple of {heads} heads"));
        }
        Ok(())
    }
}

fn activation(name: &str) -> Result<Unary, ArchitectureError> {
    Ok(match name {
        "gelu" => Unary::Gelu { tanh: false },
        "gelu_new" | "gelu_pytorch_tanh" => Unary::Gelu { tanh: true },
        "relu" => Unary::Relu,
        other => {
            let words = format!("hidden_act `{other}` is not supported");
            return Err(ArchitectureError::Config(words));
        }
    })
}

struct Encoder<'a> {
    b: Builder,
    weights: &'a mut Weights,
    config: Config,
    prefix: &'static str,
}

impl Encoder<'_> {
    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<String, ArchitectureError> {
        let name = format!("{}{name}", self.prefix);
        let value = self.weights.take(&name, shape)?;
        Ok(self.b.weight(&name, value))
    }

    fn linear(
        &mut self,
        name: &str,
        x: &str,
        sides: [usize; 2],
    ) -> Result<String, ArchitectureError> {
        let stored = format!("{}{name}.weight", self.prefix);
        let value = self.weights.take_linear(&stored, sides)?;
        let weight = self.b.weight(&stored, value);
        let bias = self.weight(&format!("{name}.bias"), &sides[1..])?;
        let product = self.b.matmul(&format!("{name}.product"), x, &weight);
        Ok(self.b.add(name, &product, &bias))
    }

    fn norm(&mut self, name: &str, x: &str) -> Result<String, ArchitectureError> {
        let width = [self.config.hidden_size];
        let weight = self.weight(&format!("{name}.weight"), &width)?;
        let bias = self.weight(&format!("{name}.bias"), &width)?;
        let op = TensorOp::LayerNorm { axis: -1, eps: self.config.layer_norm_eps };
        Ok(self.b.push(name, op, &[x, &weight, &bias]))
    }

    /// Words, first segment and places.
    fn embed(&mut self) -> Result<String, ArchitectureError> {
        let width = self.config.hidden_size;
        let table = |part: &str| format!("embeddings.{part}_embeddings");
        let sides = [
            ("word", self.config.vocab_size),
            ("token_type", self.config.type_vocab_size),
            ("position", self.config.max_position_embeddings),
        ];
        let [word, kind, place] = sides
            .map(|(part, rows)| self.weight(&format!("{}.weight", table(part)), &[rows, width]));
        let (word, kind, place) = (word?, kind?, place?);
        let gather = TensorOp::Gather { axis: 0 };
        let first = self.b.int(0);
        let words = self.b.push(&table("word"), gather.clone(), &[&word, "input_ids"]);
        let kind = self.b.push(&table("token_type"), gather, &[&kind, &first]);
        let typed = self.b.add("embeddings.typed", &words, &kind);
        let shape = TensorOp::Shape { start: 1, end: Some(2) };
        let length = self.b.push("embeddings.length", shape, &["input_ids"]);
        let start = self.b.ints(&[0]);
        let places =
            self.b.push(&table("position"), TensorOp::Slice, &[&place, &start, &length, &start]);
        Ok(self.b.add("embeddings", &typed, &places))
    }

    /// One layer of attention and one of two linear layers, each with a residual and a norm.
    fn layer(&mut self, name: &str, x: &str) -> Result<String, ArchitectureError> {
        let (width, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let answer = self.attention(&format!("{name}.attention.self"), x)?;
        let out = format!("{name}.attention.output");
        let dense = self.linear(&format!("{out}.dense"), &answer, [width, width])?;
        let sum = self.b.add(&format!("{out}.residual"), &dense, x);
        let x = self.norm(&format!("{out}.LayerNorm"), &sum)?;
        let wide = self.linear(&format!("{name}.intermediate.dense"), &x, [width, inner])?;
        let act = activation(&self.config.hidden_act)?;
        let wide = self.b.unary(&format!("{name}.intermediate.activation"), act, &wide);
        let dense = self.linear(&format!("{name}.output.dense"), &wide, [inner, width])?;
        let sum = self.b.add(&format!("{name}.output.residual"), &dense, &x);
        self.norm(&format!("{name}.output.LayerNorm"), &sum)
    }

    fn attention(&mut self, name: &str, x: &str) -> Result<String, ArchitectureError> {
        let (width, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let each = width / heads;
        let split = [0, 0, signed(heads), signed(each)];
        // Queries and values by head, place, element; keys by head, element, place.
        let mut parts = Vec::new();
        for (part, order) in
            [("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])]
        {
            let part = format!("{name}.{part}");
            let all = self.linear(&part, x, [width, width])?;
            let apart = self.b.reshape(&format!("{part}.heads"), &all, &split);
            parts.push(self.b.transpose(&format!("{part}.turned"), &apart, &order));
        }
        let b = &mut self.b;
        let scores = b.matmul(&format!("{name}.product"), &parts[0], &parts[1]);
        #[expect(clippy::cast_possible_truncation, reason = "a factor near 1")]
        let factor = b.float((1.0 / (each as f64).sqrt()) as f32);
        let scores = b.mul(&format!("{name}.scaled"), &scores, &factor);
        let mask = mask(b, name);
        let scores = b.add(&format!("{name}.masked"), &scores, &mask);
        let answer = b.attend(name, &scores, &parts[2]);
        let turned = b.transpose(&format!("{name}.turned"), &answer, &[0, 2, 1, 3]);
        Ok(b.reshape(&format!("{name}.joined"), &turned, &[0, 0, signed(width)]))
    }

    fn sentence(&mut self, hidden: &str, how: Sentence) -> String {
        let b = &mut self.b;
        let along = b.ints(&[1]);
        let pooled = match how.pooling {
            Pooling::None => hidden.to_owned(),
            Pooling::First => {
                let first = b.int(0);
                b.push("pooling", TensorOp::Gather { axis: 1 }, &[hidden, &first])
            }
            Pooling::Mean => {
                let seen = b.cast("pooling.seen", DType::F32, "attention_mask");
                let seen = b.unsqueeze("pooling.column", &seen, &[2]);
                let held = b.mul("pooling.held", hidden, &seen);
                let sum = reduce(Reduce::Sum, false);
                let total = b.push("pooling.sum", sum.clone(), &[&held, &along]);
                let count = b.push("pooling.count", sum, &[&seen, &along]);
                let least = b.float(1e-9);
                let count = b.push("pooling.places", TensorOp::Fold(Fold::Max), &[&count, &least]);
                b.push("pooling", TensorOp::Binary(Binary::Div), &[&total, &count])
            }
        };
        if !how.unit {
            return pooled;
        }
        let last = b.ints(&[-1]);
        let length = b.push("normalize.length", reduce(Reduce::L2, true), &[&pooled, &last]);
        let least = b.float(LENGTH_MIN);
        let length = b.push("normalize.safe", TensorOp::Fold(Fold::Max), &[&length, &least]);
        b.push("normalize", TensorOp::Binary(Binary::Div), &[&pooled, &length])
    }
}

fn reduce(kind: Reduce, keep: bool) -> TensorOp {
    TensorOp::Reduce { kind, keep, noop_if_empty: false }
}

/// What is added to scores: 0 where a place holds data. Made anew in each layer, so that between layers
/// only the states and the mask itself cross.
fn mask(b: &mut Builder, name: &str) -> String {
    let seen = b.cast(&format!("{name}.seen"), DType::F32, "attention_mask");
    let (one, unseen) = (b.float(1.0), b.float(UNSEEN));
    let op = TensorOp::Binary(Binary::Sub);
    let hole = b.push(&format!("{name}.holes"), op, &[&one, &seen]);
    let weight = b.mul(&format!("{name}.penalty"), &hole, &unseen);
    b.unsqueeze(&format!("{name}.mask"), &weight, &[1, 2])
}

#[cfg(test)]
mod tests;
