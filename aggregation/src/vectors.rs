//! Known answers for the primitives, made by the Python reader of `docs/verify`, wrong ones
//! included.

use serde_json::Value;

use crate::agree::{self, Way};
use crate::codec::Reader;
use crate::gf128;
use crate::hash::hash;
use crate::message::opening::Opening;
use crate::message::report::UpdateHasher;
use crate::ring::modulus_mask;
use crate::secret::Secret;
use crate::shamir::Combiner;
use crate::stream::{Sign, add_streams};
use crate::topology::Version;
use crate::words::Words;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../tests/vectors/primitives.json")).unwrap()
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    let digits = value.as_str().unwrap();
    assert_eq!(digits.len(), 2 * N);
    std::array::from_fn(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn each(vectors: &Value, name: &str) -> Vec<Value> {
    vectors[name].as_array().unwrap().clone()
}

#[test]
fn products() {
    let holds = |case: &Value| {
        let element = |name: &str| u128::from_le_bytes(bytes(&case[name]));
        gf128::mul(element("a"), element("b")) == element("product")
    };
    let vectors = vectors();
    assert!(each(&vectors, "gf128").iter().all(holds));
    assert!(!each(&vectors, "bad_gf128").iter().any(holds));
}

#[test]
fn update_digests() {
    let vectors = vectors();
    let cases = each(&vectors, "update");
    assert_eq!(cases.len(), 12);
    for case in cases {
        let version = u32::try_from(case["version"].as_u64().unwrap()).unwrap();
        let version = Version::from_number(version).unwrap();
        let packed: Vec<u8> =
            (0..251).cycle().take(case["bytes"].as_u64().unwrap().try_into().unwrap()).collect();
        // However the bytes are cut into pieces.
        for piece in [1_024, 100_003] {
            let mut hasher = UpdateHasher::new(version);
            packed.chunks(piece).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), bytes(&case["digest"]), "{case}");
        }
        let mut other = UpdateHasher::new(match version {
            Version::Complete => Version::Sparse,
            Version::Sparse => Version::Complete,
        });
        other.update(&packed);
        assert_ne!(other.finish(), bytes(&case["digest"]), "another version's");
    }
}

#[test]
fn shares() {
    let holds = |case: &Value| {
        let shares = case["shares"].as_object().unwrap();
        let indices: Vec<usize> = shares.keys().map(|i| i.parse().unwrap()).collect();
        let held: Vec<Secret<32>> = shares.values().map(|s| Secret::new(bytes(s))).collect();
        let secret = Combiner::new(&indices).combine(&held.iter().collect::<Vec<_>>());
        *secret.expose() == bytes(&case["secret"])
    };
    let vectors = vectors();
    assert!(each(&vectors, "shamir").iter().all(holds));
    assert!(!each(&vectors, "bad_shamir").iter().any(holds));
}

#[test]
fn labelled_hashes() {
    for case in each(&vectors(), "hash") {
        let part = |p: &Value| -> Vec<u8> {
            let digits = p.as_str().unwrap();
            let byte = |i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap();
            (0..digits.len()).step_by(2).map(byte).collect()
        };
        let parts: Vec<Vec<u8>> = case["parts"].as_array().unwrap().iter().map(part).collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        assert_eq!(hash(case["label"].as_str().unwrap(), &parts), bytes(&case["digest"]));
    }
}

#[test]
fn agreements() {
    let vectors = vectors();
    let (case, bad) = (&vectors["agreement"], &vectors["bad_agreement"]);
    let private = Secret::new(bytes(&case["private"]));
    let shared = agree::agree(&private, &bytes(&case["public"])).unwrap();
    assert_eq!(*shared.expose(), bytes(&case["shared"]));
    let wrong = agree::agree(&private, &bytes(&bad["public"])).unwrap();
    assert_ne!(*wrong.expose(), bytes(&case["shared"]));
    for public in each(&vectors, "bad_publics") {
        assert!(agree::agree(&private, &bytes(&public)).is_none(), "small order");
    }
    let digest = bytes(&case["dealers"]);
    let dealers = agree::Bound::Dealers(&digest);
    assert_eq!(*agree::pair_seed(&shared, dealers, 7, 2).expose(), bytes(&case["pair_seed_2_7"]));
    assert_eq!(*agree::self_seed(&shared, dealers, 2).expose(), bytes(&case["self_seed_2"]));

    let participants = bytes(&case["participants"]);
    let version = Version::Complete;
    let way = Way { version, participants: &participants, dealer: 7, receiver: 2 };
    let nonce = |case: &Value| {
        let twelve: [u8; 12] = bytes(&case["nonce"]);
        let mut nonce = [0; 16];
        nonce[..12].copy_from_slice(&twelve);
        nonce
    };
    let sealed: [u8; 112] = bytes(&case["sealed_7_to_2"]);
    let plain: [u8; 96] = bytes(&case["plain"]);
    let opening = Opening::read(version, &mut Reader::new(&plain)).unwrap();
    assert_eq!(hex(&way.seal(&shared, &nonce(case), &opening)), hex(&sealed));
    let opened = way.open(&shared, &nonce(case), &sealed).unwrap();
    assert_eq!(hex(opened.to_bytes().as_slice()), case["plain"].as_str().unwrap());
    assert!(way.open(&shared, &nonce(bad), &sealed).is_none());
    assert!(way.open(&shared, &nonce(case), &bytes::<112>(&bad["sealed_7_to_2"])).is_none());
    let elsewhere = bytes(&bad["participants"]);
    assert!(Way { participants: &elsewhere, ..way }.open(&shared, &nonce(case), &sealed).is_none());
}

#[test]
fn masks() {
    let holds = |case: &Value| {
        let bits = u8::try_from(case["bits"].as_u64().unwrap()).unwrap();
        let words = case["words"].as_array().unwrap();
        let mut got = Words::zero(words.len(), bits);
        add_streams(&mut got, 0, &[(Secret::new(bytes(&case["seed"])), Sign::Plus)]);
        got.iter().zip(words).all(|(got, word)| Some(got & modulus_mask(bits)) == word.as_u64())
    };
    let vectors = vectors();
    assert!(each(&vectors, "stream").iter().all(holds));
    assert!(!each(&vectors, "bad_stream").iter().any(holds));
}
