//! Checks that a test may leave out, one by one, to see that the adversary written for it notices.
//!
//! Only with the feature `planted`, which nothing but the end-to-end tests' dev-dependencies switches
//! on (`.ci/walls` looks). Without it [`weak`] is a constant `false`: the shipped program has no
//! switch, and every check is there. Deliberately no way to switch anything on from a file, an
//! argument or a message. Start at [`Weakness`] and, in a test, at `plant`.

/// A check that is missing, in the words of what then goes unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weakness {
    /// Survivor signatures over different sets count towards one quorum.
    MixedQuorum,
    /// Survivor signatures count without being valid, as often as they come.
    UnsignedQuorum,
    /// More than half are a quorum.
    SmallQuorum,
    /// No floor is asked: of participants, dealers, survivors.
    NoFloor,
    /// A plan may be for any number of sites.
    AnyCohort,
    /// One key may stand for two sites.
    SharedKey,
    /// A bundle counts without its site's signature.
    UnsignedBundle,
    /// A bundle of another plan counts.
    AnySession,
    /// Shares count without opening their commitments.
    UncheckedShare,
    /// Seeds are not bound to what was agreed on.
    UnboundSeed,
    /// Sums outside of what the plan permits are given out.
    AnySum,
    /// An update counts whatever was reported of it.
    AnyUpdate,
    /// A report counts for whatever dealers it was made.
    AnyReport,
    /// A file counts that is not what its digest says.
    AnyBlob,
    /// Whoever signs a roster, it counts.
    UnsignedRoster,
    /// An older roster takes the place of a newer one.
    OlderRoster,
    /// Members count before, after and without their validity.
    AnyMember,
    /// Values are rounded down instead of at random.
    RoundsDown,
    /// A plan may state fewer bits than its sums need.
    AnyBits,
    /// An entry's noise is left out.
    NoNoise,
    /// A neighbour's bundle needs no proof that it is in the agreed list.
    UnprovenNeighbour,
    /// A site takes any parameters of the graph for good.
    AnyGraph,
    /// A session that was left is entered again.
    LeftSession,
    /// What was opened is opened again.
    Respent,
    /// An invitation may be bound to other things than it says.
    AnyContext,
    /// An encoding counts that the task does not give.
    AnyEncoding,
    /// Letters may be of any length.
    AnyLength,
    /// A welcome counts that answers no hello.
    AnyWelcome,
    /// The coordinator waits for everybody, for ever.
    EndlessWait,
    /// A head of the key log counts whatever was signed before.
    AnyHead,
    /// Keys that were taken from the stock are there again.
    KeyAgain,
    /// Keys that an invitation names need no proof.
    UnprovenKeys,
    /// A site may post as many keys as it likes.
    AnyPostings,
}

/// Whether this check is to be left out.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn weak(_: Weakness) -> bool {
    false
}

/// Whether this check is to be left out, by the present thread.
#[cfg(feature = "planted")]
#[must_use]
pub fn weak(weakness: Weakness) -> bool {
    PLANTED.get() & 1 << weakness as u64 != 0
}

/// Leaves these checks out while `run` runs on the present thread, and no longer.
#[cfg(feature = "planted")]
pub fn plant<T>(weaknesses: &[Weakness], run: impl FnOnce() -> T) -> T {
    struct Before(u64);
    impl Drop for Before {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }
    let before = Before(PLANTED.get());
    PLANTED.set(weaknesses.iter().fold(before.0, |set, &weakness| set | 1 << weakness as u64));
    run()
}

/// The seed of the mask of a pair that agreed on `shared`, for tests of what it depends on.
#[cfg(feature = "planted")]
#[must_use]
pub fn pair_seed(shared: [u8; 32], agreed: &[u8; 32], a: usize, b: usize) -> [u8; 32] {
    let bound = crate::agree::Bound::Dealers(agreed);
    *crate::agree::pair_seed(&crate::secret::Secret::new(shared), bound, a, b).expose()
}

/// Each site's neighbours in the graph of a key, for tests of what grinding keys is good for.
#[cfg(feature = "planted")]
#[must_use]
pub fn neighbours(key: u64, n: usize, degree: usize) -> Vec<Vec<usize>> {
    let seed = crate::hash::hash("koinon/2/graph", &[&key.to_le_bytes()]);
    let graph = crate::graph::Graph::derive(&seed, n, degree);
    (0..n).map(|site| graph.neighbours(site)).collect()
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}
