//! What crosses a cut at one call: typed tensors, and where they belong.
//!
//! Like every tensor here they hold people's rows, so there is neither `Debug` nor a form on the wire;
//! only [`crate::codec::Activation`] turns a crossing into bytes, and never a raw one. A network makes
//! them: start at `network::Network::crossing`.
//!
//! ```compile_fail
//! fn text(crossing: &koinon_model::crossing::Crossing) -> String { format!("{crossing:?}") }
//! ```

use crate::program::{Data, Value};

/// The values alive at one position of a network, in the network's order.
#[derive(Clone, PartialEq)]
pub struct Crossing {
    position: usize,
    raw: bool,
    values: Vec<Value>,
}

impl Crossing {
    pub(crate) fn new(position: usize, raw: bool, values: Vec<Value>) -> Self {
        Self { position, raw, values }
    }

    /// Number of nodes that have run.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Whether a raw input is among the values: such a crossing has no bytes.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.raw
    }

    /// The values.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Gives the values up.
    #[must_use]
    pub fn into_values(self) -> Vec<Value> {
        self.values
    }

    /// Rows: the length of the first axis, 1 for a single number.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.values.first().and_then(|value| value.shape().first().copied()).unwrap_or(1)
    }

    /// Several of one position one under another, along the first axis. `None` where they do not have
    /// the same sides behind it, or a value has not as many rows as the first.
    #[must_use]
    pub fn stack(parts: &[&Self]) -> Option<Self> {
        let (first, rest) = parts.split_first()?;
        let fits = |part: &&&Self| {
            let rows = part.rows();
            let like = |(value, other): (&Value, &Value)| {
                value.dtype() == other.dtype()
                    && value.shape().first() == Some(&rows)
                    && value.shape().get(1..) == other.shape().get(1..)
            };
            part.position == first.position
                && part.values.len() == first.values.len()
                && part.values.iter().zip(&first.values).all(like)
        };
        if !parts.iter().all(|part| fits(&part)) {
            return None;
        }
        let rows = parts.iter().map(|part| part.rows()).sum();
        let values = first.values.iter().enumerate().map(|(at, value)| {
            let mut data = value.data().clone();
            rest.iter().for_each(|part| {
                let more = part.values[at].data();
                data.append(more, 0..more.len());
            });
            let mut shape = value.shape().to_vec();
            shape[0] = rows;
            Value::new(shape, data).ok()
        });
        Some(Self::new(first.position, first.raw, values.collect::<Option<_>>()?))
    }

    /// Taken apart again, by the rows of each part. `None` where a value has another number of rows.
    #[must_use]
    pub fn split(&self, rows: &[usize]) -> Option<Vec<Self>> {
        let total: usize = rows.iter().sum();
        if self.values.iter().any(|value| value.shape().first() != Some(&total)) {
            return None;
        }
        let mut start = 0;
        let parts = rows.iter().map(|&own| {
            let range = start..start + own;
            start += own;
            let values = self.values.iter().map(|value| {
                let width = value.len() / total.max(1);
                let mut data = Data::zeros(value.dtype(), 0);
                data.append(value.data(), range.start * width..range.end * width);
                let mut shape = value.shape().to_vec();
                shape[0] = own;
                Value::new(shape, data).ok()
            });
            Some(Self::new(self.position, self.raw, values.collect::<Option<_>>()?))
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossing(rows: usize, from: f32) -> Crossing {
        let items = (0..rows * 2).map(|at| from + at as f32).collect();
        let ids = (0..rows).map(|at| i64::try_from(at).unwrap()).collect();
        let values = vec![
            Value::new(vec![rows, 2], Data::F32(items)).unwrap(),
            Value::new(vec![rows], Data::I64(ids)).unwrap(),
        ];
        Crossing::new(3, false, values)
    }

    #[test]
    fn stacked_parts_come_apart_again() {
        let (one, two) = (crossing(1, 5.0), crossing(3, 0.0));
        let together = Crossing::stack(&[&one, &two]).unwrap();
        assert_eq!(together.rows(), 4);
        let parts = together.split(&[1, 3]).unwrap();
        assert!(parts[0] == one && parts[1] == two);
        assert!(together.split(&[1, 2]).is_none());
    }

    #[test]
    fn unlike_parts_are_not_stacked() {
        let one = crossing(1, 0.0);
        let wide = Value::new(vec![1, 3], Data::F32(vec![0.0; 3])).unwrap();
        let other = Crossing::new(3, false, vec![wide, one.values()[1].clone()]);
        assert!(Crossing::stack(&[&one, &other]).is_none());
        let elsewhere = Crossing::new(4, false, one.values().to_vec());
        assert!(Crossing::stack(&[&one, &elsewhere]).is_none());
        let number = Value::new(Vec::new(), Data::F32(vec![1.0])).unwrap();
        let scalar = Crossing::new(3, false, vec![number]);
        assert!(Crossing::stack(&[&scalar, &scalar]).is_none());
        assert!(Crossing::stack(&[]).is_none());
    }
}
