//! Element by element: one value, two, many; conditions, bounds, types.
//!
//! Floats are computed in double precision and rounded once, which costs time and no accuracy: this is
//! the general path. Integers wrap, as in ONNX Runtime. Start at [`unary`] and [`binary`].

use super::super::op::{Binary, Fold, Unary};
use super::super::value::{DType, Data, Element, OpResult, Value, Visit, each, wrong};
use super::broadcast::{Places, broadcast, stretched};

/// One value, element by element.
pub(super) fn unary(op: Unary, x: &Value) -> OpResult<Value> {
    let data = match op {
        Unary::Not => Data::Bool(x.slice::<bool>()?.iter().map(|item| !item).collect()),
        Unary::IsNan => Data::Bool(doubles(x)?.map(|item: f64| item.is_nan()).collect()),
        Unary::IsInf { negative, positive } => {
            let infinite = |item: f64| {
                item == f64::INFINITY && positive || item == f64::NEG_INFINITY && negative
            };
            Data::Bool(doubles(x)?.map(infinite).collect())
        }
        Unary::BitwiseNot => x.dtype().visit(Integers(x, |item: i128| !item))?,
        _ => x.dtype().visit(Numbers(op, x))?,
    };
    Value::new(x.shape().to_vec(), data)
}

fn doubles(x: &Value) -> OpResult<impl Iterator<Item = f64>> {
    if !x.dtype().is_float() {
        return wrong(format!("elements are {:?}, expected floats", x.dtype()));
    }
    let items: Vec<f64> =
        each!(x.data(), items => items.iter().map(|item| item.to_f64()).collect());
    Ok(items.into_iter())
}

struct Integers<'a, F>(&'a Value, F);

impl<F: Fn(i128) -> i128> Visit for Integers<'_, F> {
    type Out = OpResult<Data>;
    fn run<T: Element>(self) -> OpResult<Data> {
        if T::DTYPE.is_float() || T::DTYPE == DType::Bool {
            return wrong(format!("elements are {:?}, expected integers", T::DTYPE));
        }
        let items = self.0.slice::<T>()?;
        Ok(T::wrap(items.iter().map(|item| T::from_i128(self.1(item.to_i128()))).collect()))
    }
}

struct Numbers<'a>(Unary, &'a Value);

impl Visit for Numbers<'_> {
    type Out = OpResult<Data>;
    fn run<T: Element>(self) -> OpResult<Data> {
        let Self(op, x) = self;
        let items = x.slice::<T>()?;
        if T::DTYPE == DType::Bool {
            return wrong("elements are truth values, expected numbers");
        }
        let exact: Option<fn(i128) -> i128> = match op {
            _ if T::DTYPE.is_float() => None,
            Unary::Abs => Some(i128::abs),
            Unary::Neg => Some(|item| -item),
            Unary::Sign => Some(i128::signum),
            Unary::Relu => Some(|item| item.max(0)),
            Unary::Ceil | Unary::Floor | Unary::Round => Some(|item| item),
            _ => None,
        };
        Ok(T::wrap(match exact {
            Some(exact) => items.iter().map(|i| T::from_i128(exact(i.to_i128()))).collect(),
            None => items.iter().map(|item| T::from_f64(function(op, item.to_f64()))).collect(),
        }))
    }
}

/// The function of a number.
fn function(op: Unary, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    match op {
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        Unary::Ceil => x.ceil(),
        Unary::Floor => x.floor(),
        Unary::Round => x.round_ties_even(),
        Unary::Sign => (f64::from(u8::from(x > 0.0))) - f64::from(u8::from(x < 0.0)),
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => 1.0 / x,
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tan => x.tan(),
        Unary::Asin => x.asin(),
        Unary::Acos => x.acos(),
        Unary::Atan => x.atan(),
        Unary::Sinh => x.sinh(),
        Unary::Cosh => x.cosh(),
        Unary::Tanh => x.tanh(),
        Unary::Asinh => x.asinh(),
        Unary::Acosh => x.acosh(),
        Unary::Atanh => x.atanh(),
        Unary::Erf => libm::erf(x),
        Unary::Sigmoid => sigmoid(x),
        // What is no number stays none.
        Unary::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Unary::Softplus => softplus(x),
        Unary::Softsign => x / (1.0 + x.abs()),
        Unary::Mish => x * softplus(x).tanh(),
        Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::Gelu { tanh: false } => {
            0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
        }
        Unary::Gelu { tanh: true } => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            0.5 * x * (1.0 + (root * (x + 0.044_715 * x.powi(3))).tanh())
        }
        Unary::Swish { alpha } => x * sigmoid(alpha * x),
        _ => with_parameters(op, x),
    }
}

/// The functions that have parameters.
fn with_parameters(op: Unary, x: f64) -> f64 {
    match op {
        Unary::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha * x
            } else {
                x
            }
        }
        Unary::Elu { alpha } => {
            if x < 0.0 {
                alpha * x.exp_m1()
            } else {
                x
            }
        }
        Unary::Celu { alpha } => x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0),
        Unary::Selu { alpha, gamma } => gamma * if x <= 0.0 { alpha * x.exp_m1() } else { x },
        Unary::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
        Unary::ThresholdedRelu { alpha } => {
            if x > alpha {
                x
            } else {
                0.0
            }
        }
        Unary::Shrink { lambd, bias } => {
            if x < -lambd {
                x + bias
            } else if x > lambd {
                x - bias
            } else {
                0.0
            }
        }
        _ => unreachable!("functions without parameters and those of other types are done above"),
    }
}

/// Two values, element by element.
pub(super) fn binary(op: Binary, a: &Value, b: &Value) -> OpResult<Value> {
    match op {
        Binary::Pow => return pow(a, b),
        Binary::And | Binary::Or | Binary::Xor => return logic(op, a, b),
        _ => {}
    }
    if a.dtype() != b.dtype() {
        return wrong(format!("elements are {:?} and {:?}", a.dtype(), b.dtype()));
    }
    a.dtype().visit(Pairs { op, a, b })
}

fn logic(op: Binary, a: &Value, b: &Value) -> OpResult<Value> {
    let combine = match op {
        Binary::And => |a: bool, b: bool| a && b,
        Binary::Or => |a: bool, b: bool| a || b,
        _ => |a: bool, b: bool| a != b,
    };
    let (shape, items) = zip::<bool, bool, bool>(a, b, combine)?;
    Value::of(shape, items)
}

/// The exponent may be of another type; the result is of the base's.
fn pow(a: &Value, b: &Value) -> OpResult<Value> {
    let b = cast(b, DType::F64)?;
    struct Powers<'a>(&'a Value, &'a Value);
    impl Visit for Powers<'_> {
        type Out = OpResult<Value>;
        fn run<T: Element>(self) -> OpResult<Value> {
            let power = |a: T, b: f64| T::from_f64(a.to_f64().powf(b));
            let (shape, items) = zip::<T, f64, T>(self.0, self.1, power)?;
            Value::of(shape, items)
        }
    }
    a.dtype().visit(Powers(a, &b))
}

struct Pairs<'a> {
    op: Binary,
    a: &'a Value,
    b: &'a Value,
}

impl Visit for Pairs<'_> {
    type Out = OpResult<Value>;
    fn run<T: Element>(self) -> OpResult<Value> {
        let Self { op, a, b } = self;
        if let Some(compare) = comparison::<T>(op) {
            let (shape, items) = zip::<T, T, bool>(a, b, compare)?;
            return Value::of(shape, items);
        }
        let (shape, items) = if T::DTYPE.is_float() {
            let Some(combine) = of_floats(op) else {
                return wrong(format!("elements are {:?}, expected integers", T::DTYPE));
            };
            zip::<T, T, T>(a, b, |a, b| T::from_f64(combine(a.to_f64(), b.to_f64())))?
        } else {
            let Some(combine) = of_integers(op).filter(|_| T::DTYPE != DType::Bool) else {
                return wrong(format!("elements are {:?}, expected floats", T::DTYPE));
            };
            let by_zero = matches!(op, Binary::Div | Binary::Mod { .. });
            if by_zero && b.slice::<T>()?.iter().any(|item| item.to_i128() == 0) {
                return wrong("an integer is divided by zero");
            }
            zip::<T, T, T>(a, b, |a, b| T::from_i128(combine(a.to_i128(), b.to_i128())))?
        };
        Value::of(shape, items)
    }
}

fn comparison<T: Element>(op: Binary) -> Option<fn(T, T) -> bool> {
    Some(match op {
        Binary::Equal => |a, b| a == b,
        Binary::Less => |a, b| a < b,
        Binary::LessOrEqual => |a, b| a <= b,
        Binary::Greater => |a, b| a > b,
        Binary::GreaterOrEqual => |a, b| a >= b,
        _ => return None,
    })
}

fn of_floats(op: Binary) -> Option<fn(f64, f64) -> f64> {
    Some(match op {
        Binary::Add => |a, b| a + b,
        Binary::Sub => |a, b| a - b,
        Binary::Mul => |a, b| a * b,
        Binary::Div => |a, b| a / b,
        Binary::Mod { fmod: true } => |a, b| a % b,
        Binary::PRelu => |a, b| if a < 0.0 { a * b } else { a },
        _ => return None,
    })
}

fn of_integers(op: Binary) -> Option<fn(i128, i128) -> i128> {
    Some(match op {
        Binary::Add => |a, b| a + b,
        Binary::Sub => |a, b| a - b,
        Binary::Mul => i128::wrapping_mul,
        Binary::Div => |a, b| a / b,
        Binary::Mod { fmod: true } => |a, b| a % b,
        // The sign of the divisor, as in Python.
        Binary::Mod { fmod: false } => |a, b| {
            let rest = a % b;
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        },
        Binary::PRelu => |a, b| if a < 0 { a * b } else { a },
        Binary::BitwiseAnd => |a, b| a & b,
        Binary::BitwiseOr => |a, b| a | b,
        Binary::BitwiseXor => |a, b| a ^ b,
        Binary::BitShift { left: true } => |a, b| shift(a, b, true),
        Binary::BitShift { left: false } => |a, b| shift(a, b, false),
        _ => return None,
    })
}

fn shift(a: i128, by: i128, left: bool) -> i128 {
    match u32::try_from(by) {
        Ok(by) if by < 64 => {
            if left {
                a << by
            } else {
                a >> by
            }
        }
        _ => 0,
    }
}

/// Combines stretched tensors of these types.
fn zip<A: Element, B: Element, C: Element>(
    a: &Value,
    b: &Value,
    combine: impl Fn(A, B) -> C,
) -> OpResult<(Vec<usize>, Vec<C>)> {
    let (x, y) = (a.slice::<A>()?, b.slice::<B>()?);
    if a.shape() == b.shape() {
        let items = x.iter().zip(y).map(|(&a, &b)| combine(a, b)).collect();
        return Ok((a.shape().to_vec(), items));
    }
    let shape = broadcast(&[a.shape(), b.shape()])?;
    let left = Places::new(&shape, stretched(a.shape(), &shape), 0);
    let right = Places::new(&shape, stretched(b.shape(), &shape), 0);
    let items = left.zip(right).map(|(i, j)| combine(x[i], y[j])).collect();
    Ok((shape, items))
}

/// The stretched tensor.
pub(super) fn expand(x: &Value, shape: &[usize]) -> OpResult<Value> {
    let shape = broadcast(&[x.shape(), shape])?;
    let places = Places::new(&shape, stretched(x.shape(), &shape), 0);
    let data = x.data().pick(places);
    Value::new(shape, data)
}

/// Many values, element by element.
pub(super) fn fold(op: Fold, values: &[&Value]) -> OpResult<Value> {
    let [first, rest @ ..] = values else { return wrong("it reads nothing") };
    let mut out = (*first).clone();
    for value in rest {
        if value.dtype() != first.dtype() {
            return wrong(format!("elements are {:?} and {:?}", first.dtype(), value.dtype()));
        }
        out = first.dtype().visit(Folded(op, &out, value))?;
    }
    if op != Fold::Mean {
        return Ok(out);
    }
    let count = Value::scalar(f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX)));
    binary(Binary::Div, &out, &cast(&count, first.dtype())?)
}

struct Folded<'a>(Fold, &'a Value, &'a Value);

impl Visit for Folded<'_> {
    type Out = OpResult<Value>;
    fn run<T: Element>(self) -> OpResult<Value> {
        let Self(op, a, b) = self;
        let nan = |a: T, b: T| a.partial_cmp(&b).is_none();
        let extreme = |a: T, b: T, first: bool| match (first, nan(a, b)) {
            // What is no number wins, as in numpy.
            (_, true) => {
                if a.partial_cmp(&a).is_none() {
                    a
                } else {
                    b
                }
            }
            (true, false) => a,
            (false, false) => b,
        };
        let (shape, items) = match op {
            Fold::Max => zip::<T, T, T>(a, b, |a, b| extreme(a, b, a >= b))?,
            Fold::Min => zip::<T, T, T>(a, b, |a, b| extreme(a, b, a <= b))?,
            Fold::Sum | Fold::Mean => return binary(Binary::Add, a, b),
        };
        Value::of(shape, items)
    }
}

/// `condition ? a : b`.
pub(super) fn choose(condition: &Value, a: &Value, b: &Value) -> OpResult<Value> {
    let which = condition.slice::<bool>()?;
    if a.dtype() != b.dtype() {
        return wrong(format!("elements are {:?} and {:?}", a.dtype(), b.dtype()));
    }
    let shape = broadcast(&[condition.shape(), a.shape(), b.shape()])?;
    let places = |of: &Value| Places::new(&shape, stretched(of.shape(), &shape), 0);
    struct Choice<'a, I>(&'a Value, &'a Value, I);
    impl<I: Iterator<Item = (bool, usize, usize)>> Visit for Choice<'_, I> {
        type Out = OpResult<Data>;
        fn run<T: Element>(self) -> OpResult<Data> {
            let (a, b) = (self.0.slice::<T>()?, self.1.slice::<T>()?);
            let pick = |(first, i, j): (bool, usize, usize)| if first { a[i] } else { b[j] };
            Ok(T::wrap(self.2.map(pick).collect()))
        }
    }
    let pairs = places(a).zip(places(b));
    let choices = places(condition).zip(pairs).map(|(at, (i, j))| (which[at], i, j));
    let data = a.dtype().visit(Choice(a, b, choices))?;
    Value::new(shape, data)
}

/// Within bounds that may be left out.
pub(super) fn clip(x: &Value, min: Option<&Value>, max: Option<&Value>) -> OpResult<Value> {
    let mut out = x.clone();
    for (bound, op) in [(min, Fold::Max), (max, Fold::Min)] {
        let Some(bound) = bound else { continue };
        if bound.len() != 1 {
            return wrong(format!("a bound has shape {:?}, expected one number", bound.shape()));
        }
        let bound = bound.clone().reshaped(Vec::new())?;
        out = fold(op, &[&out, &bound])?;
    }
    Ok(out)
}

/// Another type of element: towards zero and saturating from floats, modulo 2^bits from integers.
pub(super) fn cast(x: &Value, to: DType) -> OpResult<Value> {
    struct Cast<'a>(&'a Value);
    impl Visit for Cast<'_> {
        type Out = Data;
        fn run<T: Element>(self) -> Data {
            if self.0.dtype().is_float() {
                let number = |item: f64| T::from_f64(item);
                each!(self.0.data(), items => T::wrap(items.iter().map(|i| number(i.to_f64())).collect()))
            } else {
                each!(self.0.data(), items => {
                    T::wrap(items.iter().map(|i| T::from_i128(i.to_i128())).collect())
                })
            }
        }
    }
    if x.dtype() == to {
        return Ok(x.clone());
    }
    Value::new(x.shape().to_vec(), to.visit(Cast(x)))
}
