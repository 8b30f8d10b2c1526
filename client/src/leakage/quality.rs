//! How near a reconstruction is to the original: errors, R² of each column, PSNR and SSIM.
//!
//! SSIM is that of Wang, Bovik, Sheikh and Simoncelli, IEEE Transactions on Image Processing 13 (2004): a
//! Gaussian window of 11 × 11 with σ = 1.5, K₁ = 0.01, K₂ = 0.03, wherever the whole window lies in the
//! image. Numbers of an image are taken to range over 1 (0 black, 1 white). Start at [`Quality::of`].

use serde::{Deserialize, Serialize};

/// Side of the window of SSIM.
pub const SSIM_WINDOW: usize = 11;
const SIGMA: f64 = 1.5;
const STABILITY: [f64; 2] = [0.01 * 0.01, 0.03 * 0.03];
/// Decibels that stand for a reconstruction without any error.
const PSNR_MAX: f64 = 120.0;

/// How near a reconstruction is, over all rows that it was judged on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Mean squared error of a number, in the units of the network's input.
    pub mse: f64,
    /// Root of the squared error over the squared spread about the columns' means: 0 is exact, 1 is what
    /// somebody reaches who guesses the mean.
    pub relative_error: f64,
    /// For images: peak signal to noise ratio in decibels, of the mean squared error, peak 1; 120 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psnr: Option<f64>,
    /// For images of 11 × 11 and more: mean structural similarity, at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssim: Option<f64>,
    /// For tables: the share of each column's variance that was recovered, 1 for all, 0 for what the mean
    /// says, below that for worse; absent for a column that does not vary in the rows judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub r2: Vec<Option<f64>>,
}

impl Quality {
    /// Compares rows of `width` numbers; `image` is `[channels, height, width]` where they are images.
    #[must_use]
    pub fn of(truth: &[f32], guess: &[f32], width: usize, image: Option<[usize; 3]>) -> Self {
        let columns = (0..width).map(|column| Spread::of(truth, guess, width, column));
        let columns: Vec<Spread> = columns.collect();
        let error: f64 = columns.iter().map(|column| column.error).sum();
        let total: f64 = columns.iter().map(|column| column.total).sum();
        let mse = error / truth.len().max(1) as f64;
        let relative_error = if total > 0.0 { (error / total).sqrt() } else { 0.0 };
        let r2 = columns.iter().map(|c| (c.total > 0.0).then(|| 1.0 - c.error / c.total));
        Self {
            mse,
            relative_error,
            psnr: image.map(|_| psnr(mse)),
            ssim: image.and_then(|sides| mean_ssim(truth, guess, sides)),
            r2: if image.is_some() { Vec::new() } else { r2.collect() },
        }
    }

    /// The column recovered best; `None` for images, and where no column varies.
    #[must_use]
    pub fn r2_max(&self) -> Option<f64> {
        self.r2.iter().flatten().copied().reduce(f64::max)
    }

    /// Columns of which at least half of the variance was recovered.
    #[must_use]
    pub fn recovered(&self) -> usize {
        self.r2.iter().flatten().filter(|r2| **r2 >= RECOVERED_R2).count()
    }
}

/// From here on a column counts as recovered.
pub const RECOVERED_R2: f64 = 0.5;

/// Sums of one column.
struct Spread {
    error: f64,
    total: f64,
}

impl Spread {
    fn of(truth: &[f32], guess: &[f32], width: usize, column: usize) -> Self {
        let of = |all: &[f32]| -> Vec<f64> {
            all.iter().skip(column).step_by(width).map(|&x| f64::from(x)).collect()
        };
        let (truth, guess) = (of(truth), of(guess));
        let mean = truth.iter().sum::<f64>() / truth.len().max(1) as f64;
        Self {
            error: truth.iter().zip(&guess).map(|(x, y)| (x - y).powi(2)).sum(),
            total: truth.iter().map(|x| (x - mean).powi(2)).sum(),
        }
    }
}

/// Peak signal to noise ratio in decibels of a mean squared error, for numbers that range over 1.
#[must_use]
pub fn psnr(mse: f64) -> f64 {
    if mse > 0.0 { (-10.0 * mse.log10()).min(PSNR_MAX) } else { PSNR_MAX }
}

/// Mean over images and channels.
fn mean_ssim(truth: &[f32], guess: &[f32], [channels, h, w]: [usize; 3]) -> Option<f64> {
    let planes = truth.chunks_exact(h * w).zip(guess.chunks_exact(h * w));
    let all: Option<Vec<f64>> = planes.map(|(x, y)| ssim(x, y, [h, w])).collect();
    let all = all.filter(|all| !all.is_empty() && all.len() % channels == 0)?;
    Some(all.iter().sum::<f64>() / all.len() as f64)
}

/// Structural similarity of two planes of `[height, width]`; `None` where the window does not fit.
#[must_use]
pub fn ssim(x: &[f32], y: &[f32], [h, w]: [usize; 2]) -> Option<f64> {
    if h < SSIM_WINDOW || w < SSIM_WINDOW || x.len() != h * w || y.len() != h * w {
        return None;
    }
    let of = |f: &dyn Fn(f64, f64) -> f64| {
        let plane = x.iter().zip(y).map(|(&x, &y)| f(f64::from(x), f64::from(y)));
        blurred(&plane.collect::<Vec<_>>(), w)
    };
    let (mx, my) = (of(&|x, _| x), of(&|_, y| y));
    let (xx, yy, xy) = (of(&|x, _| x * x), of(&|_, y| y * y), of(&|x, y| x * y));
    let [c1, c2] = STABILITY;
    let all = (0..mx.len()).map(|at| {
        let (m, n) = (mx[at], my[at]);
        let (vx, vy, cov) = (xx[at] - m * m, yy[at] - n * n, xy[at] - m * n);
        ((2.0 * m * n + c1) * (2.0 * cov + c2)) / ((m * m + n * n + c1) * (vx + vy + c2))
    });
    Some(all.sum::<f64>() / mx.len() as f64)
}

/// Weighted means under the window, wherever it fits: rows first, then columns.
fn blurred(plane: &[f64], w: usize) -> Vec<f64> {
    let window = window();
    let along: Vec<f64> = plane
        .chunks_exact(w)
        .flat_map(|row| row.windows(SSIM_WINDOW))
        .map(|part| part.iter().zip(&window).map(|(x, g)| x * g).sum())
        .collect();
    let w = w - SSIM_WINDOW + 1;
    let h = along.len() / w - SSIM_WINDOW + 1;
    let down = |at: usize| (0..SSIM_WINDOW).map(|k| along[at + k * w] * window[k]).sum();
    (0..h * w).map(down).collect()
}

fn window() -> [f64; SSIM_WINDOW] {
    let middle = (SSIM_WINDOW / 2) as f64;
    let gauss = |at: usize| (-(at as f64 - middle).powi(2) / (2.0 * SIGMA * SIGMA)).exp();
    let all: [f64; SSIM_WINDOW] = std::array::from_fn(gauss);
    let sum: f64 = all.iter().sum();
    all.map(|weight| weight / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(of: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        (0..256).map(|at| of(at / 16, at % 16)).collect()
    }

    fn first(r: usize, c: usize) -> f32 {
        ((r * 7 + c * 3) % 16) as f32 / 15.0
    }

    #[test]
    fn ssim_and_psnr_as_scikit_image_computes_them() {
        let x = plane(first);
        let y = plane(|r, c| first(r, c) * 0.8 + 0.1 * ((r * c) % 3) as f32 / 2.0);
        let got = ssim(&x, &y, [16, 16]).unwrap();
        assert!((got - SKIMAGE_SSIM).abs() < 1e-6, "{got}");
        let got = Quality::of(&x, &y, 256, Some([1, 16, 16]));
        assert!((got.psnr.unwrap() - SKIMAGE_PSNR).abs() < 1e-5, "{got:?}");
        assert!(got.r2.is_empty() && (got.ssim.unwrap() - SKIMAGE_SSIM).abs() < 1e-6);
    }

    const SKIMAGE_SSIM: f64 = 0.954_424_536_270_020_3;
    const SKIMAGE_PSNR: f64 = 19.805_194_970_951_764;

    #[test]
    fn what_is_the_same_is_perfect_and_what_is_inverted_is_not() {
        let x = plane(first);
        assert!((ssim(&x, &x, [16, 16]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(psnr(0.0), 120.0);
        assert!((psnr(0.01) - 20.0).abs() < 1e-12);
        let inverted: Vec<f32> = x.iter().map(|x| 1.0 - x).collect();
        assert!(ssim(&x, &inverted, [16, 16]).unwrap() < 0.0);
        assert_eq!(ssim(&x[..100], &x[..100], [10, 10]), None);
    }

    #[test]
    fn columns_are_judged_one_by_one() {
        // First column exact, second as its mean says, third constant, fourth wrong.
        let truth = [1.0, 1.0, 5.0, 0.0, 2.0, 3.0, 5.0, 1.0, 3.0, 5.0, 5.0, 0.0];
        let guess = [1.0, 3.0, 5.0, 1.0, 2.0, 3.0, 5.0, 0.0, 3.0, 3.0, 5.0, 1.0];
        let got = Quality::of(&truth, &guess, 4, None);
        assert_eq!(got.r2[..3], [Some(1.0), Some(0.0), None]);
        assert!(got.r2[3].unwrap() < -1.0);
        assert_eq!((got.r2_max(), got.recovered()), (Some(1.0), 1));
        assert_eq!((got.psnr, got.ssim), (None, None));
        assert!((got.mse - 11.0 / 12.0).abs() < 1e-12, "{got:?}");
    }
}
