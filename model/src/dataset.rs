//! Rows ready for the engine: scaled inputs, labels, weights, and the key each row is divided by.
//!
//! A [`Dataset`] is raw data of a site in another form. It has neither `Debug` nor `Serialize`:
//! rows have no wire form.
//!
//! ```compile_fail
//! fn leave(rows: &koinon_model::dataset::Dataset) -> String {
//!     format!("{rows:?}") // a data set has no Debug
//! }
//! ```
//! ```compile_fail
//! fn leave(rows: &koinon_model::dataset::Dataset) -> Vec<u8> {
//!     serde_json::to_vec(rows).unwrap() // and no Serialize
//! }
//! ```
//!
//! Made by [`crate::features::prepare::prepare`]; start at [`Dataset::new`] for synthetic rows.

use crate::features::{Part, part_of};

/// Rows ready for the engine.
pub struct Dataset {
    width: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    weights: Vec<f32>,
    keys: Vec<u64>,
}

/// Why vectors do not make a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatasetError {
    /// Lengths do not agree.
    #[error("a data set needs {rows} rows of {width} inputs each; `{vector}` has {found} entries")]
    Length {
        /// The vector that does not fit.
        vector: &'static str,
        /// Rows, as `y` says.
        rows: usize,
        /// Inputs a row.
        width: usize,
        /// Entries found.
        found: usize,
    },
    /// An infinite or undefined number.
    #[error("`{0}` of a data set holds a number that is not finite")]
    NotFinite(&'static str),
}

impl Dataset {
    /// A data set of `y.len()` rows with `width` inputs each; `x` is row-major.
    ///
    /// `y` is 0 or 1 for a binary label, else the class index. `keys` say which rows stay together
    /// (see [`crate::features::FeaturePlan::row_key`]).
    ///
    /// # Errors
    /// [`DatasetError`] when lengths disagree or a number is not finite.
    pub fn new(
        width: usize,
        x: Vec<f32>,
        y: Vec<f32>,
        weights: Vec<f32>,
        keys: Vec<u64>,
    ) -> Result<Self, DatasetError> {
        let rows = y.len();
        let wrong = |vector, found| DatasetError::Length { vector, rows, width, found };
        if rows.checked_mul(width) != Some(x.len()) {
            return Err(wrong("x", x.len()));
        }
        if weights.len() != rows {
            return Err(wrong("weights", weights.len()));
        }
        if keys.len() != rows {
            return Err(wrong("keys", keys.len()));
        }
        for (name, values) in [("x", &x), ("y", &y), ("weights", &weights)] {
            if !values.iter().all(|value| value.is_finite()) {
                return Err(DatasetError::NotFinite(name));
            }
        }
        Ok(Self { width, x, y, weights, keys })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.y.len()
    }

    /// Inputs a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// All inputs, `rows * width`, row-major.
    #[must_use]
    pub fn x(&self) -> &[f32] {
        &self.x
    }

    /// The inputs of one row.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.x[row * self.width..(row + 1) * self.width]
    }

    /// Labels: 0 or 1, or the class index.
    #[must_use]
    pub fn y(&self) -> &[f32] {
        &self.y
    }

    /// How much each row counts in training.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The key each row is divided by.
    #[must_use]
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// Training and validation rows, `validation` being the share of groups that validate: the
    /// same division that the features were fitted under.
    #[must_use]
    pub fn split(&self, validation: f64) -> (Self, Self) {
        let rows_of = |part| -> Vec<usize> {
            (0..self.rows()).filter(|&row| part_of(self.keys[row], validation) == part).collect()
        };
        (self.select(&rows_of(Part::Train)), self.select(&rows_of(Part::Validation)))
    }

    /// The rows with these indices, in this order. Indices that do not exist are left out.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let rows: Vec<usize> = rows.iter().copied().filter(|&row| row < self.rows()).collect();
        Self {
            width: self.width,
            x: rows.iter().flat_map(|&row| self.row(row)).copied().collect(),
            y: rows.iter().map(|&row| self.y[row]).collect(),
            weights: rows.iter().map(|&row| self.weights[row]).collect(),
            keys: rows.iter().map(|&row| self.keys[row]).collect(),
        }
    }

    /// All rows of several data sets of one width, one after the other. None when widths differ or
    /// there is nothing to join.
    #[must_use]
    pub fn concat(parts: &[&Self]) -> Option<Self> {
        let width = parts.first()?.width;
        if parts.iter().any(|part| part.width != width) {
            return None;
        }
        Some(Self {
            width,
            x: parts.iter().flat_map(|part| &part.x).copied().collect(),
            y: parts.iter().flat_map(|part| &part.y).copied().collect(),
            weights: parts.iter().flat_map(|part| &part.weights).copied().collect(),
            keys: parts.iter().flat_map(|part| &part.keys).copied().collect(),
        })
    }
}
