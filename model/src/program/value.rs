//! Typed tensors of an imported graph: a shape and its elements, integers and truth values too.
//!
//! Like [`crate::tensor::Tensor`] they may hold people's rows, so they have neither `Debug` nor a form
//! on the wire. No arithmetic here: that is `ops`. Start at [`Value`].

use crate::limits::{OP_WORK_MAX, RANK_TENSOR_MAX, VALUE_ELEMENTS_MAX};

/// What the elements of a [`Value`] are.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// False or true.
    Bool,
}

/// Elements in row-major order, by type.
#[derive(Clone, PartialEq)]
pub enum Data {
    /// See [`DType::F32`].
    F32(Vec<f32>),
    /// See [`DType::F64`].
    F64(Vec<f64>),
    /// See [`DType::I8`].
    I8(Vec<i8>),
    /// See [`DType::I16`].
    I16(Vec<i16>),
    /// See [`DType::I32`].
    I32(Vec<i32>),
    /// See [`DType::I64`].
    I64(Vec<i64>),
    /// See [`DType::U8`].
    U8(Vec<u8>),
    /// See [`DType::U16`].
    U16(Vec<u16>),
    /// See [`DType::U32`].
    U32(Vec<u32>),
    /// See [`DType::U64`].
    U64(Vec<u64>),
    /// See [`DType::Bool`].
    Bool(Vec<bool>),
}

/// Runs the same lines for whichever type the elements have: `each!(&data, items => expression)`.
macro_rules! each {
    ($data:expr, $items:ident => $run:expr) => {
        match $data {
            $crate::program::value::Data::F32($items) => $run,
            $crate::program::value::Data::F64($items) => $run,
            $crate::program::value::Data::I8($items) => $run,
            $crate::program::value::Data::I16($items) => $run,
            $crate::program::value::Data::I32($items) => $run,
            $crate::program::value::Data::I64($items) => $run,
            $crate::program::value::Data::U8($items) => $run,
            $crate::program::value::Data::U16($items) => $run,
            $crate::program::value::Data::U32($items) => $run,
            $crate::program::value::Data::U64($items) => $run,
            $crate::program::value::Data::Bool($items) => $run,
        }
    };
}
pub(crate) use each;

/// A type that elements may have.
pub(crate) trait Element:
    Copy + PartialEq + PartialOrd + Default + Send + Sync + 'static
{
    /// Its name.
    const DTYPE: DType;
    /// Elements under their type.
    fn wrap(items: Vec<Self>) -> Data;
    /// The elements, if they have this type.
    fn slice(data: &Data) -> Option<&[Self]>;
    /// The number as a double, 0 or 1 for truth values.
    fn to_f64(self) -> f64;
    /// The number as an integer, towards zero, saturating.
    fn to_i128(self) -> i128;
    /// Nearest representable: towards zero and saturating for integers, "not zero" for truth values.
    fn from_f64(number: f64) -> Self;
    /// Modulo two to the bits for integers.
    fn from_i128(number: i128) -> Self;
    /// Appends its little-endian bytes.
    fn put(self, bytes: &mut Vec<u8>);
    /// From as many little-endian bytes as it has.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! number {
    ($type:ty, $variant:ident) => {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "conversions saturate, wrap or round as their documentation says"
        )]
        impl Element for $type {
            const DTYPE: DType = DType::$variant;
            fn wrap(items: Vec<Self>) -> Data {
                Data::$variant(items)
            }
            fn slice(data: &Data) -> Option<&[Self]> {
                match data {
                    Data::$variant(items) => Some(items),
                    _ => None,
                }
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn to_i128(self) -> i128 {
                self as i128
            }
            fn from_f64(number: f64) -> Self {
                number as $type
            }
            fn from_i128(number: i128) -> Self {
                number as $type
            }
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Self {
                bytes.try_into().map_or_else(|_| Self::default(), Self::from_le_bytes)
            }
        }
    };
}
number!(f32, F32);
number!(f64, F64);
number!(i8, I8);
number!(i16, I16);
number!(i32, I32);
number!(i64, I64);
number!(u8, U8);
number!(u16, U16);
number!(u32, U32);
number!(u64, U64);

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn wrap(items: Vec<Self>) -> Data {
        Data::Bool(items)
    }
    fn slice(data: &Data) -> Option<&[Self]> {
        match data {
            Data::Bool(items) => Some(items),
            _ => None,
        }
    }
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    fn to_i128(self) -> i128 {
        i128::from(self)
    }
    fn from_f64(number: f64) -> Self {
        number != 0.0
    }
    fn from_i128(number: i128) -> Self {
        number != 0
    }
    fn put(self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self));
    }
    fn get(bytes: &[u8]) -> Self {
        bytes.iter().any(|&byte| byte != 0)
    }
}

/// A tensor: any rank, rank 0 is a single element, an axis may be empty.
#[derive(Clone, PartialEq)]
pub struct Value {
    shape: Vec<usize>,
    data: Data,
}

/// Why an operation cannot run on its inputs. The caller adds the node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// Inputs that do not fit: what is wrong and what was expected.
    #[error("{0}")]
    Misfit(String),
    /// Inputs that are valid and not supported.
    #[error("{0}")]
    Unsupported(String),
}

/// What operations give.
pub(crate) type OpResult<T> = Result<T, OpError>;

/// An [`OpError`] from words.
pub(crate) fn wrong<T>(words: impl Into<String>) -> OpResult<T> {
    Err(OpError::Misfit(words.into()))
}

impl Value {
    /// A tensor of that shape.
    ///
    /// # Errors
    /// [`OpError`] where shape and elements disagree, or there are more than this program takes.
    pub fn new(shape: Vec<usize>, data: Data) -> OpResult<Self> {
        let (want, got) = (elements(&shape)?, data.len());
        if want != got {
            return wrong(format!("shape {shape:?} does not hold {got} elements"));
        }
        Ok(Self { shape, data })
    }

    /// A tensor of elements of one type.
    pub(crate) fn of<T: Element>(shape: Vec<usize>, items: Vec<T>) -> OpResult<Self> {
        Self::new(shape, T::wrap(items))
    }

    /// A single element.
    pub(crate) fn scalar<T: Element>(item: T) -> Self {
        Self { shape: Vec::new(), data: T::wrap(vec![item]) }
    }

    /// A vector of integers, as shapes and axes are given.
    pub(crate) fn integers(items: Vec<i64>) -> Self {
        Self { shape: vec![items.len()], data: Data::I64(items) }
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    #[must_use]
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Gives shape and elements up.
    #[must_use]
    pub fn into_parts(self) -> (Vec<usize>, Data) {
        (self.shape, self.data)
    }

    /// What the elements are.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether an axis is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of axes.
    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The same elements under another shape.
    pub(crate) fn reshaped(self, shape: Vec<usize>) -> OpResult<Self> {
        Self::new(shape, self.data)
    }

    /// The elements as this type, or what was expected.
    pub(crate) fn slice<T: Element>(&self) -> OpResult<&[T]> {
        T::slice(&self.data).ok_or_else(|| {
            let words = format!("its elements are {:?}, expected {:?}", self.dtype(), T::DTYPE);
            // Another float is a valid one for the operation, in a width that is not computed here.
            let float = self.dtype().is_float() && T::DTYPE.is_float();
            if float { OpError::Unsupported(words) } else { OpError::Misfit(words) }
        })
    }

    /// The elements as single precision.
    pub(crate) fn f32s(&self) -> OpResult<&[f32]> {
        self.slice()
    }

    /// All elements as integers, as shapes, axes and indices are given.
    pub(crate) fn to_i64s(&self) -> OpResult<Vec<i64>> {
        match &self.data {
            Data::I64(items) => Ok(items.clone()),
            Data::I32(items) => Ok(items.iter().map(|&item| i64::from(item)).collect()),
            _ => wrong(format!("its elements are {:?}, expected integers", self.dtype())),
        }
    }

    /// The elements as doubles, 0 and 1 for truth values; integers beyond 2^53 are rounded.
    #[must_use]
    pub fn to_f64s(&self) -> Vec<f64> {
        each!(&self.data, items => items.iter().map(|item| item.to_f64()).collect())
    }

    /// The only element, as a double.
    pub(crate) fn number(&self) -> OpResult<f64> {
        if self.len() != 1 {
            return wrong(format!("shape {:?} where one number was expected", self.shape));
        }
        Ok(each!(&self.data, items => items[0].to_f64()))
    }
}

impl Data {
    /// What the elements are.
    #[must_use]
    pub fn dtype(&self) -> DType {
        fn dtype<T: Element>(_: &[T]) -> DType {
            T::DTYPE
        }
        each!(self, items => dtype(items))
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        each!(self, items => items.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements at these places, which must be within.
    pub(crate) fn pick(&self, places: impl Iterator<Item = usize>) -> Self {
        fn pick<T: Element>(items: &[T], places: impl Iterator<Item = usize>) -> Data {
            T::wrap(places.map(|place| items[place]).collect())
        }
        each!(self, items => pick(items, places))
    }

    /// So many elements of a type, all zero or false.
    pub(crate) fn zeros(dtype: DType, len: usize) -> Self {
        dtype.visit(Zeros(len))
    }
}

struct Zeros(usize);

impl Visit for Zeros {
    type Out = Data;
    fn run<T: Element>(self) -> Data {
        T::wrap(vec![T::default(); self.0])
    }
}

/// Something to do for a type that is known at run time only.
pub(crate) trait Visit {
    /// What it gives.
    type Out;
    /// Does it.
    fn run<T: Element>(self) -> Self::Out;
}

impl DType {
    pub(crate) fn visit<V: Visit>(self, visit: V) -> V::Out {
        match self {
            Self::F32 => visit.run::<f32>(),
            Self::F64 => visit.run::<f64>(),
            Self::I8 => visit.run::<i8>(),
            Self::I16 => visit.run::<i16>(),
            Self::I32 => visit.run::<i32>(),
            Self::I64 => visit.run::<i64>(),
            Self::U8 => visit.run::<u8>(),
            Self::U16 => visit.run::<u16>(),
            Self::U32 => visit.run::<u32>(),
            Self::U64 => visit.run::<u64>(),
            Self::Bool => visit.run::<bool>(),
        }
    }

    /// Bytes of one element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// Whether it has fractions.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

/// Number of elements of a shape, within this program's limit.
pub(crate) fn elements(shape: &[usize]) -> OpResult<usize> {
    if shape.len() > RANK_TENSOR_MAX {
        return wrong(format!("{} axes, at most {RANK_TENSOR_MAX} go", shape.len()));
    }
    let product = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
    match product {
        Some(n) if n <= VALUE_ELEMENTS_MAX => Ok(n),
        _ => wrong(format!("shape {shape:?} has more than {VALUE_ELEMENTS_MAX} elements")),
    }
}

/// Refuses an operation of more multiplications, the product of these, than this program takes: what
/// comes from outside may be slow, but it may not hang.
pub(crate) fn work(factors: &[usize]) -> OpResult<()> {
    let product = factors.iter().try_fold(1usize, |n, &factor| n.checked_mul(factor));
    match product {
        Some(n) if n <= OP_WORK_MAX => Ok(()),
        _ => wrong(format!("it takes more than {OP_WORK_MAX} multiplications at once")),
    }
}

/// Distance between neighbours along each axis, in elements.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// An axis that may count from the end, `-1` being the last.
pub(crate) fn axis(axis: i64, rank: usize) -> OpResult<usize> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let place = if axis < 0 { axis + signed } else { axis };
    match usize::try_from(place) {
        Ok(place) if place < rank => Ok(place),
        _ => wrong(format!("axis {axis} is no axis of a tensor with {rank}")),
    }
}

/// Several axes, each once, ascending; all of them if none is named.
pub(crate) fn axes(named: &[i64], rank: usize) -> OpResult<Vec<usize>> {
    if named.is_empty() {
        return Ok((0..rank).collect());
    }
    let mut places = named.iter().map(|&one| axis(one, rank)).collect::<OpResult<Vec<_>>>()?;
    places.sort_unstable();
    if places.windows(2).any(|pair| pair[0] == pair[1]) {
        return wrong(format!("axes {named:?} name one axis twice"));
    }
    Ok(places)
}

impl Data {
    /// Appends a range of another's elements, which must be of this type.
    pub(crate) fn append(&mut self, other: &Self, range: std::ops::Range<usize>) {
        match (self, other) {
            (Self::F32(to), Self::F32(from)) => to.extend_from_slice(&from[range]),
            (Self::F64(to), Self::F64(from)) => to.extend_from_slice(&from[range]),
            (Self::I8(to), Self::I8(from)) => to.extend_from_slice(&from[range]),
            (Self::I16(to), Self::I16(from)) => to.extend_from_slice(&from[range]),
            (Self::I32(to), Self::I32(from)) => to.extend_from_slice(&from[range]),
            (Self::I64(to), Self::I64(from)) => to.extend_from_slice(&from[range]),
            (Self::U8(to), Self::U8(from)) => to.extend_from_slice(&from[range]),
            (Self::U16(to), Self::U16(from)) => to.extend_from_slice(&from[range]),
            (Self::U32(to), Self::U32(from)) => to.extend_from_slice(&from[range]),
            (Self::U64(to), Self::U64(from)) => to.extend_from_slice(&from[range]),
            (Self::Bool(to), Self::Bool(from)) => to.extend_from_slice(&from[range]),
            _ => unreachable!("types were compared before"),
        }
    }
}
