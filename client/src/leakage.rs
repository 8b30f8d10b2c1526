//! What a crossing tells of the rows behind it, measured at the site on its own rows.
//!
//! For a cut and a codec two figures: how much input and crossing depend on each other
//! ([`distance`]), and how well somebody who holds some rows of the same kind (auxiliary rows) can rebuild
//! others from what crosses alone: a black-box attack, by a linear map and by a trained network
//! ([`quality`]). Everything sees the crossing as the server would, written by the codec and read again.
//!
//! It is a lower bound: a better attacker, or one with more rows, rebuilds more. It deliberately decides
//! nothing; the ceiling is the policy's. Nothing here leaves the site; [`Rebuilt`] holds rows and has
//! neither `Debug` nor a form on the wire. Start at [`measure`].

mod decoder;
pub mod distance;
mod linear;
pub mod quality;
mod scale;

use koinon_model::codec::{Activation, Codec, CodecError};
use koinon_model::engine::EngineError;
use koinon_model::network::{Network, NetworkError};
use koinon_model::params::ParamsError;
use koinon_model::program::{Data, Value};
use koinon_model::spec::SpecError;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::split::inputs_of_rows;
use decoder::{Decoder, Pairs};
use distance::distance_correlation;
use linear::Linear;
use quality::Quality;
use scale::Scale;

/// How much is measured with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Rows that the attacker learns from.
    pub aux_rows: usize,
    /// Other rows, which it rebuilds.
    pub test_rows: usize,
    /// Rows whose distances are compared, of both kinds; at most 1,024.
    pub distance_rows: usize,
    /// Passes of the trained decoder.
    pub epochs: u32,
    /// Decides which rows are which, and where the decoder begins.
    pub seed: u64,
}

/// Rows as the network takes them. No `Debug`: these are people.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// All inputs of a row one after another, row by row.
    pub x: &'a [f32],
    /// Numbers of a row.
    pub width: usize,
    /// `[channels, height, width]` where rows are images with numbers from 0 to 1.
    pub image: Option<[usize; 3]>,
}

/// What was measured at one cut, under one codec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leakage {
    /// The cut's position.
    pub cut: u32,
    /// Name of the last node before it.
    pub after: String,
    /// How the crossing is written.
    pub codec: Codec,
    /// Numbers that cross for one row.
    pub width: usize,
    /// Bytes that cross for one row, sent by itself.
    pub row_bytes: usize,
    /// Rows that the attacker learned from.
    pub aux_rows: usize,
    /// Rows that it was judged on.
    pub test_rows: usize,
    /// Rows of the distance correlation.
    pub distance_rows: usize,
    /// Distance correlation of input and crossing, 0 to 1.
    pub distance_correlation: f64,
    /// Passes of the trained decoder.
    pub epochs: u32,
    /// The seed.
    pub seed: u64,
    /// What each attack reached.
    pub attacks: Vec<Attack>,
}

/// One attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    /// How it rebuilds.
    pub method: Method,
    /// What it reached.
    pub quality: Quality,
}

/// How rows are rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Ridge regression.
    Linear,
    /// Two dense layers.
    Dense,
    /// Two convolutions.
    Convolutions,
}

/// Test rows as the best attack rebuilt them. No `Debug`, no `Serialize`.
pub struct Rebuilt {
    /// The rows.
    pub truth: Vec<f32>,
    /// What the attack with the smallest error made of them.
    pub guess: Vec<f32>,
}

/// Why nothing is measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LeakageError {
    /// Too few rows, or no whole ones.
    #[error(
        "{have} rows for {want}: give rows of {width} numbers, at least {least} auxiliary and {least} \
         test rows, or ask for fewer"
    )]
    Rows {
        /// Rows at hand.
        have: usize,
        /// Rows asked for.
        want: usize,
        /// Numbers of a row.
        width: usize,
        /// The least of each kind.
        least: usize,
    },
    /// Not a cut.
    #[error("the network cannot be cut at {0}; `koinon model cuts` shows where it can")]
    Cut(u32),
    /// More than is held at once.
    #[error("{rows} rows of {width} crossing numbers are too many; ask for fewer rows")]
    Large {
        /// Rows asked for.
        rows: usize,
        /// Numbers that cross for each.
        width: usize,
    },
    /// The crossing is not one part for each row.
    #[error("what crosses at {0} is not rows of numbers, one for each row of the input")]
    Crossing(u32),
    /// The network does not run.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The codec does not write it.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The decoder cannot be trained.
    #[error("the decoder: {0}")]
    Engine(#[from] EngineError),
    /// The decoder is no network.
    #[error("the decoder: {0}")]
    Spec(#[from] SpecError),
    /// The decoder's values.
    #[error("the decoder: {0}")]
    Params(#[from] ParamsError),
}

/// Auxiliary rows, and test rows, must be so many at least.
pub const ROWS_MIN: usize = 16;
/// Rows whose distances are compared.
pub const DISTANCE_ROWS_MAX: usize = 1024;
/// Numbers of all crossings together (1 GiB).
const VALUES_MAX: usize = 1 << 28;
/// Rows that run together.
const BATCH_ROWS: usize = 64;

impl Leakage {
    /// The most that any attack reached of something.
    fn most(&self, of: impl Fn(&Quality) -> Option<f64>) -> Option<f64> {
        self.attacks.iter().filter_map(|attack| of(&attack.quality)).reduce(f64::max)
    }

    /// The best mean SSIM, for images.
    #[must_use]
    pub fn ssim(&self) -> Option<f64> {
        self.most(|quality| quality.ssim)
    }

    /// The best PSNR in decibels, for images.
    #[must_use]
    pub fn psnr(&self) -> Option<f64> {
        self.most(|quality| quality.psnr)
    }

    /// R² of the column that was rebuilt best, for tables.
    #[must_use]
    pub fn r2(&self) -> Option<f64> {
        self.most(Quality::r2_max)
    }

    /// The attack with the smallest error.
    #[must_use]
    pub fn best(&self) -> Option<&Attack> {
        self.attacks.iter().min_by(|a, b| a.quality.mse.total_cmp(&b.quality.mse))
    }
}

/// Measures one cut under one codec. The same bits for the same seed.
///
/// # Errors
/// [`LeakageError`].
pub fn measure(
    network: &Network,
    rows: &Rows<'_>,
    cut: u32,
    codec: Codec,
    settings: &Settings,
) -> Result<(Leakage, Rebuilt), LeakageError> {
    let at = network.cut(cut).filter(|at| at.is_legal()).ok_or(LeakageError::Cut(cut))?;
    let (aux, test) = (settings.aux_rows, settings.test_rows);
    let picked = picked(rows, settings)?;
    let seen = Seen::run(network, rows, (cut, codec), &picked)?;
    let n_distance = settings.distance_rows.min(aux + test).min(DISTANCE_ROWS_MAX);
    let distance_correlation = distance_correlation(
        &picked[..n_distance * rows.width],
        &seen.values[..n_distance * seen.width],
        n_distance,
    );
    let (y1, truth) = picked.split_at(aux * rows.width);
    let (x1, x2) = seen.values.split_at(aux * seen.width);
    let one = |y: &[f32]| Scale::fit(y, rows.width, rows.image.map_or(1, |_| rows.width));
    let scale_y = one(y1);
    let y1 = scale_y.apply(y1);
    let image = rows.image;
    let pairs = Pairs { x: x1, y: &y1, crossing: &seen.shape, image, rows: aux };
    let scale_x = pairs.scale();
    let (x1, x2) = (scale_x.apply(x1), scale_x.apply(x2));
    let mut guesses = Vec::new();
    if let Some(linear) = Linear::fit(&x1, &y1, seen.width, rows.width) {
        guesses.push((Method::Linear, linear.apply(&x2)));
    }
    let decoder = Decoder::train(&Pairs { x: &x1, ..pairs }, settings.epochs, settings.seed)?;
    guesses.push((decoder.method(), decoder.apply(&x2)?));
    let judged = guesses.into_iter().map(|(method, guess)| {
        let mut guess = scale_y.undo(&guess);
        if image.is_some() {
            guess.iter_mut().for_each(|x| *x = x.clamp(0.0, 1.0));
        }
        (Attack { method, quality: Quality::of(truth, &guess, rows.width, image) }, guess)
    });
    let mut judged: Vec<(Attack, Vec<f32>)> = judged.collect();
    judged.sort_by(|a, b| a.0.quality.mse.total_cmp(&b.0.quality.mse));
    let guess = judged.first().map(|(_, guess)| guess.clone()).unwrap_or_default();
    let leakage = Leakage {
        cut,
        after: at.after.clone(),
        codec,
        width: seen.width,
        row_bytes: seen.row_bytes,
        aux_rows: aux,
        test_rows: test,
        distance_rows: n_distance,
        distance_correlation: distance_correlation.unwrap_or(0.0),
        epochs: settings.epochs,
        seed: settings.seed,
        attacks: judged.into_iter().map(|(attack, _)| attack).collect(),
    };
    Ok((leakage, Rebuilt { truth: truth.to_vec(), guess }))
}

/// The rows in the seed's order, as many as are asked for: auxiliary ones first.
fn picked(rows: &Rows<'_>, settings: &Settings) -> Result<Vec<f32>, LeakageError> {
    let (aux, test, width) = (settings.aux_rows, settings.test_rows, rows.width);
    let have = rows.x.len().checked_div(width).unwrap_or(0);
    let want = aux.saturating_add(test);
    let whole = have * width == rows.x.len();
    if aux.min(test) < ROWS_MIN || want > have || !whole {
        return Err(LeakageError::Rows { have, want, width, least: ROWS_MIN });
    }
    let mut rng = ChaCha20Rng::seed_from_u64(settings.seed);
    let mut order: Vec<(u64, usize)> = (0..have).map(|row| (rng.next_u64(), row)).collect();
    order.sort_unstable();
    let order = order.iter().take(want);
    Ok(order.flat_map(|&(_, row)| &rows.x[row * width..][..width]).copied().collect())
}

/// What a server sees of rows.
struct Seen {
    values: Vec<f32>,
    width: usize,
    shape: Vec<usize>,
    row_bytes: usize,
}

impl Seen {
    fn run(
        network: &Network,
        rows: &Rows<'_>,
        (cut, codec): (u32, Codec),
        x: &[f32],
    ) -> Result<Self, LeakageError> {
        let mut seen = Self { values: Vec::new(), width: 0, shape: Vec::new(), row_bytes: 0 };
        let n_rows = x.len() / rows.width;
        let first = rows_seen(network, rows, (cut, codec), &x[..rows.width])?;
        seen.row_bytes = first.1;
        for batch in x.chunks(BATCH_ROWS * rows.width) {
            let n = batch.len() / rows.width;
            let (values, _) = rows_seen(network, rows, (cut, codec), batch)?;
            if values.iter().any(|value| value.shape().first() != Some(&n)) {
                return Err(LeakageError::Crossing(cut));
            }
            seen.shape = match values.as_slice() {
                [only] => only.shape()[1..].to_vec(),
                _ => Vec::new(),
            };
            let parts: Vec<Vec<f64>> = values.iter().map(Value::to_f64s).collect();
            seen.width = parts.iter().map(|part| part.len() / n).sum();
            if n_rows.saturating_mul(seen.width) > VALUES_MAX || seen.width == 0 {
                return Err(LeakageError::Large { rows: n_rows, width: seen.width });
            }
            for row in 0..n {
                for part in &parts {
                    let own = part.len() / n;
                    seen.values.extend(part[row * own..][..own].iter().map(|&x| scale::single(x)));
                }
            }
        }
        Ok(seen)
    }
}

/// Head, codec, and back; and the bytes.
fn rows_seen(
    network: &Network,
    rows: &Rows<'_>,
    (cut, codec): (u32, Codec),
    x: &[f32],
) -> Result<(Vec<Value>, usize), LeakageError> {
    let to = cut as usize;
    let inputs = match (network.as_layers(), rows.image) {
        (None, Some(sides)) => {
            let shape = [&[x.len() / rows.width][..], &sides[..]].concat();
            vec![Value::new(shape, Data::F32(x.to_vec())).map_err(|e| bad_input(&e))?]
        }
        (None, None) => {
            let shape = vec![x.len() / rows.width, rows.width];
            vec![Value::new(shape, Data::F32(x.to_vec())).map_err(|e| bad_input(&e))?]
        }
        (Some(_), _) => inputs_of_rows(network, x).map_err(|e| bad_input(&e))?,
    };
    let input = network.crossing(0, inputs)?;
    let crossing = network.forward(to, &input, &mut network.start(0..to))?;
    let activation = Activation::encode(&crossing, codec)?;
    let values = Activation::decode(activation.bytes(), VALUES_MAX)?;
    Ok((values, activation.bytes().len()))
}

fn bad_input(error: &impl std::fmt::Display) -> NetworkError {
    NetworkError::Crossing { position: 0, problem: error.to_string() }
}

#[cfg(test)]
mod tests;
