//! Chains of functions of single elements, run block by block while the block is in the nearest cache:
//! what follows a product, a convolution or nothing.
//!
//! A chain reads the value it starts from, constants (a number, or one for each cell of the last axis
//! or of the channels) and other values of the same shape. It is found once, by [`Chain::push`], and
//! runs in place. Start there and at [`Chain::run`].

use std::sync::Arc;

use super::math::{erf, exp, sigmoid, tanh, vector_work, vectorised};
use crate::program::op::{Binary, Unary};

/// Elements that go through the whole chain before the next ones do.
pub(super) const BLOCK: usize = 512;
/// Values of a block that a chain may need at once.
const REGISTERS: usize = 6;

/// Elements of scratch that [`Chain::run`] needs.
pub(super) const SCRATCH: usize = BLOCK * REGISTERS;

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Unary(Unary),
    /// Between two bounds.
    Clip(f32, f32),
    Square,
    Cube,
}

impl Function {
    /// Whether it is computed here.
    pub(super) fn is_known(self) -> bool {
        match self {
            Self::Unary(unary) => matches!(
                unary,
                Unary::Abs
                    | Unary::Neg
                    | Unary::Sqrt
                    | Unary::Reciprocal
                    | Unary::Exp
                    | Unary::Tanh
                    | Unary::Erf
                    | Unary::Sigmoid
                    | Unary::Relu
                    | Unary::HardSwish
                    | Unary::Gelu { .. }
                    | Unary::Swish { .. }
                    | Unary::LeakyRelu { .. }
                    | Unary::HardSigmoid { .. }
            ),
            _ => true,
        }
    }

    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "parameters are rounded to the elements' type"
    )]
    fn apply(self, block: &mut [f32]) {
        #[inline(always)]
        fn each(block: &mut [f32], f: impl Fn(f32) -> f32) {
            for item in block {
                *item = f(*item);
            }
        }
        let relu = |x: f32| if x < 0.0 { 0.0 } else { x };
        match self {
            Self::Square => each(block, |x| x * x),
            Self::Cube => each(block, |x| x * x * x),
            Self::Clip(low, high) => each(block, |x| bound(x, low, high)),
            Self::Unary(unary) => match unary {
                Unary::Abs => each(block, f32::abs),
                Unary::Neg => each(block, |x| -x),
                Unary::Sqrt => each(block, f32::sqrt),
                Unary::Reciprocal => each(block, |x| 1.0 / x),
                Unary::Exp => each(block, exp),
                Unary::Tanh => each(block, tanh),
                Unary::Erf => each(block, erf),
                Unary::Sigmoid => each(block, sigmoid),
                Unary::Relu => each(block, relu),
                Unary::HardSwish => each(block, |x| x * bound(x / 6.0 + 0.5, 0.0, 1.0)),
                Unary::Gelu { tanh: false } => each(block, gelu),
                Unary::Gelu { tanh: true } => each(block, gelu_by_tanh),
                Unary::Swish { alpha } => {
                    let alpha = alpha as f32;
                    each(block, |x| x * sigmoid(alpha * x));
                }
                Unary::LeakyRelu { alpha } => {
                    let alpha = alpha as f32;
                    each(block, |x| if x < 0.0 { alpha * x } else { x });
                }
                Unary::HardSigmoid { alpha, beta } => {
                    let (alpha, beta) = (alpha as f32, beta as f32);
                    each(block, |x| bound(alpha * x + beta, 0.0, 1.0));
                }
                _ => unreachable!("only functions that are known are taken"),
            },
        }
    }
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_by_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh(0.797_884_6 * (0.044_715 * x * x).mul_add(x, x)))
}

/// Within bounds; what is no number stays none.
#[inline(always)]
fn bound(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// What a step reads beside the register that it changes.
#[derive(Clone, Debug)]
enum Second {
    Register(usize),
    Number(f32),
    Constant(usize),
    Other(usize),
}

#[derive(Clone, Debug)]
enum Step {
    Copy {
        from: usize,
        to: usize,
    },
    Apply {
        function: Function,
        to: usize,
    },
    /// `to = to op second`, or the other way round.
    Combine {
        op: Binary,
        to: usize,
        second: Second,
        turned: bool,
    },
}

/// Along which axis a constant has its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    Last,
    /// The second of four.
    Channels,
}

/// A constant that a chain reads.
#[derive(Clone)]
pub(super) enum Fixed {
    Number(f32),
    Cells(Along, Arc<Vec<f32>>),
}

/// What a new member of a chain reads: a member by its number (0 is the value that the chain starts
/// from), or something from outside.
#[derive(Clone)]
pub(super) enum Operand {
    Member(usize),
    Fixed(Fixed),
    /// Another value of the same shape, by the number that the caller gives it.
    Other(usize),
}

/// A new member.
#[derive(Clone)]
pub(super) enum Member {
    Function(Function, usize),
    Pair(Binary, Operand, Operand),
}

/// What [`Chain::run`] is given.
type Run<'a> = (&'a Chain, &'a mut [f32], usize, &'a [&'a [f32]], &'a mut [f32]);

vector_work!(Blocks<'a>, Chain::blocks, Run<'a>);

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Chain {
    steps: Vec<Step>,
    constants: Vec<Vec<f32>>,
    along: Option<Along>,
    period: Option<usize>,
}

impl Chain {
    /// The chain of these members; its result is the last one. `None` where it needs more than there is.
    pub(super) fn new(members: &[Member]) -> Option<Self> {
        let mut chain = Self::default();
        let mut places = Places::new(members);
        for (at, member) in members.iter().enumerate() {
            let to = match member {
                Member::Function(function, from) => {
                    let to = chain.own(&mut places, at, *from)?;
                    chain.steps.push(Step::Apply { function: *function, to });
                    to
                }
                Member::Pair(op, Operand::Member(a), Operand::Member(b)) => {
                    // The second is read where it lies, the first is changed in place or copied.
                    let second = Second::Register(places.registers[*b]?);
                    let to = if a == b {
                        chain.copy(&mut places, *a)?
                    } else {
                        chain.own(&mut places, at, *a)?
                    };
                    chain.steps.push(Step::Combine { op: *op, to, second, turned: false });
                    to
                }
                Member::Pair(op, Operand::Member(a), second) => {
                    let second = chain.second(second)?;
                    let to = chain.own(&mut places, at, *a)?;
                    chain.steps.push(Step::Combine { op: *op, to, second, turned: false });
                    to
                }
                Member::Pair(op, second, Operand::Member(b)) => {
                    let second = chain.second(second)?;
                    let to = chain.own(&mut places, at, *b)?;
                    chain.steps.push(Step::Combine { op: *op, to, second, turned: true });
                    to
                }
                Member::Pair(..) => return None,
            };
            places.done(at, to);
        }
        // Without members it does nothing.
        let last = places.registers.last().copied().flatten()?;
        if last != 0 {
            chain.steps.push(Step::Copy { from: last, to: 0 });
        }
        Some(chain)
    }

    /// Whether nothing is done.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Cells of its constants, and along which axis: what the value must have there.
    pub(super) fn period(&self) -> Option<(Along, usize)> {
        self.along.zip(self.period)
    }

    /// A register that holds member `from` and may be changed: its own if nobody reads it later.
    fn own(&mut self, places: &mut Places, at: usize, from: usize) -> Option<usize> {
        let register = places.registers[from]?;
        if places.last_use[from] == at { Some(register) } else { self.copy(places, from) }
    }

    fn copy(&mut self, places: &mut Places, from: usize) -> Option<usize> {
        let to = (0..REGISTERS).find(|register| !places.registers.contains(&Some(*register)))?;
        self.steps.push(Step::Copy { from: places.registers[from]?, to });
        Some(to)
    }

    fn second(&mut self, operand: &Operand) -> Option<Second> {
        match operand {
            Operand::Other(number) => Some(Second::Other(*number)),
            Operand::Fixed(Fixed::Number(number)) => Some(Second::Number(*number)),
            Operand::Fixed(Fixed::Cells(along, cells)) => {
                let same = self.along.is_none_or(|other| other == *along)
                    && self.period.is_none_or(|period| period == cells.len());
                if !same || cells.is_empty() {
                    return None;
                }
                (self.along, self.period) = (Some(*along), Some(cells.len()));
                // Short ones are repeated, so that a block may be many of them.
                let times = (BLOCK / cells.len()).max(1);
                self.constants.push(cells.repeat(times));
                Some(Second::Constant(self.constants.len() - 1))
            }
            Operand::Member(_) => None,
        }
    }

    /// Runs it over `items`, which begin at element `start` of the whole value, a multiple of the
    /// constants' period. `others` are whole values; `scratch` has [`SCRATCH`] elements.
    pub(super) fn run(
        &self,
        items: &mut [f32],
        start: usize,
        others: &[&[f32]],
        scratch: &mut [f32],
    ) {
        if self.is_empty() {
            return;
        }
        vectorised(Blocks((self, items, start, others, scratch)));
    }

    #[inline(always)]
    fn blocks((chain, items, start, others, scratch): Run<'_>) {
        let line = chain.period.unwrap_or(BLOCK);
        let (line, block) = match line {
            0..=BLOCK => (BLOCK / line * line, BLOCK / line * line),
            _ => (line, BLOCK),
        };
        let mut at = start;
        for line in items.chunks_mut(line) {
            let mut cell = 0;
            for block in line.chunks_mut(block) {
                chain.block(block, (at, cell), others, scratch);
                at += block.len();
                cell += block.len();
            }
        }
    }

    #[inline(always)]
    fn block(
        &self,
        first: &mut [f32],
        (at, cell): (usize, usize),
        others: &[&[f32]],
        scratch: &mut [f32],
    ) {
        let len = first.len();
        let mut rest = scratch.chunks_exact_mut(BLOCK);
        let mut next = || rest.next().map_or(&mut [][..], |block| &mut block[..len]);
        let mut registers: [&mut [f32]; REGISTERS] =
            [first, next(), next(), next(), next(), next()];
        for step in &self.steps {
            match step {
                Step::Copy { from, to } => {
                    if let Ok([from, to]) = registers.get_disjoint_mut([*from, *to]) {
                        to.copy_from_slice(from);
                    }
                }
                Step::Apply { function, to } => function.apply(registers[*to]),
                Step::Combine { op, to, second: Second::Number(number), turned } => {
                    combine_number(*op, registers[*to], *number, *turned);
                }
                Step::Combine { op, to, second: Second::Register(from), turned } => {
                    if let Ok([from, to]) = registers.get_disjoint_mut([*from, *to]) {
                        combine(*op, to, from, *turned);
                    }
                }
                Step::Combine { op, to, second: Second::Constant(number), turned } => {
                    combine(
                        *op,
                        registers[*to],
                        &self.constants[*number][cell..cell + len],
                        *turned,
                    );
                }
                Step::Combine { op, to, second: Second::Other(number), turned } => {
                    combine(*op, registers[*to], &others[*number][at..at + len], *turned);
                }
            }
        }
    }
}

/// Which register holds which member while a chain is laid out.
struct Places {
    registers: Vec<Option<usize>>,
    last_use: Vec<usize>,
}

impl Places {
    fn new(members: &[Member]) -> Self {
        let mut last_use = vec![usize::MAX; members.len() + 1];
        for (at, member) in members.iter().enumerate() {
            let mut used = |operand: &Operand| {
                if let Operand::Member(member) = operand {
                    last_use[*member] = at;
                }
            };
            match member {
                Member::Function(_, from) => used(&Operand::Member(*from)),
                Member::Pair(_, a, b) => [a, b].into_iter().for_each(used),
            }
        }
        Self { registers: vec![Some(0)], last_use }
    }

    /// Member `at + 1` is in that register; those that nobody reads any more are in none.
    fn done(&mut self, at: usize, to: usize) {
        for (register, last) in self.registers.iter_mut().zip(&self.last_use) {
            if *register == Some(to) || *last == at {
                *register = None;
            }
        }
        self.registers.push(Some(to));
    }
}

/// Whether a pair is computed here.
pub(super) fn is_known(op: Binary) -> bool {
    matches!(op, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div)
}

#[inline(always)]
pub(super) fn combine(op: Binary, to: &mut [f32], from: &[f32], turned: bool) {
    #[inline(always)]
    fn each(to: &mut [f32], from: &[f32], f: impl Fn(f32, f32) -> f32) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f(*to, *from);
        }
    }
    match (op, turned) {
        (Binary::Add, _) => each(to, from, |a, b| a + b),
        (Binary::Mul, _) => each(to, from, |a, b| a * b),
        (Binary::Sub, false) => each(to, from, |a, b| a - b),
        (Binary::Sub, true) => each(to, from, |a, b| b - a),
        (Binary::Div, false) => each(to, from, |a, b| a / b),
        (Binary::Div, true) => each(to, from, |a, b| b / a),
        _ => unreachable!("only pairs that are known are taken"),
    }
}

#[inline(always)]
pub(super) fn combine_number(op: Binary, to: &mut [f32], number: f32, turned: bool) {
    #[inline(always)]
    fn each(to: &mut [f32], f: impl Fn(f32) -> f32) {
        for item in to {
            *item = f(*item);
        }
    }
    match (op, turned) {
        (Binary::Add, _) => each(to, |x| x + number),
        (Binary::Mul, _) => each(to, |x| x * number),
        (Binary::Sub, false) => each(to, |x| x - number),
        (Binary::Sub, true) => each(to, |x| number - x),
        (Binary::Div, false) => each(to, |x| x / number),
        (Binary::Div, true) => each(to, |x| number / x),
        _ => unreachable!("only pairs that are known are taken"),
    }
}
