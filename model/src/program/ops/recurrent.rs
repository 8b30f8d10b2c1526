//! Recurrent networks: plain, gated (GRU), long short-term memory.
//!
//! With ONNX's default activations. Weights of a direction are `[gates · hidden, width]`, in the
//! order z r h (GRU) and i o f c (LSTM). Start at [`run`].

use super::super::op::{Cell, Direction, Recurrent};
use super::super::value::{Element, OpError, OpResult, Value, wrong};
use super::layout::transpose;
use crate::limits::VALUE_ELEMENTS_MAX;

/// The tensors of one run.
struct Net<'a> {
    how: &'a Recurrent,
    steps: usize,
    batch: usize,
    width: usize,
    x: &'a [f32],
    w: &'a [f32],
    r: &'a [f32],
    bias: Option<&'a [f32]>,
    lengths: Option<Vec<i64>>,
    h0: Option<&'a [f32]>,
    c0: Option<&'a [f32]>,
    peephole: Option<&'a [f32]>,
}

/// All states, the last one, and for an LSTM the last cell.
pub(super) fn run(values: &[Option<&Value>], how: &Recurrent) -> OpResult<Vec<Value>> {
    let at = |i: usize| values.get(i).copied().flatten();
    let need = |i: usize| at(i).ok_or_else(|| OpError::Misfit(format!("input {i} is missing")));
    let turned;
    let mut x = need(0)?;
    if how.batch_first {
        turned = transpose(x, Some(&[1, 0, 2]))?;
        x = &turned;
    }
    let [steps, batch, width] = *x.shape() else { return wrong("it reads [time, batch, width]") };
    let (w, r) = (need(1)?, need(2)?);
    let gates = match how.cell {
        Cell::Rnn => 1,
        Cell::Gru { .. } => 3,
        Cell::Lstm => 4,
    };
    let (hidden, ways) =
        (how.hidden, if how.direction == Direction::Bidirectional { 2 } else { 1 });
    let state = |i: usize| -> OpResult<Option<Vec<f32>>> {
        let Some(value) = at(i) else { return Ok(None) };
        let value =
            if how.batch_first { transpose(value, Some(&[1, 0, 2]))? } else { value.clone() };
        if value.shape() != [ways, batch, hidden] {
            return wrong(format!("a first state of shape {:?}", value.shape()));
        }
        Ok(Some(value.f32s()?.to_vec()))
    };
    let (h0, c0) = (state(5)?, if how.cell == Cell::Lstm { state(6)? } else { None });
    let peephole = if how.cell == Cell::Lstm { at(7) } else { None };
    if hidden > VALUE_ELEMENTS_MAX {
        return wrong(format!("a state of {hidden} numbers"));
    }
    let fits = w.shape() == [ways, gates * hidden, width]
        && r.shape() == [ways, gates * hidden, hidden]
        && at(3).is_none_or(|b| b.shape() == [ways, 2 * gates * hidden])
        && peephole.is_none_or(|p| p.shape() == [ways, 3 * hidden])
        && at(4).is_none_or(|l| l.shape() == [batch]);
    if !fits {
        return wrong("weights, bias or lengths have other shapes than the input asks for");
    }
    let net = Net {
        how,
        steps,
        batch,
        width,
        x: x.f32s()?,
        w: w.f32s()?,
        r: r.f32s()?,
        bias: at(3).map(Value::f32s).transpose()?,
        lengths: at(4).map(Value::to_i64s).transpose()?,
        h0: h0.as_deref(),
        c0: c0.as_deref(),
        peephole: peephole.map(Value::f32s).transpose()?,
    };
    let mut all = vec![0.0f32; steps * ways * batch * hidden];
    let (mut last, mut cells) = (Vec::new(), Vec::new());
    for way in 0..ways {
        for row in 0..batch {
            let backward = how.direction == Direction::Reverse || way == 1;
            let (h, c) = net.sequence(way, row, backward, &mut all);
            last.extend(h.into_iter().map(f32::from_f64));
            cells.extend(c.into_iter().map(f32::from_f64));
        }
    }
    let all = Value::of(vec![steps, ways, batch, hidden], all)?;
    let last = Value::of(vec![ways, batch, hidden], last)?;
    let cells = Value::of(vec![ways, batch, hidden], cells)?;
    if !how.batch_first {
        return Ok(vec![all, last, cells]);
    }
    Ok(vec![
        transpose(&all, Some(&[2, 0, 1, 3]))?,
        transpose(&last, Some(&[1, 0, 2]))?,
        transpose(&cells, Some(&[1, 0, 2]))?,
    ])
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Net<'_> {
    fn sequence(
        &self,
        way: usize,
        row: usize,
        backward: bool,
        all: &mut [f32],
    ) -> (Vec<f64>, Vec<f64>) {
        let hidden = self.how.hidden;
        let ways = if self.how.direction == Direction::Bidirectional { 2 } else { 1 };
        let first = |from: Option<&[f32]>| match from {
            Some(from) => {
                let start = (way * self.batch + row) * hidden;
                from[start..start + hidden].iter().map(|&x| f64::from(x)).collect()
            }
            None => vec![0.0; hidden],
        };
        let (mut h, mut c): (Vec<f64>, Vec<f64>) = (first(self.h0), first(self.c0));
        let length = self.lengths.as_ref().map_or(self.steps, |lengths| {
            usize::try_from(lengths[row]).unwrap_or(0).min(self.steps)
        });
        for step in 0..length {
            let t = if backward { length - 1 - step } else { step };
            let x = &self.x[(t * self.batch + row) * self.width..][..self.width];
            (h, c) = self.step(way, x, &h, &c);
            let start = ((t * ways + way) * self.batch + row) * hidden;
            for (to, from) in all[start..start + hidden].iter_mut().zip(&h) {
                *to = f32::from_f64(*from);
            }
        }
        (h, c)
    }

    /// `W x + b` and `R h + b'` of one gate's unit.
    fn sums(&self, way: usize, unit: usize, x: &[f32], h: &[f64]) -> (f64, f64) {
        let rows = self.rows();
        let w = &self.w[(way * rows + unit) * self.width..][..self.width];
        let r = &self.r[(way * rows + unit) * self.how.hidden..][..self.how.hidden];
        let bias = |second: usize| {
            self.bias.map_or(0.0, |bias| f64::from(bias[way * 2 * rows + second * rows + unit]))
        };
        let left: f64 = w.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let right: f64 = r.iter().zip(h).map(|(a, b)| f64::from(*a) * b).sum();
        (left + bias(0), right + bias(1))
    }

    /// Units of all gates of one direction.
    fn rows(&self) -> usize {
        let gates = match self.how.cell {
            Cell::Rnn => 1,
            Cell::Gru { .. } => 3,
            Cell::Lstm => 4,
        };
        gates * self.how.hidden
    }

    fn step(&self, way: usize, x: &[f32], h: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let n = self.how.hidden;
        let gate = |g: usize, unit: usize| {
            let (left, right) = self.sums(way, g * n + unit, x, h);
            left + right
        };
        let peep = |g: usize, unit: usize| {
            self.peephole.map_or(0.0, |p| f64::from(p[way * 3 * n + g * n + unit]))
        };
        match self.how.cell {
            Cell::Rnn => ((0..n).map(|unit| gate(0, unit).tanh()).collect(), c.to_vec()),
            Cell::Gru { linear_before_reset } => {
                let reset: Vec<f64> = (0..n).map(|unit| sigmoid(gate(1, unit))).collect();
                let weighted: Vec<f64> = h.iter().zip(&reset).map(|(h, r)| h * r).collect();
                let next = |unit: usize| {
                    let update = sigmoid(gate(0, unit));
                    let inner = if linear_before_reset {
                        let (left, right) = self.sums(way, 2 * n + unit, x, h);
                        left + reset[unit] * right
                    } else {
                        let (left, right) = self.sums(way, 2 * n + unit, x, &weighted);
                        left + right
                    };
                    (1.0 - update) * inner.tanh() + update * h[unit]
                };
                ((0..n).map(next).collect(), c.to_vec())
            }
            Cell::Lstm => {
                let cell = |unit: usize| {
                    let input = sigmoid(gate(0, unit) + peep(0, unit) * c[unit]);
                    let forget = sigmoid(gate(2, unit) + peep(2, unit) * c[unit]);
                    forget * c[unit] + input * gate(3, unit).tanh()
                };
                let cells: Vec<f64> = (0..n).map(cell).collect();
                let out = |unit: usize| {
                    sigmoid(gate(1, unit) + peep(1, unit) * cells[unit]) * cells[unit].tanh()
                };
                ((0..n).map(out).collect(), cells)
            }
        }
    }
}
