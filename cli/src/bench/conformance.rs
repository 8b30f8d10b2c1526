//! ONNX's own backend test cases, run here: a folder of models, each with inputs and the outputs that
//! it must give.
//!
//! A case passes, is unsupported (and says why, by node and operator), or is wrong; a wrong answer is
//! the one thing that must not be. Deliberately no clock: this is about what is computed. Start at
//! [`run`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use koinon_model::onnx::{self, FILE_BYTES_MAX};
use koinon_model::program::{DType, OpError, ProgramError, Value};

use super::Progress;
use crate::output::table;

/// How far a float may be from what is expected: so much, and so much of it.
const TOLERANCE: (f64, f64) = (1e-4, 1e-3);

/// What became of a case.
enum Verdict {
    Passed,
    /// The operator that is missing or not supported so, and the whole message.
    Unsupported(String, String),
    Wrong(String),
}

/// What became of all.
pub(crate) struct Outcome {
    cases: Vec<(String, Verdict)>,
}

/// Runs every case in `dir`: each a folder with `model.onnx` and `test_data_set_N`.
///
/// # Errors
/// If the folder cannot be read or holds no case.
pub(crate) fn run(dir: &Path) -> anyhow::Result<Outcome> {
    let entries = fs::read_dir(dir).with_context(|| format!("while reading {}", dir.display()))?;
    let mut folders = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<PathBuf>, _>>()
        .with_context(|| format!("while reading {}", dir.display()))?;
    folders.retain(|folder| folder.join("model.onnx").is_file());
    folders.sort();
    if folders.is_empty() {
        bail!(
            "{} holds no case; give the folder whose folders hold `model.onnx`, such as \
             onnx/backend/test/data/node of the package onnx",
            dir.display()
        );
    }
    let progress = Progress::new();
    progress.phase("cases", folders.len());
    let mut cases = Vec::with_capacity(folders.len());
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        cases.push((name, case(&folder)?));
        progress.step(1);
    }
    Ok(Outcome { cases })
}

fn case(folder: &Path) -> anyhow::Result<Verdict> {
    let bytes = read(&folder.join("model.onnx"))?;
    let beside = |name: &str, offset: u64, length: Option<u64>| range(folder, name, offset, length);
    let imported = match onnx::import(&bytes, &beside) {
        Ok(imported) => imported,
        Err(error) if error.is_unsupported() => return Ok(unsupported(&error)),
        Err(error) => return Ok(Verdict::Wrong(error.to_string())),
    };
    let program = match imported.program.check(imported.constants) {
        Ok(program) => program,
        Err(error) => return Ok(Verdict::Wrong(error.to_string())),
    };
    for set in 0.. {
        let data = folder.join(format!("test_data_set_{set}"));
        if !data.is_dir() {
            break;
        }
        let (inputs, expected) = match (tensors(&data, "input")?, tensors(&data, "output")?) {
            (Ok(inputs), Ok(expected)) => (inputs, expected),
            (Err(verdict), _) | (_, Err(verdict)) => return Ok(verdict),
        };
        match program.run(inputs) {
            Ok(outputs) => {
                if let Some(difference) = difference(&outputs, &expected) {
                    return Ok(Verdict::Wrong(difference));
                }
            }
            Err(ProgramError::Op { error: OpError::Unsupported(why), node }) => {
                let message = format!("node `{node}`: {why}");
                return Ok(Verdict::Unsupported("a type or a feature".into(), message));
            }
            Err(error) => return Ok(Verdict::Wrong(error.to_string())),
        }
    }
    Ok(Verdict::Passed)
}

fn unsupported(error: &onnx::OnnxError) -> Verdict {
    let what = match error {
        onnx::OnnxError::Unsupported { op, .. } => op.clone(),
        onnx::OnnxError::Opset(version) => format!("opset {version}"),
        _ => "a type or a feature".into(),
    };
    Verdict::Unsupported(what, error.to_string())
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::metadata(file).map(|meta| meta.len()).unwrap_or_default();
    if bytes > FILE_BYTES_MAX as u64 {
        bail!("{} has {bytes} bytes, at most {FILE_BYTES_MAX} are read", file.display());
    }
    fs::read(file).with_context(|| format!("while reading {}", file.display()))
}

/// A range of a file beside a model.
fn range(dir: &Path, name: &str, offset: u64, length: Option<u64>) -> Result<Vec<u8>, String> {
    let bytes = read(&dir.join(name)).map_err(|error| format!("{error:#}"))?;
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let length = length.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let end = length.map_or(bytes.len(), |length| start.saturating_add(length));
    let part = bytes.get(start..end).map(<[u8]>::to_vec);
    part.ok_or_else(|| format!("`{name}` ends before its bytes {start} to {end}"))
}

/// The tensors of a set of data; those of another kind make the case unsupported.
fn tensors(data: &Path, kind: &str) -> anyhow::Result<Result<Vec<Value>, Verdict>> {
    let mut values = Vec::new();
    for at in 0.. {
        let file = data.join(format!("{kind}_{at}.pb"));
        if !file.is_file() {
            break;
        }
        match onnx::read_tensor(&read(&file)?) {
            Ok(value) => values.push(value),
            Err(error) => return Ok(Err(unsupported(&error))),
        }
    }
    Ok(Ok(values))
}

/// What differs first, in words.
fn difference(outputs: &[Value], expected: &[Value]) -> Option<String> {
    if outputs.len() < expected.len() {
        return Some(format!("{} outputs, expected {}", outputs.len(), expected.len()));
    }
    outputs.iter().zip(expected).enumerate().find_map(|(at, (got, want))| {
        if (got.shape(), got.dtype()) != (want.shape(), want.dtype()) {
            let (got, want) = ((got.dtype(), got.shape()), (want.dtype(), want.shape()));
            return Some(format!("output {at} is {got:?}, expected {want:?}"));
        }
        if !matches!(want.dtype(), DType::F32 | DType::F64) {
            return (got != want).then(|| format!("output {at} differs"));
        }
        let close = |got: f64, want: f64| {
            got == want
                || got.is_nan() && want.is_nan()
                || (got - want).abs() <= TOLERANCE.0 + TOLERANCE.1 * want.abs()
        };
        let mut pairs = got.to_f64s().into_iter().zip(want.to_f64s()).enumerate();
        let (place, (got, want)) = pairs.find(|&(_, (got, want))| !close(got, want))?;
        Some(format!("output {at} has {got} at {place}, expected {want}"))
    })
}

impl Outcome {
    /// How many passed, are unsupported, are wrong.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for (_, verdict) in &self.cases {
            counts[match verdict {
                Verdict::Passed => 0,
                Verdict::Unsupported(..) => 1,
                Verdict::Wrong(_) => 2,
            }] += 1;
        }
        counts
    }

    /// A person's report: what is wrong, what is not supported and how often; all cases if asked.
    pub(crate) fn text(&self, all: bool) -> String {
        let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
        let mut lines = Vec::new();
        for (name, verdict) in &self.cases {
            match verdict {
                Verdict::Wrong(why) => lines.push(format!("wrong: {name}: {why}")),
                Verdict::Unsupported(what, why) => {
                    *missing.entry(what).or_default() += 1;
                    if all {
                        lines.push(format!("unsupported: {name}: {why}"));
                    }
                }
                Verdict::Passed if all => lines.push(format!("passed: {name}")),
                Verdict::Passed => {}
            }
        }
        let mut rows = vec![vec!["not supported".to_owned(), "cases".to_owned()]];
        rows.extend(missing.iter().map(|(what, n)| vec![(*what).to_owned(), n.to_string()]));
        let [passed, unsupported, wrong] = self.counts();
        let sum = format!("{passed} passed, {unsupported} unsupported, {wrong} wrong");
        format!("{}\n{}\n{sum}", table(&rows), lines.join("\n"))
    }

    /// A machine's report: `{name, value, unit, limit}`.
    pub(crate) fn json(&self) -> serde_json::Value {
        let [passed, unsupported, wrong] = self.counts();
        let figure = |name: &str, value: usize, limit: Option<usize>| serde_json::json!({ "name": name, "value": value, "unit": "cases", "limit": limit });
        serde_json::json!([
            figure("conformance_passed", passed, None),
            figure("conformance_unsupported", unsupported, None),
            figure("conformance_wrong", wrong, Some(0)),
        ])
    }
}
