//! Shapes that are stretched to one another, and the places of their elements.
//!
//! Numpy's rule, which is ONNX's: shapes are aligned at their last axis, and an axis of length 1 is
//! as long as the other's. Start at [`broadcast`].

use super::super::value::{OpResult, elements, strides, wrong};

/// The shape that all these are stretched to.
pub(crate) fn broadcast(shapes: &[&[usize]]) -> OpResult<Vec<usize>> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut out = vec![1; rank];
    for shape in shapes {
        for (side, &dim) in out[rank - shape.len()..].iter_mut().zip(*shape) {
            if *side == 1 {
                *side = dim;
            } else if dim != 1 && dim != *side {
                return wrong(format!("shapes {shapes:?} cannot be broadcast to one another"));
            }
        }
    }
    elements(&out)?;
    Ok(out)
}

/// Distance between neighbours of a stretched tensor along each axis of `out`: 0 where it repeats.
pub(crate) fn stretched(shape: &[usize], out: &[usize]) -> Vec<usize> {
    let own = strides(shape);
    let new = out.len() - shape.len();
    let stride = |axis: usize| match axis.checked_sub(new) {
        Some(at) if shape[at] != 1 => own[at],
        _ => 0,
    };
    (0..out.len()).map(stride).collect()
}

/// The places of elements, in row-major order of `shape`, where an axis has these strides.
pub(crate) struct Places {
    shape: Vec<usize>,
    strides: Vec<usize>,
    index: Vec<usize>,
    place: usize,
    left: usize,
}

impl Places {
    /// All of them, from `start` on.
    pub(crate) fn new(shape: &[usize], strides: Vec<usize>, start: usize) -> Self {
        let left = shape.iter().product();
        let index = vec![0; shape.len()];
        Self { shape: shape.to_vec(), strides, index, place: start, left }
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let here = self.place;
        for axis in (0..self.shape.len()).rev() {
            self.index[axis] += 1;
            self.place += self.strides[axis];
            if self.index[axis] < self.shape[axis] {
                break;
            }
            self.place -= self.index[axis] * self.strides[axis];
            self.index[axis] = 0;
        }
        Some(here)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}
