//! `koinon model run`: one text or input through a model folder, all of it on this machine.
//!
//! It is for people who try a model; a site's rows go through `koinon infer`. Start at [`run`].

use std::io::Write as _;
use std::path::{Path, PathBuf};

use koinon_model::network::{Network, States};
use koinon_model::program::{DType, Data, Port, Value};
use koinon_model::text::pieces::{BEGIN, Pieces};
use koinon_model::text::wordpiece::WordPiece;
use serde_json::json;

use super::folder::{TOKENIZERS, bytes, read};
use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json};

/// What to answer.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The model folder.
    model: PathBuf,
    /// A text: an encoder gives its vector, a decoder continues it.
    #[arg(long, required_unless_present_any = ["input", "texts"])]
    text: Option<String>,
    /// A JSON file with a list of texts, for an encoder.
    #[arg(long, conflicts_with_all = ["text", "input"])]
    texts: Option<PathBuf>,
    /// A JSON file with a nested list of numbers for each input, by name.
    #[arg(long, conflicts_with = "text")]
    input: Option<PathBuf>,
    /// Tokens that a decoder's text has at most, the given ones counted.
    #[arg(long, default_value_t = 200)]
    tokens: usize,
    /// Text or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (network, _) = read(&arguments.model)?;
    if let Some(input) = &arguments.input {
        return answer(&network, from_json(&network, input)?, None, arguments.format);
    }
    let text = arguments.text.as_deref().unwrap_or_default();
    let texts: Vec<String> = match &arguments.texts {
        Some(file) => serde_json::from_slice(&bytes(file)?).or_exit(Exit::Data)?,
        None => vec![text.to_owned()],
    };
    let [words, pieces] = TOKENIZERS.map(|name| arguments.model.join(name));
    if words.is_file() {
        let tokenizer = WordPiece::read(&bytes(&words)?).or_exit(Exit::Config)?;
        return texts.iter().try_for_each(|text| {
            let ids = tokenizer.encode(text).or_exit(Exit::Data)?;
            answer(&network, encoder_inputs(&network, &ids)?, Some(&ids), arguments.format)
        });
    }
    if pieces.is_file() && arguments.texts.is_none() {
        let tokenizer = Pieces::read(&bytes(&pieces)?).or_exit(Exit::Config)?;
        return story(&network, &tokenizer, text, arguments);
    }
    Err(fail(Exit::Config, format!("{} has no tokenizer; use --input", arguments.model.display())))
}

fn ports(network: &Network) -> &[Port] {
    network.as_program().map_or(&[], |program| &program.program().inputs)
}

/// One row of ids under the names that encoders use; a second segment is not used.
fn encoder_inputs(network: &Network, ids: &[i64]) -> anyhow::Result<Vec<Value>> {
    let made = ports(network).iter().map(|port| {
        let items = match port.name.as_str() {
            "input_ids" => ids.to_vec(),
            "attention_mask" => vec![1; ids.len()],
            "token_type_ids" => vec![0; ids.len()],
            other => {
                let words = format!("the input `{other}` is no part of a text; use --input");
                return Err(fail(Exit::Usage, words));
            }
        };
        Value::new(vec![1, ids.len()], Data::I64(items)).or_exit(Exit::Data)
    });
    made.collect()
}

fn answer(
    network: &Network,
    inputs: Vec<Value>,
    tokens: Option<&[i64]>,
    format: Format,
) -> anyhow::Result<()> {
    let end = network.n_nodes();
    let at = network.crossing(0, inputs).or_exit(Exit::Data)?;
    let out = network.forward(end, &at, &mut network.start(0..end)).or_exit(Exit::Data)?;
    let names = network.cuts()[end].live.iter().map(|live| live.name.clone());
    for (name, value) in names.zip(out.values()) {
        if format == Format::Json {
            let (shape, values) = (value.shape(), value.to_f64s());
            let tokens = tokens.map(<[i64]>::to_vec);
            say_json(&json!({ "name": name, "shape": shape, "values": values, "tokens": tokens }))?;
            continue;
        }
        say(format!("{name} {:?}", value.shape()));
        let numbers: Vec<String> = value.to_f64s().iter().map(|x| format!("{x:.6}")).collect();
        say(numbers.join(" "));
    }
    Ok(())
}

/// Continues a text with the likeliest token each time, as llama2.c does at temperature 0.
fn story(
    network: &Network,
    tokenizer: &Pieces,
    text: &str,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let mut ids = tokenizer.encode(text).or_exit(Exit::Data)?;
    let given = ids.len();
    let end = network.n_nodes();
    let mut states = network.start(0..end);
    let mut told = Vec::new();
    let mut done = 0;
    while ids.len() < arguments.tokens {
        // All given tokens at once, then one by one.
        let step = ids.get(done..).unwrap_or_default().to_vec();
        let best = likeliest(network, step, &mut states)?;
        done = ids.len();
        if best == BEGIN {
            break;
        }
        ids.push(best);
        let from = if told.is_empty() { 0 } else { ids.len() - 2 };
        for pair in ids[from..].windows(2) {
            let piece = tokenizer.decode(pair[0], pair[1]);
            if arguments.format == Format::Text {
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(&piece).and_then(|()| out.flush());
            }
            told.extend(piece);
        }
    }
    if arguments.format == Format::Json {
        let text = String::from_utf8_lossy(&told);
        return say_json(&json!({ "tokens": ids, "given": given, "text": text }));
    }
    say("");
    Ok(())
}

fn likeliest(network: &Network, step: Vec<i64>, states: &mut States) -> anyhow::Result<i64> {
    let end = network.n_nodes();
    let value = Value::new(vec![1, step.len()], Data::I64(step)).or_exit(Exit::Data)?;
    let at = network.crossing(0, vec![value]).or_exit(Exit::Data)?;
    let out = network.forward(end, &at, states).or_exit(Exit::Data)?;
    let scores = out.values().first().map(Value::to_f64s).unwrap_or_default();
    // Of equals the first.
    let mut best = 0;
    for (at, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = at;
        }
    }
    i64::try_from(best).or_exit(Exit::Data)
}

fn from_json(network: &Network, file: &Path) -> anyhow::Result<Vec<Value>> {
    let named: serde_json::Value = serde_json::from_slice(&bytes(file)?).or_exit(Exit::Data)?;
    let live = &network.cuts()[0].live;
    let values = live.iter().map(|live| {
        let dtype = live.dtype.unwrap_or(DType::F32);
        let refuse = |words: String| fail(Exit::Data, format!("input `{}`: {words}", live.name));
        let given = named.get(&live.name).ok_or_else(|| refuse("it is not in the file".into()))?;
        let (mut shape, mut items) = (Vec::new(), Vec::new());
        flatten(given, 0, &mut shape, &mut items).map_err(refuse)?;
        value(dtype, shape, &items).map_err(refuse)
    });
    values.collect()
}

/// The numbers of a nested list, all of whose lists of one depth have one length.
fn flatten(
    given: &serde_json::Value,
    depth: usize,
    shape: &mut Vec<usize>,
    items: &mut Vec<f64>,
) -> Result<(), String> {
    if let Some(list) = given.as_array() {
        match shape.get(depth) {
            None if items.is_empty() => shape.push(list.len()),
            Some(len) if *len == list.len() => {}
            _ => return Err("its lists have different lengths".into()),
        }
        return list.iter().try_for_each(|one| flatten(one, depth + 1, shape, items));
    }
    let number = given.as_f64().or_else(|| given.as_bool().map(|yes| f64::from(u8::from(yes))));
    let number = number.ok_or_else(|| format!("{given} is no number"))?;
    if shape.len() != depth {
        return Err("its lists have different depths".into());
    }
    items.push(number);
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "whole numbers are asked for, and checked")]
fn value(dtype: DType, shape: Vec<usize>, items: &[f64]) -> Result<Value, String> {
    let whole = items.iter().all(|item| item.fract() == 0.0);
    let data = match dtype {
        DType::F32 => Data::F32(items.iter().map(|&item| item as f32).collect()),
        DType::F64 => Data::F64(items.to_vec()),
        DType::I64 if whole => Data::I64(items.iter().map(|&item| item as i64).collect()),
        DType::I32 if whole => Data::I32(items.iter().map(|&item| item as i32).collect()),
        DType::Bool => Data::Bool(items.iter().map(|&item| item != 0.0).collect()),
        other => return Err(format!("these numbers are not taken as {other:?}")),
    };
    Value::new(shape, data).map_err(|e| e.to_string())
}
