//! A server that answers, is late, rejects, lies, or is gone.

use super::*;
use crate::policy::CutPolicy;

const SPEC: &[u8] = br#"{"name":"m","inputs":[{"name":"x","shape":[3]}],"nodes":[
    {"name":"fc1","op":{"linear":{"units":8}},"inputs":["x"]},
    {"name":"act","op":"relu","inputs":["fc1"]},
    {"name":"fc2","op":{"linear":{"units":4}},"inputs":["act"]},
    {"name":"fc3","op":{"linear":{"units":2}},"inputs":["fc2"]}]}"#;

fn spec() -> CheckedSpec {
    ModelSpec::from_json(SPEC).unwrap().check().unwrap()
}

fn params() -> Vec<u8> {
    let spec = spec();
    Params::init(&spec, 5).to_safetensors(spec.layout()).unwrap()
}

fn placement(from: u32, to: u32) -> Placement {
    Placement { from, to, codec: Codec::F32, deadline_ms: 50 }
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.split.push(CutPolicy { model: Digest::of(SPEC), cuts: [2].into() });
    policy
}

fn splitter(from: u32, to: u32) -> Splitter {
    Splitter::new(SPEC, &params(), placement(from, to), &policy())
        .unwrap_or_else(|error| panic!("{error}"))
}

fn whole(rows: &[f32]) -> Vec<f32> {
    let spec = spec();
    let params = Params::from_safetensors(spec.layout(), &params()).unwrap();
    Engine::load(&spec, &params).unwrap().outputs(rows).unwrap()
}

/// What an honest partition server answers.
fn served(activation: &wire::Activation) -> wire::InferenceReply {
    let spec = spec();
    let params = Params::from_safetensors(spec.layout(), &params()).unwrap();
    let engine = Engine::load(&spec, &params).unwrap();
    let cut = cut_at(&spec, activation.from).unwrap();
    let boundary = Activation::decode(&activation.boundary, &cut, 64).unwrap();
    let range = activation.from as usize..activation.to as usize;
    let answer = engine.forward(range, &boundary).unwrap();
    let back = cut_at(&spec, activation.to).unwrap();
    let bytes = Activation::encode(&back, &answer, Codec::F32).unwrap().into_bytes();
    let result = Some(wire::inference_reply::Result::Boundary(bytes));
    wire::InferenceReply { request: activation.request, result }
}

const ROWS: &[f32] = &[0.5, -1.0, 2.0, 0.0, 0.25, -0.75];

#[test]
fn the_cut_network_gives_the_whole_networks_answers() {
    for to in [4, 3] {
        let mut splitter = splitter(2, to);
        let first = splitter.ask(0, ROWS).unwrap();
        let second = splitter.ask(0, &ROWS[..3]).unwrap();
        // Answers may come in any order; the number matches them.
        for (activation, rows) in [(&second, &ROWS[..3]), (&first, ROWS)] {
            let answer = splitter.reply(served(activation)).unwrap().unwrap();
            assert_eq!(
                (answer.request, answer.origin.clone()),
                (activation.request, Origin::Split)
            );
            let difference = answer.outputs.iter().zip(whole(rows)).map(|(a, b)| (a - b).abs());
            assert!(difference.fold(0.0, f32::max) <= 1e-6);
        }
        assert!(splitter.reply(served(&first)).unwrap().is_none(), "answered once");
        assert_eq!(splitter.next_deadline(), None);
    }
}

#[test]
fn a_late_lost_or_rejected_question_is_answered_here_and_says_so() {
    let mut splitter = splitter(2, 4);
    let late = splitter.ask(100, ROWS).unwrap();
    assert_eq!(splitter.next_deadline(), Some(150));
    assert!(splitter.expire(149).unwrap().is_empty());
    let answers = splitter.expire(150).unwrap();
    assert_eq!((answers[0].request, &answers[0].origin), (late.request, &Origin::LocalDeadline));
    assert_eq!(answers[0].outputs, whole(ROWS));
    assert!(splitter.reply(served(&late)).unwrap().is_none(), "too late");

    splitter.ask(200, ROWS).unwrap();
    let answers = splitter.disconnected().unwrap();
    assert_eq!(answers[0].origin, Origin::LocalDisconnected);

    let asked = splitter.ask(300, ROWS).unwrap();
    let rejection = wire::Rejection { code: "unknown_version\n!".into(), detail: "x".into() };
    let result = Some(wire::inference_reply::Result::Rejection(rejection));
    let reply = wire::InferenceReply { request: asked.request, result };
    let answer = splitter.reply(reply).unwrap().unwrap();
    assert_eq!(answer.origin, Origin::LocalRejected("unknown_version".into()));
    assert_eq!(answer.outputs, whole(ROWS));
}

#[test]
fn garbage_from_the_server_is_not_an_answer() {
    let mut splitter = splitter(2, 4);
    let fewer = served(&splitter.ask(0, &ROWS[..3]).unwrap());
    let asked = splitter.ask(0, ROWS).unwrap();
    let garbage = [fewer.result, Some(wire::inference_reply::Result::Boundary(vec![1; 40])), None];
    for (index, result) in garbage.into_iter().enumerate() {
        let request =
            if index == 0 { asked.request } else { splitter.ask(0, ROWS).unwrap().request };
        let answer = splitter.reply(wire::InferenceReply { request, result }).unwrap().unwrap();
        assert_eq!(answer.origin, Origin::LocalRejected("malformed".into()));
        assert_eq!(answer.outputs, whole(ROWS));
    }
}

#[test]
fn only_permitted_cuts_and_never_the_input() {
    let refused = |from, to, policy: &Policy| {
        Splitter::new(SPEC, &params(), placement(from, to), policy).err().expect("refused")
    };
    let forbidden = refused(1, 4, &policy());
    assert!(matches!(forbidden, SplitError::Forbidden { position: 1, .. }), "{forbidden}");
    assert!(matches!(refused(2, 4, &Policy::default()), SplitError::Forbidden { .. }));
    let mut everything = policy();
    everything.split[0].cuts = (0..10).collect();
    for (from, to) in [(0, 4), (4, 4), (2, 2), (3, 2), (2, 5), (9, 10)] {
        assert!(matches!(refused(from, to, &everything), SplitError::Range { .. }));
    }
}

#[test]
fn questions_are_bounded() {
    let mut splitter = splitter(2, 4);
    assert!(matches!(splitter.ask(0, &[1.0, 2.0]), Err(SplitError::Shape(_))));
    let mut rows = ROWS.to_vec();
    rows[4] = f32::NAN;
    assert!(matches!(splitter.ask(0, &rows), Err(SplitError::NotFinite { row: 1 })));
    let many = vec![0.5; 3 * 200_000];
    assert!(matches!(splitter.ask(0, &many), Err(SplitError::TooLarge { .. })));
    for _ in 0..limits::ACTIVATIONS_IN_FLIGHT_MAX {
        splitter.ask(0, ROWS).unwrap();
    }
    assert!(matches!(splitter.ask(0, ROWS), Err(SplitError::Busy(_))));
}
