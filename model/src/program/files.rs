//! A program as two files: its operations as canonical JSON, its constants as safetensors.
//!
//! The constants' file names the program that it belongs to by digest, so that the digest of its bytes
//! names both. Bytes in, bytes out; who reads or writes files is not decided here. Start at
//! [`CheckedProgram::write`] and [`read`].

use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::value::{Element, Visit, each};
use super::{CheckedProgram, Constants, DType, Program, ProgramError, Value};
use crate::digest::{digest_of, hex};
use crate::limits::{CONSTANTS_BYTES_MAX, PROGRAM_BYTES_MAX};

/// The file of the operations.
pub const PROGRAM_FILE: &str = "program.json";
/// The file of the constants.
pub const CONSTANTS_FILE: &str = "constants.safetensors";

/// Where the constants' file says to which program it belongs.
const PROGRAM_KEY: &str = "koinon.program";

/// The bytes of the two files.
pub struct ProgramFiles {
    /// `program.json`, canonical.
    pub program: Vec<u8>,
    /// `constants.safetensors`.
    pub constants: Vec<u8>,
}

/// Why two files are no program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The first file.
    #[error("{PROGRAM_FILE}: {0}")]
    Program(String),
    /// The second file.
    #[error("{CONSTANTS_FILE}: {0}")]
    Constants(String),
    /// They are whole, and do not go together or do not run.
    #[error(transparent)]
    Check(#[from] ProgramError),
}

impl CheckedProgram {
    /// The two files, the same bytes for the same program.
    ///
    /// # Errors
    /// [`FilesError`] where names or sizes are beyond what the format holds.
    pub fn write(&self) -> Result<ProgramFiles, FilesError> {
        let program = canonical(&self.program)?;
        let constants = write_constants(&self.constants, &program)?;
        Ok(ProgramFiles { program, constants })
    }
}

/// Reads and checks the two files.
///
/// # Errors
/// [`FilesError`], naming the file. Never panics on any bytes.
pub fn read(program: &[u8], constants: &[u8]) -> Result<CheckedProgram, FilesError> {
    if program.len() > PROGRAM_BYTES_MAX {
        let got = program.len();
        return Err(FilesError::Program(format!("{got} bytes, at most {PROGRAM_BYTES_MAX} go")));
    }
    let parsed: Program =
        serde_json::from_slice(program).map_err(|e| FilesError::Program(e.to_string()))?;
    if canonical(&parsed)? != program {
        let words = "it is not in canonical form; import the model again";
        return Err(FilesError::Program(words.into()));
    }
    let constants = read_constants(constants, program)?;
    Ok(parsed.check(constants)?)
}

fn canonical(program: &Program) -> Result<Vec<u8>, FilesError> {
    serde_json::to_vec(program).map_err(|e| FilesError::Program(e.to_string()))
}

fn digest(program: &[u8]) -> String {
    hex(&digest_of("koinon.program.v1", program))
}

fn write_constants(constants: &Constants, program: &[u8]) -> Result<Vec<u8>, FilesError> {
    let fault = |e: safetensors::SafeTensorError| FilesError::Constants(e.to_string());
    let bytes: Vec<Vec<u8>> = constants.values().map(bytes_of).collect();
    let mut views = Vec::with_capacity(constants.len());
    for ((name, value), bytes) in constants.iter().zip(&bytes) {
        let shape = value.shape().to_vec();
        let view = TensorView::new(stored(value.dtype()), shape, bytes).map_err(fault)?;
        views.push((name.as_str(), view));
    }
    let about = HashMap::from([(PROGRAM_KEY.to_owned(), digest(program))]);
    safetensors::serialize(views, Some(about)).map_err(fault)
}

fn read_constants(bytes: &[u8], program: &[u8]) -> Result<Constants, FilesError> {
    let fault = |words: String| FilesError::Constants(words);
    if bytes.len() > CONSTANTS_BYTES_MAX {
        return Err(fault(format!("{} bytes, at most {CONSTANTS_BYTES_MAX} go", bytes.len())));
    }
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| fault(e.to_string()))?;
    let named = header.metadata().as_ref().and_then(|about| about.get(PROGRAM_KEY));
    if named != Some(&digest(program)) {
        let words = format!("it belongs to another program than this {PROGRAM_FILE}");
        return Err(fault(words));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| fault(e.to_string()))?;
    let mut constants = Constants::new();
    for (name, view) in file.tensors() {
        let dtype = loaded(view.dtype())
            .ok_or_else(|| fault(format!("`{name}` is {:?}, which is not known", view.dtype())))?;
        let value = dtype.visit(Read(&view));
        constants.insert(name.clone(), value.map_err(|e| fault(format!("`{name}`: {e}")))?);
    }
    Ok(constants)
}

/// Little-endian bytes of all elements.
pub(crate) fn bytes_of(value: &Value) -> Vec<u8> {
    each!(value.data(), items => {
        let mut bytes = Vec::with_capacity(std::mem::size_of_val(items.as_slice()));
        items.iter().for_each(|item| item.put(&mut bytes));
        bytes
    })
}

struct Read<'a, 'b>(&'a TensorView<'b>);

impl Visit for Read<'_, '_> {
    type Out = Result<Value, super::OpError>;
    fn run<T: Element>(self) -> Self::Out {
        let size = size_of::<T>();
        let items = self.0.data().chunks_exact(size).map(T::get).collect();
        Value::of(self.0.shape().to_vec(), items)
    }
}

fn stored(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
        DType::Bool => Dtype::BOOL,
    }
}

fn loaded(dtype: Dtype) -> Option<DType> {
    use DType::{Bool, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
    let all = [F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, Bool];
    all.into_iter().find(|&own| stored(own) == dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::op::Binary;
    use crate::program::{Port, ProgramNode, Role, State, TensorOp};
    use proptest::prelude::*;

    fn program() -> CheckedProgram {
        let port = |name: &str| Port {
            name: name.into(),
            dtype: DType::F32,
            shape: Some(vec![None, Some(2)]),
            role: Role::Rows,
        };
        let node = |name: &str, op, inputs: &[&str]| ProgramNode {
            name: name.into(),
            op,
            inputs: inputs.iter().map(|&i| i.to_owned()).collect(),
            outputs: vec![name.into()],
        };
        let program = Program {
            name: "p".into(),
            inputs: vec![port("x")],
            nodes: vec![
                node("shifted", TensorOp::Binary(Binary::Add), &["x", "b"]),
                node("y", TensorOp::MatMul, &["shifted", "w"]),
                node("sum", TensorOp::Binary(Binary::Add), &["y", "s"]),
            ],
            outputs: vec!["sum".into()],
            states: vec![State {
                name: "s".into(),
                dtype: DType::F32,
                shape: vec![1, 2],
                output: "sum".into(),
            }],
        };
        let constants = Constants::from([
            ("w".to_owned(), Value::of(vec![2, 2], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap()),
            ("b".to_owned(), Value::of(vec![2], vec![0.5f32, -0.5]).unwrap()),
            ("flags".to_owned(), Value::of(vec![2], vec![true, false]).unwrap()),
            ("ids".to_owned(), Value::integers(vec![-1, i64::MAX])),
        ]);
        program.check(constants).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let program = program();
        let files = program.write().unwrap();
        let again = read(&files.program, &files.constants).unwrap();
        assert!(again.constants() == program.constants());
        assert_eq!(again.program(), program.program());
        assert!(again.write().unwrap().constants == files.constants);
    }

    #[test]
    fn constants_of_another_program_are_refused() {
        let (files, mut other) = (program().write().unwrap(), program().program().clone());
        other.name = "q".into();
        let other = canonical(&other).unwrap();
        let error = read(&other, &files.constants).err().unwrap();
        assert!(error.to_string().contains("another program"), "{error}");
    }

    #[test]
    fn a_cut_is_raw_until_learned_weights_came_and_never_splits_a_state() {
        let program = program();
        let raw: Vec<bool> = (0..=3).map(|at| program.is_raw(at)).collect();
        assert_eq!(raw, [true, true, false, false]);
        assert_eq!(program.live(1), ["shifted"]);
        assert_eq!(program.live(3), ["sum"]);
        assert!(program.split_state(2).is_none(), "one node reads it and gives it");
        assert_eq!(program.states_in(&(2..3)).len(), 1);
        assert!(program.states_in(&(0..2)).is_empty());
    }

    #[test]
    fn steps_of_a_sequence_remember() {
        let program = program();
        let x = || Value::of(vec![1, 2], vec![0.5f32, 0.5]).unwrap();
        let state = program.program().states[0].start().unwrap();
        let first = program.run_range(0..3, vec![x(), state]).unwrap();
        let second = program.run_range(0..3, vec![x(), first[1].clone()]).unwrap();
        assert_eq!(first[0].to_f64s(), [1.0, 2.0]);
        assert_eq!(second[0].to_f64s(), [2.0, 4.0]);
        let head = program.run_range(0..2, vec![x()]).unwrap();
        let tail = program.run_range(2..3, vec![head[0].clone(), first[1].clone()]).unwrap();
        assert!(tail[0] == second[0]);
    }

    proptest! {
        #[test]
        fn corruption_is_an_error_or_another_program(at in any::<prop::sample::Index>(), flip in 1u8..) {
            let files = program().write().unwrap();
            let (mut program, mut constants) = (files.program, files.constants);
            let at = at.index(program.len() + constants.len());
            match at.checked_sub(program.len()) {
                None => {
                    program[at] ^= flip;
                    prop_assert!(read(&program, &constants).is_err());
                }
                Some(at) => {
                    constants[at] ^= flip;
                    let _ = read(&program, &constants);
                }
            }
        }
    }
}
