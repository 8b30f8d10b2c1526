//! Ordinary loops compiled once more for wider vectors: the same results, sooner.
//!
//! No intrinsics here: the compiler makes the vectors. What is to gain from them must be inlined
//! into the work, down to its loops.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "functions that need CPU features are called after asking for them"
    )
)]

/// Does `work` with the widest vectors that this CPU has.
#[cfg(target_arch = "x86_64")]
pub(crate) fn widest<W: FnOnce()>(work: W) {
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
    fn avx512<W: FnOnce()>(work: W) {
        work();
    }
    #[target_feature(enable = "avx2")]
    fn avx2<W: FnOnce()>(work: W) {
        work();
    }
    let has_avx2 = is_x86_feature_detected!("avx2");
    let has_avx512 = has_avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    if has_avx512 {
        // SAFETY: the CPU has all five features.
        unsafe { avx512(work) }
    } else if has_avx2 {
        // SAFETY: the CPU has the feature.
        unsafe { avx2(work) }
    } else {
        work();
    }
}

/// Does `work`.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn widest<W: FnOnce()>(work: W) {
    work();
}
