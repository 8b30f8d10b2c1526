//! Attention of several heads, and rotary positions.
//!
//! Vaswani et al. 2017, section 3.2; with fewer heads of keys and values than of queries each serves a
//! run of them (Ainslie et al. 2023). Start at [`attention`].

use super::super::op::{Attention, Rotary};
use super::super::value::{DType, Element, OpError, OpResult, Value, wrong};
use super::broadcast::{Places, broadcast, stretched};
use super::layout::{concat, transpose};

/// `[batch, heads, time, width]`, from that or from `[batch, time, heads · width]`.
fn heads(x: &Value, count: Option<usize>) -> OpResult<Value> {
    match (x.shape(), count) {
        ([_, _, _, _], _) => Ok(x.clone()),
        (&[batch, time, all], Some(count)) if count > 0 && all.is_multiple_of(count) => {
            let apart = x.clone().reshaped(vec![batch, time, count, all / count])?;
            transpose(&apart, Some(&[0, 2, 1, 3]))
        }
        (shape, _) => wrong(format!("{shape:?} has no heads; name their number")),
    }
}

/// Answers, and with the past put before them keys and values.
pub(super) fn attention(values: &[Option<&Value>], how: &Attention) -> OpResult<Vec<Value>> {
    let at = |i: usize| values.get(i).copied().flatten();
    let need = |i: usize| at(i).ok_or_else(|| OpError::Misfit(format!("input {i} is missing")));
    let flat = need(0)?.rank() == 3;
    let q = heads(need(0)?, how.q_heads)?;
    let (mut k, mut v) = (heads(need(1)?, how.kv_heads)?, heads(need(2)?, how.kv_heads)?);
    let past = at(4).map_or(0, |past| past.shape().get(2).copied().unwrap_or(0));
    if let (Some(past_k), Some(past_v)) = (at(4), at(5)) {
        (k, v) = (concat(&[past_k, &k], 2)?, concat(&[past_v, &v], 2)?);
    }
    let ([b, h, t, e], [bk, hk, s, ek], [bv, hv, sv, f]) = (shape4(&q)?, shape4(&k)?, shape4(&v)?);
    if (b, e, s) != (bk, ek, sv) || (b, hk) != (bv, hv) || hk == 0 || h % hk != 0 {
        return wrong(format!("{:?}, {:?} and {:?} do not fit", q.shape(), k.shape(), v.shape()));
    }
    let mask = at(3).map(|mask| additive(mask, &[b, h, t, s])).transpose()?;
    let scale = how.scale.unwrap_or(1.0 / (e as f64).sqrt());
    let (qs, ks, vs) = (q.f32s()?, k.f32s()?, v.f32s()?);
    let mut out = Vec::with_capacity(b * h * t * f);
    for (row, head, i) in (0..b * h * t).map(|n| (n / (h * t), n / t % h, n % t)) {
        let kv = row * hk + head / (h / hk);
        let query = &qs[((row * h + head) * t + i) * e..][..e];
        let score = |j: usize| {
            if how.causal && j > i + past {
                return f64::NEG_INFINITY;
            }
            let key = &ks[(kv * s + j) * e..][..e];
            let dot: f64 = query.iter().zip(key).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let capped = match how.softcap {
                cap if cap > 0.0 => cap * (dot * scale / cap).tanh(),
                _ => dot * scale,
            };
            capped + mask.as_ref().map_or(0.0, |m| m[((row * h + head) * t + i) * s + j])
        };
        let scores: Vec<f64> = (0..s).map(score).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for unit in 0..f {
            let term = |(j, weight): (usize, &f64)| weight * f64::from(vs[(kv * s + j) * f + unit]);
            let total: f64 = weights.iter().enumerate().map(term).sum();
            out.push(f32::from_f64(if top.is_infinite() { f64::NAN } else { total / sum }));
        }
    }
    let mut answer = Value::of(vec![b, h, t, f], out)?;
    if flat {
        answer = transpose(&answer, Some(&[0, 2, 1, 3]))?.reshaped(vec![b, t, h * f])?;
    }
    Ok(vec![answer, k, v])
}

fn shape4(x: &Value) -> OpResult<[usize; 4]> {
    x.shape().try_into().map_err(|_| OpError::Misfit(format!("{:?} are no heads", x.shape())))
}

/// A mask as numbers that are added to scores, one each.
fn additive(mask: &Value, shape: &[usize; 4]) -> OpResult<Vec<f64>> {
    if broadcast(&[mask.shape(), shape])? != shape {
        return wrong(format!("a mask of shape {:?} for scores {shape:?}", mask.shape()));
    }
    let places = Places::new(shape, stretched(mask.shape(), shape), 0);
    if mask.dtype() == DType::Bool {
        let seen = mask.slice::<bool>()?;
        return Ok(places.map(|at| if seen[at] { 0.0 } else { f64::NEG_INFINITY }).collect());
    }
    let items = mask.f32s()?;
    Ok(places.map(|at| f64::from(items[at])).collect())
}

/// Rotary positions (Su et al. 2021).
pub(super) fn rotary(values: &[Option<&Value>], how: &Rotary) -> OpResult<Value> {
    let at = |i: usize| values.get(i).copied().flatten();
    let (Some(x), Some(cos), Some(sin)) = (at(0), at(1), at(2)) else {
        return wrong("it reads x, cos and sin");
    };
    let flat = x.rank() == 3;
    let split = heads(x, how.heads)?;
    let [b, h, t, width] = shape4(&split)?;
    let turning = if how.width == 0 { width } else { how.width };
    let half = turning / 2;
    if turning > width || !turning.is_multiple_of(2) {
        return wrong(format!("{turning} of {width} elements cannot turn"));
    }
    let positions = at(3).map(Value::to_i64s).transpose()?;
    let fits = match &positions {
        Some(positions) => positions.len() == b * t && cos.shape().get(1) == Some(&half),
        None => cos.shape() == [b, t, half],
    };
    if !fits || cos.shape() != sin.shape() {
        return wrong(format!("cos of shape {:?} for {:?}", cos.shape(), x.shape()));
    }
    let (cos, sin, items) = (cos.f32s()?, sin.f32s()?, split.f32s()?);
    let mut out = items.to_vec();
    for n in 0..b * h * t {
        let (row, i) = (n / (h * t), n % t);
        let place = match &positions {
            Some(positions) => usize::try_from(positions[row * t + i]).unwrap_or(usize::MAX),
            None => row * t + i,
        };
        if place.saturating_add(1).saturating_mul(half) > cos.len() {
            return wrong(format!("position {place} is beyond the table"));
        }
        for pair in 0..half {
            let (a, z) =
                if how.interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
            let (a, z) = (n * width + a, n * width + z);
            let (c, s) = (cos[place * half + pair], sin[place * half + pair]);
            out[a] = c * items[a] - s * items[z];
            out[z] = s * items[a] + c * items[z];
        }
    }
    let turned = Value::of(vec![b, h, t, width], out)?;
    if flat {
        return transpose(&turned, Some(&[0, 2, 1, 3]))?.reshaped(vec![b, t, h * width]);
    }
    Ok(turned)
}
