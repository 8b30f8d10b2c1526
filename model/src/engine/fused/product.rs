//! Matrix products in single precision: the one door to the crate `gemm`, whose function takes raw
//! pointers.
//!
//! Every index it can touch is checked here against the slices, so nothing outside this file needs
//! care. One thread: who wants more gives each its own rows. Start at [`multiply`].

/// A matrix in a slice: the distance between rows and between columns, in elements.
#[derive(Clone, Copy)]
pub(in crate::engine) struct View<'a> {
    data: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// Rows one after another, of `columns` elements each.
    pub(in crate::engine) fn rows(data: &'a [f32], columns: usize) -> Self {
        Self { data, row_stride: columns, column_stride: 1 }
    }

    /// Rows that begin so many elements apart.
    pub(in crate::engine) fn strided(data: &'a [f32], row_stride: usize) -> Self {
        Self { data, row_stride, column_stride: 1 }
    }

    /// The same memory read as its transpose.
    pub(in crate::engine) fn turned(self) -> Self {
        Self { data: self.data, row_stride: self.column_stride, column_stride: self.row_stride }
    }

    /// Whether a matrix of that size lies within the slice.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = |count: usize, stride: usize| count.checked_sub(1)?.checked_mul(stride);
        let place = last(rows, self.row_stride).zip(last(columns, self.column_stride));
        place
            .and_then(|(row, column)| row.checked_add(column))
            .is_some_and(|at| at < self.data.len())
    }
}

/// `out = a · b`, or `out += a · b` if `add`; a is `[m, k]`, b is `[k, n]`, `out` has rows of n.
///
/// # Panics
/// If a matrix does not lie within its slice: a mistake of the caller, who knows all sizes.
pub(super) fn multiply(out: &mut [f32], size: [usize; 3], a: View<'_>, b: View<'_>, add: bool) {
    product((out, size[2]), size, a, b, add);
}

/// `out = a · b`, where rows of `out` begin `row_stride` elements apart.
///
/// # Panics
/// As [`multiply`], and if rows of `out` overlap.
pub(in crate::engine) fn multiply_into(
    out: &mut [f32],
    row_stride: usize,
    size: [usize; 3],
    a: View<'_>,
    b: View<'_>,
) {
    product((out, row_stride), size, a, b, false);
}

fn product(
    (out, row_stride): (&mut [f32], usize),
    [m, k, n]: [usize; 3],
    a: View<'_>,
    b: View<'_>,
    add: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    let fits = row_stride >= n && View::strided(out, row_stride).holds(m, n);
    assert!(k > 0 && a.holds(m, k) && b.holds(k, n) && fits, "matrices in bounds");
    let stride = |stride: usize| isize::try_from(stride).expect("a stride within a slice");
    #[expect(unsafe_code, reason = "gemm takes raw pointers; bounds are asserted right above")]
    // SAFETY: `a`, `b` and `out` are live slices of f32 that hold all the elements which these sizes
    // and strides reach (asserted above); `out` is borrowed mutably, so it overlaps neither, and its
    // rows do not overlap one another.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(row_stride),
            add,
            a.data.as_ptr(),
            stride(a.column_stride),
            stride(a.row_stride),
            b.data.as_ptr(),
            stride(b.column_stride),
            stride(b.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_equal_sums_in_every_orientation() {
        for [m, k, n] in [[1, 1, 1], [2, 3, 4], [5, 1, 7], [1, 9, 3], [17, 33, 9], [64, 30, 20]] {
            let a: Vec<f32> = (0..m * k).map(|i| (i % 7) as f32 - 3.0).collect();
            let b: Vec<f32> = (0..k * n).map(|i| (i % 5) as f32 - 2.0).collect();
            let turned = |x: &[f32], columns: usize| -> Vec<f32> {
                let rows = x.len() / columns;
                (0..x.len()).map(|i| x[i % rows * columns + i / rows]).collect()
            };
            let (at, bt) = (turned(&a, k), turned(&b, n));
            let want =
                |i: usize, j: usize| (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum::<f32>();
            for a in [View::rows(&a, k), View::rows(&at, m).turned()] {
                for b in [View::rows(&b, n), View::rows(&bt, k).turned()] {
                    let mut out = vec![10.0; m * n];
                    multiply(&mut out, [m, k, n], a, b, true);
                    for (place, &found) in out.iter().enumerate() {
                        assert_eq!(found, 10.0 + want(place / n, place % n));
                    }
                    multiply(&mut out, [m, k, n], a, b, false);
                    assert_eq!(out[0], want(0, 0));
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "matrices in bounds")]
    fn what_lies_outside_is_not_read() {
        multiply(
            &mut [0.0; 4],
            [2, 2, 2],
            View::rows(&[0.0; 3], 2),
            View::rows(&[0.0; 4], 2),
            false,
        );
    }
}
