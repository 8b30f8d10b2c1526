//! The cells of one Arrow column, whatever its type, as the plan's parser takes them.

use std::borrow::Cow;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, BooleanArray};
use arrow_schema::DataType;
use koinon_model::features::table::Cell;

/// One column of one batch.
pub(super) enum ColumnCells<'a> {
    /// NaN where null.
    Numbers(Vec<f64>),
    Texts(Vec<Option<Cow<'a, str>>>),
    Flags(&'a BooleanArray),
    Nulls,
}

impl<'a> ColumnCells<'a> {
    /// # Errors
    /// The name of a type that no plan can read.
    pub(super) fn of(array: &'a dyn Array) -> Result<Self, String> {
        Ok(match array.data_type() {
            DataType::Null => Self::Nulls,
            DataType::Boolean => Self::Flags(array.as_boolean()),
            DataType::Utf8 => Self::texts(array.as_string::<i32>().iter()),
            DataType::LargeUtf8 => Self::texts(array.as_string::<i64>().iter()),
            DataType::Utf8View => Self::texts(array.as_string_view().iter()),
            DataType::Float64 => numbers::<Float64Type>(array),
            DataType::Float32 => numbers::<Float32Type>(array),
            DataType::Int8 => numbers::<Int8Type>(array),
            DataType::Int16 => numbers::<Int16Type>(array),
            DataType::Int32 => numbers::<Int32Type>(array),
            DataType::UInt8 => numbers::<UInt8Type>(array),
            DataType::UInt16 => numbers::<UInt16Type>(array),
            DataType::UInt32 => numbers::<UInt32Type>(array),
            // Beyond 2^53 a float would merge neighbours, and with them two patients' rows.
            DataType::Int64 => integers::<Int64Type>(array),
            DataType::UInt64 => integers::<UInt64Type>(array),
            DataType::Decimal128(..) => {
                let decimals = array.as_primitive::<Decimal128Type>();
                let text = |row| decimals.is_valid(row).then(|| decimals.value_as_string(row));
                Self::Texts((0..decimals.len()).map(|row| text(row).map(Cow::Owned)).collect())
            }
            DataType::Dictionary(_, values) if **values != DataType::Null => {
                Self::dictionary(array)?
            }
            other => return Err(other.to_string()),
        })
    }

    pub(super) fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Self::Numbers(values) => Cell::Number(values[row]),
            Self::Texts(values) => values[row].as_deref().map_or(Cell::Missing, Cell::Text),
            Self::Flags(values) if values.is_valid(row) => Cell::Flag(values.value(row)),
            Self::Flags(_) | Self::Nulls => Cell::Missing,
        }
    }

    fn texts(values: impl Iterator<Item = Option<&'a str>>) -> Self {
        Self::Texts(values.map(|text| text.map(Cow::Borrowed)).collect())
    }

    fn dictionary(array: &'a dyn Array) -> Result<Self, String> {
        let dictionary = array.as_any_dictionary();
        let keys = dictionary.normalized_keys();
        let valid = |row: usize| array.is_valid(row);
        Ok(match Self::of(dictionary.values().as_ref())? {
            Self::Texts(values) => {
                let text =
                    |(row, &key): (usize, &usize)| values.get(key)?.clone().filter(|_| valid(row));
                Self::Texts(keys.iter().enumerate().map(text).collect())
            }
            Self::Numbers(values) => {
                let number = |(row, &key): (usize, &usize)| {
                    values.get(key).copied().filter(|_| valid(row)).unwrap_or(f64::NAN)
                };
                Self::Numbers(keys.iter().enumerate().map(number).collect())
            }
            Self::Flags(_) | Self::Nulls => return Err(array.data_type().to_string()),
        })
    }
}

fn numbers<T: ArrowPrimitiveType>(array: &dyn Array) -> ColumnCells<'_>
where
    T::Native: Into<f64>,
{
    let values = array.as_primitive::<T>().iter();
    ColumnCells::Numbers(values.map(|value| value.map_or(f64::NAN, Into::into)).collect())
}

fn integers<T: ArrowPrimitiveType>(array: &dyn Array) -> ColumnCells<'_>
where
    T::Native: std::fmt::Display,
{
    let values = array.as_primitive::<T>().iter();
    ColumnCells::Texts(values.map(|value| value.map(|v| Cow::Owned(v.to_string()))).collect())
}
