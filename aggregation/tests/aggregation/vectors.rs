//! Known answers: a recorded session, and the ways in which a record can be wrong.
//!
//! The session is made from fixed seeds; if the protocol's bytes change, so does the record, and
//! every reader in the field with it.

use std::path::Path;

use koinon_aggregation::{
    Bundle, Rejection, Report, Reveal, ServerSession, SessionPlan, Shares, SurvivorSignature,
    Transcript,
};
use serde_json::Value;

use crate::support::{Cohort, cohort, small_graph};

/// Four sites, of which the last is lost after it dealt.
fn record() -> (Cohort, Transcript) {
    record_of(cohort(4, 1))
}

/// Eight sites on a graph, of which the last is lost after it dealt.
fn sparse_record() -> (Cohort, Transcript) {
    record_of(small_graph(8, 4))
}

fn record_of(cohort: Cohort) -> (Cohort, Transcript) {
    let n_left = cohort.n() - 1;
    let (keyed, mut server) = cohort.keyed(1);
    let mut masked = Vec::new();
    let mut packed = Vec::new();
    for (i, keyed) in keyed.into_iter().take(n_left).enumerate() {
        let (state, update) = cohort.mask(keyed, i);
        server.add_masked(update.report, &update.packed).unwrap();
        masked.push(state);
        packed.push(update.packed);
    }
    let survivors = server.fix_survivors().unwrap();
    let mut signed = Vec::new();
    for (state, key) in masked.into_iter().zip(&cohort.keys) {
        let (state, signature) = state.sign(&survivors, 3, key).unwrap();
        signature.into_iter().for_each(|s| assert!(server.add_signature(s).is_ok()));
        signed.push(state);
    }
    let signatures = server.unmask_request().unwrap();
    for (state, key) in signed.into_iter().zip(&cohort.keys) {
        server.add_reveal(state.reveal(&signatures, key).unwrap().1).unwrap();
    }
    let (_, mut transcript) = server.open().unwrap();
    let wrong = transcript.attach_update(0, packed[1].clone());
    assert_eq!(wrong, Err(Rejection::WrongUpdate { site: "site-00".into() }));
    for (index, packed) in (0..).zip(packed) {
        transcript.attach_update(index, packed).unwrap();
    }
    (cohort, transcript)
}

fn vector(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    std::fs::read_to_string(&path).unwrap_or_default()
}

#[test]
fn the_recorded_sessions_are_what_the_same_seeds_give_today() {
    is_unchanged("session.json", record());
    is_unchanged("session_sparse.json", sparse_record());
}

fn is_unchanged(name: &str, (cohort, transcript): (Cohort, Transcript)) {
    let today = transcript.to_json();
    if today != vector(name) {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, today).unwrap();
        panic!("the bytes have changed; if that is meant, the new record is {}", path.display());
    }
    let record: Value = serde_json::from_str(&today).unwrap();
    let values: Vec<i64> =
        record["sum"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
    let left: Vec<usize> = (0..cohort.n() - 1).collect();
    assert_eq!(values, cohort.oracle(&left));
}

/// Gives the messages of a record to a new session; the error is the code of what went wrong.
fn replay(record: &Value, cohort: &Cohort) -> Result<Transcript, String> {
    let unhex = |value: &Value| hex(value.as_str().unwrap());
    let list = |key: &str| record[key].as_array().unwrap().iter().map(unhex).collect::<Vec<_>>();
    let rejected = |r: Rejection| r.code().to_owned();
    let malformed = |e| rejected(Rejection::Malformed(e));
    let plan = SessionPlan::from_bytes(&unhex(&record["plan"])).map_err(malformed)?;
    let mut server = ServerSession::new(plan).map_err(rejected)?;
    let mut names = Vec::new();
    for bytes in list("bundles") {
        let bundle = Bundle::from_bytes(&bytes).map_err(malformed)?;
        names.push(bundle.site().to_owned());
        server.add_bundle(bundle, &cohort.roster).map_err(rejected)?;
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    server.fix_participants(&names, &cohort.roster).map_err(rejected)?;
    for bytes in list("shares") {
        let shares = Shares::from_bytes(&bytes).map_err(malformed)?;
        server.add_shares(shares).map_err(rejected)?;
    }
    server.fix_dealers().map_err(rejected)?;
    for bytes in list("reports") {
        let report = Report::from_bytes(&bytes).map_err(malformed)?;
        let packed = unhex(&record["updates"][report.index().to_string()]);
        server.add_masked(report, &packed).map_err(rejected)?;
    }
    server.fix_survivors().map_err(rejected)?;
    for bytes in list("signatures") {
        let signature = SurvivorSignature::from_bytes(&bytes).map_err(malformed)?;
        server.add_signature(signature).map_err(rejected)?;
    }
    server.unmask_request().map_err(rejected)?;
    for bytes in list("reveals") {
        let reveal = Reveal::from_bytes(&bytes).map_err(malformed)?;
        server.add_reveal(reveal).map_err(rejected)?;
    }
    server.open().map(|(_, transcript)| transcript).map_err(|e| e.code().to_owned())
}

fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len() / 2)
        .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

#[test]
fn the_recorded_sessions_open_again_from_their_messages() {
    opens_again("session.json", record());
    opens_again("session_sparse.json", sparse_record());
}

fn opens_again(name: &str, (cohort, expected): (Cohort, Transcript)) {
    let recorded: Value = serde_json::from_str(&vector(name)).unwrap();
    let transcript = replay(&recorded, &cohort).unwrap();
    assert_eq!(transcript.digest(), expected.digest());
    assert_eq!(transcript.digest().to_vec(), hex(recorded["digest"].as_str().unwrap()));
}

/// Each wrong record says where it departs from the right one, and the code that it must get.
#[test]
fn wrong_records_get_their_reason() {
    let (cohort, _) = record();
    let right: Value = serde_json::from_str(&vector("session.json")).unwrap();
    let wrong: Value = serde_json::from_str(&vector("bad_sessions.json")).unwrap();
    for case in wrong.as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let mut record = right.clone();
        let message = record.pointer_mut(case["message"].as_str().unwrap()).expect(name);
        let mut bytes = hex(message.as_str().unwrap());
        if let Some(at) = case["flip_byte"].as_i64() {
            let len = i64::try_from(bytes.len()).unwrap();
            let at = usize::try_from(at.rem_euclid(len)).unwrap();
            bytes[at] ^= 1;
        }
        if let Some(len) = case["cut_to"].as_u64() {
            bytes.truncate(usize::try_from(len).unwrap());
        }
        if let Some(more) = case["append"].as_str() {
            bytes.extend(hex(more));
        }
        let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        *message = Value::String(digits);
        if let Some(pointer) = case["replace_by"].as_str() {
            let other = right.pointer(pointer).expect(name).clone();
            *record.pointer_mut(case["message"].as_str().unwrap()).unwrap() = other;
        }
        let got = replay(&record, &cohort).map(|_| "opened".to_owned()).unwrap_or_else(|e| e);
        assert_eq!(got, case["expect"].as_str().unwrap(), "{name}");
    }
}
