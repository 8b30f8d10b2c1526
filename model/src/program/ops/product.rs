//! Matrix products.
//!
//! Single precision goes through plain loops in an order that the compiler can vectorise; models that
//! need speed are run by the engine's own kernels. Integers wrap. Start at [`matmul`].

use super::super::value::{Element, OpResult, Value, Visit, work, wrong};
use super::broadcast::{Places, broadcast, stretched};
use super::elementwise;
use crate::program::op::Binary;

/// Product over the last two axes, the others stretched; vectors as rows or columns.
pub(super) fn matmul(a: &Value, b: &Value) -> OpResult<Value> {
    if a.rank() == 0 || b.rank() == 0 || a.dtype() != b.dtype() {
        return wrong(format!("{:?} times {:?}", a.shape(), b.shape()));
    }
    let (row, column) = (a.rank() == 1, b.rank() == 1);
    let left = if row { [&[1], a.shape()].concat() } else { a.shape().to_vec() };
    let right = if column { [b.shape(), &[1]].concat() } else { b.shape().to_vec() };
    let ([.., m, k], [.., same, n]) = (&left[..], &right[..]) else {
        return wrong("it reads matrices");
    };
    if k != same {
        return wrong(format!("{:?} times {:?}", a.shape(), b.shape()));
    }
    let (m, k, n) = (*m, *k, *n);
    let outer = broadcast(&[&left[..left.len() - 2], &right[..right.len() - 2]])?;
    let mut shape = outer.clone();
    if !row {
        shape.push(m);
    }
    if !column {
        shape.push(n);
    }
    struct Run<'a, I>(&'a Value, &'a Value, [usize; 3], I);
    impl<I: Iterator<Item = (usize, usize)>> Visit for Run<'_, I> {
        type Out = OpResult<crate::program::value::Data>;
        fn run<T: Element>(self) -> Self::Out {
            let (a, b) = (self.0.slice::<T>()?, self.1.slice::<T>()?);
            let [m, k, n] = self.2;
            let mut out = Vec::new();
            for (i, j) in self.3 {
                product(&a[i * m * k..][..m * k], &b[j * k * n..][..k * n], [m, k, n], &mut out);
            }
            Ok(T::wrap(out))
        }
    }
    crate::program::value::elements(&[&outer[..], &[m, n]].concat())?;
    work(&[outer.iter().product(), m, k, n])?;
    let places =
        |shape: &[usize]| Places::new(&outer, stretched(&shape[..shape.len() - 2], &outer), 0);
    let pairs = places(&left).zip(places(&right));
    let data = a.dtype().visit(Run(a, b, [m, k, n], pairs))?;
    Value::new(shape, data)
}

/// Appends `a · b`, `[m, k] · [k, n]`.
pub(super) fn product<T: Element>(a: &[T], b: &[T], [m, k, n]: [usize; 3], out: &mut Vec<T>) {
    let float = T::DTYPE.is_float();
    let mut row = vec![0.0f64; n];
    let mut whole = vec![0i128; n];
    for i in 0..m {
        if float {
            row.fill(0.0);
            for (p, left) in a[i * k..(i + 1) * k].iter().enumerate() {
                let left = left.to_f64();
                for (sum, right) in row.iter_mut().zip(&b[p * n..(p + 1) * n]) {
                    *sum += left * right.to_f64();
                }
            }
            out.extend(row.iter().map(|&sum| T::from_f64(sum)));
        } else {
            whole.fill(0);
            for (p, left) in a[i * k..(i + 1) * k].iter().enumerate() {
                let left = left.to_i128();
                for (sum, right) in whole.iter_mut().zip(&b[p * n..(p + 1) * n]) {
                    *sum = sum.wrapping_add(left.wrapping_mul(right.to_i128()));
                }
            }
            out.extend(whole.iter().map(|&sum| T::from_i128(sum)));
        }
    }
}

/// `alpha · A' B' + beta · C`.
pub(super) fn gemm(
    values: [Option<&Value>; 3],
    factors: [f64; 2],
    transposed: [bool; 2],
) -> OpResult<Value> {
    let [Some(a), Some(b), c] = values else { return wrong("it reads A and B") };
    if a.rank() != 2 || b.rank() != 2 {
        return wrong(format!("{:?} times {:?}, expected matrices", a.shape(), b.shape()));
    }
    let turn = |value: &Value, turned: bool| {
        if turned { super::layout::transpose(value, None) } else { Ok(value.clone()) }
    };
    let product = matmul(&turn(a, transposed[0])?, &turn(b, transposed[1])?)?;
    let scaled = |value: &Value, factor: f64| {
        let factor = elementwise::cast(&Value::scalar(factor), value.dtype())?;
        elementwise::binary(Binary::Mul, value, &factor)
    };
    let product = if factors[0] == 1.0 { product } else { scaled(&product, factors[0])? };
    match c {
        Some(c) if factors[1] != 0.0 => {
            let sum = elementwise::binary(Binary::Add, &product, &scaled(c, factors[1])?)?;
            if sum.shape() == product.shape() {
                return Ok(sum);
            }
            wrong(format!("C of shape {:?} is larger than the product", c.shape()))
        }
        _ => Ok(product),
    }
}

/// Determinant of the last two axes, by elimination with pivots.
pub(super) fn det(x: &Value) -> OpResult<Value> {
    let [outer @ .., n, same] = x.shape() else { return wrong("it reads matrices") };
    if n != same {
        return wrong(format!("{:?} holds no square matrices", x.shape()));
    }
    let items = x.f32s()?;
    let mut out = Vec::new();
    for matrix in 0..outer.iter().product() {
        let part = &items[matrix * n * n..(matrix + 1) * n * n];
        let mut m: Vec<f64> = part.iter().map(|&item| f64::from(item)).collect();
        out.push(determinant(&mut m, *n).to_f64());
    }
    let items: Vec<f32> = out.into_iter().map(f32::from_f64).collect();
    Value::of(outer.to_vec(), items)
}

fn determinant(m: &mut [f64], n: usize) -> f64 {
    let mut det = 1.0;
    for column in 0..n {
        let largest =
            |a: &usize, b: &usize| m[a * n + column].abs().total_cmp(&m[b * n + column].abs());
        let Some(pivot) = (column..n).max_by(largest) else { return det };
        if pivot != column {
            (0..n).for_each(|at| m.swap(pivot * n + at, column * n + at));
            det = -det;
        }
        let head = m[column * n + column];
        det *= head;
        if head == 0.0 {
            return 0.0;
        }
        for row in column + 1..n {
            let factor = m[row * n + column] / head;
            for at in column..n {
                m[row * n + at] -= factor * m[column * n + at];
            }
        }
    }
    det
}
