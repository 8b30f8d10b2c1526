//! The three products of a linear layer, on row-major slices.
//!
//! Written so that the compiler vectorises them without being allowed to reorder a float: the lanes
//! are spelled out. Widths are never zero (a checked spec has no empty axis).

/// Lanes of a dot product.
const LANES: usize = 8;
/// Rows of the other factor that share one pass over memory.
const BLOCK: usize = 4;

/// `y[r, o] = Σᵢ x[r, i] w[o, i] + b[o]`.
pub(super) fn linear(x: &[f32], w: &[f32], bias: Option<&[f32]>, width: usize, y: &mut [f32]) {
    let units = w.len() / width;
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(units)) {
        let mut blocks = w.chunks_exact(BLOCK * width);
        let mut cells = y.chunks_exact_mut(BLOCK);
        for (w, y) in (&mut blocks).zip(&mut cells) {
            let (w0, w) = w.split_at(width);
            let (w1, w) = w.split_at(width);
            let (w2, w3) = w.split_at(width);
            y.copy_from_slice(&dot(x, [w0, w1, w2, w3]));
        }
        let rest = blocks.remainder().chunks_exact(width);
        for (w, y) in rest.zip(cells.into_remainder()) {
            [*y] = dot(x, [w]);
        }
        if let Some(bias) = bias {
            for (y, b) in y.iter_mut().zip(bias) {
                *y += b;
            }
        }
    }
}

/// Dot products of `x` with several vectors of its length; the order of each sum does not depend on
/// how many there are.
fn dot<const N: usize>(x: &[f32], w: [&[f32]; N]) -> [f32; N] {
    let mut lanes = [[0.0f32; LANES]; N];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let parts = w.map(|w| w[..x.len()].as_chunks::<LANES>());
    for (k, x) in x_chunks.iter().enumerate() {
        for n in 0..N {
            let w = &parts[n].0[k];
            for lane in 0..LANES {
                lanes[n][lane] += x[lane] * w[lane];
            }
        }
    }
    std::array::from_fn(|n| {
        let [a, b, c, d, e, f, g, h] = lanes[n];
        let whole = ((a + e) + (c + g)) + ((b + f) + (d + h));
        x_rest.iter().zip(parts[n].1).fold(whole, |sum, (x, w)| sum + x * w)
    })
}

/// `dw[o, i] += Σᵣ dy[r, o] x[r, i]`.
pub(super) fn add_outer(dy: &[f32], x: &[f32], width: usize, dw: &mut [f32]) {
    let units = dw.len() / width;
    let mut x_blocks = x.chunks_exact(BLOCK * width);
    let mut dy_blocks = dy.chunks_exact(BLOCK * units);
    for (x, dy) in (&mut x_blocks).zip(&mut dy_blocks) {
        for (o, dw) in dw.chunks_exact_mut(width).enumerate() {
            add_block(x, std::array::from_fn(|r| dy[r * units + o]), dw);
        }
    }
    let rest = x_blocks.remainder().chunks_exact(width);
    for (x, dy) in rest.zip(dy_blocks.remainder().chunks_exact(units)) {
        for (dw, dy) in dw.chunks_exact_mut(width).zip(dy) {
            add_one(x, *dy, dw);
        }
    }
}

/// `dx[r, i] = Σₒ dy[r, o] w[o, i]`.
pub(super) fn back(dy: &[f32], w: &[f32], width: usize, dx: &mut [f32]) {
    let units = w.len() / width;
    for (dy, dx) in dy.chunks_exact(units).zip(dx.chunks_exact_mut(width)) {
        dx.fill(0.0);
        let mut blocks = w.chunks_exact(BLOCK * width);
        let (factors, rest) = dy.as_chunks::<BLOCK>();
        for (w, factors) in (&mut blocks).zip(factors) {
            add_block(w, *factors, dx);
        }
        for (w, factor) in blocks.remainder().chunks_exact(width).zip(rest) {
            add_one(w, *factor, dx);
        }
    }
}

/// `db[o] += Σᵣ dy[r, o]`.
pub(super) fn add_rows(dy: &[f32], db: &mut [f32]) {
    for dy in dy.chunks_exact(db.len()) {
        for (db, dy) in db.iter_mut().zip(dy) {
            *db += dy;
        }
    }
}

/// `sum += Σₖ factors[k] rows[k]` for [`BLOCK`] rows one after another.
fn add_block(rows: &[f32], factors: [f32; BLOCK], sum: &mut [f32]) {
    let width = sum.len();
    let (r0, rows) = rows.split_at(width);
    let (r1, rows) = rows.split_at(width);
    let (r2, r3) = rows.split_at(width);
    let rows = r0.iter().zip(r1).zip(r2.iter().zip(r3));
    for (sum, ((r0, r1), (r2, r3))) in sum.iter_mut().zip(rows) {
        *sum += (factors[0] * r0 + factors[1] * r1) + (factors[2] * r2 + factors[3] * r3);
    }
}

fn add_one(row: &[f32], factor: f32, sum: &mut [f32]) {
    for (sum, row) in sum.iter_mut().zip(row) {
        *sum += factor * row;
    }
}
