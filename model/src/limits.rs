//! Every maximum of this crate in one place, so that a reviewer sees what a hostile file can cost.
//!
//! These bound memory and time before anything is allocated; they are not tuning knobs. Limits of
//! messages on the wire live with the wire's own crate.

/// Bytes of a model spec or training plan as text.
pub const SPEC_BYTES_MAX: usize = 1 << 20;
/// Nodes of a model.
pub const NODES_MAX: usize = 1024;
/// Inputs of a model, and inputs of one node.
pub const INPUTS_MAX: usize = 16;
/// Dimensions of a value, batch not counted.
pub const RANK_MAX: usize = 3;
/// Extent of one dimension.
pub const DIM_MAX: usize = 1 << 20;
/// Kernel extent, stride or padding of a convolution or pool.
pub const WINDOW_MAX: usize = 1024;
/// Elements of one value for one row.
pub const VALUE_ELEMENTS_MAX: usize = 1 << 24;
/// Elements of the unfolded windows of one convolution for one row.
pub const WINDOW_ELEMENTS_MAX: usize = 1 << 26;
/// Nodes of a program.
pub const PROGRAM_NODES_MAX: usize = 1 << 16;
/// Bytes of a program's operations as text.
pub const PROGRAM_BYTES_MAX: usize = 1 << 26;
/// Bytes of a program's constants as a file.
pub const CONSTANTS_BYTES_MAX: usize = 1 << 32;
/// Elements that are read and written to make what follows from a program's constants alone.
pub const FOLDED_ELEMENTS_MAX: usize = 1 << 27;
/// Dimensions of a tensor of a program.
pub const RANK_TENSOR_MAX: usize = 16;
/// Multiplications of one operation of a program, on the general path (minutes).
pub const OP_WORK_MAX: usize = 1 << 36;
/// Parameters of a model, buffers included (512 MiB of `f32`).
pub const PARAMETERS_MAX: usize = 1 << 27;
/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 128;
/// Elements the largest value of a batch may have in one call of the engine.
pub const BATCH_ELEMENTS_MAX: usize = 1 << 28;
/// Elements of work that the engine aims at running together; single rows may need more.
pub const CHUNK_ELEMENTS_MAX: usize = 1 << 22;
/// Rows in one call of the engine, and in one activation.
pub const BATCH_ROWS_MAX: usize = 1 << 20;
/// Tensors that cross one cut.
pub const LIVE_MAX: usize = 64;
/// Bytes of a parameter file: the values, and a generous header.
pub const PARAMETER_FILE_BYTES_MAX: usize = PARAMETERS_MAX * 4 + (8 << 20);

const _: () = assert!(VALUE_ELEMENTS_MAX <= BATCH_ELEMENTS_MAX);
const _: () = assert!(BATCH_ELEMENTS_MAX <= u32::MAX as usize);
