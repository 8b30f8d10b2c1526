//! A server that answers, is late, rejects, lies, forgets, or is gone.

use koinon_model::params::Params;
use koinon_model::program::op::Binary;
use koinon_model::program::{
    Constants, DType, Data, Port, Program, ProgramNode, Role, State, TensorOp,
};
use koinon_model::spec::ModelSpec;

use super::*;
use crate::policy::CutPolicy;

const SPEC: &[u8] = br#"{"name":"m","inputs":[{"name":"x","shape":[3]}],"nodes":[
    {"name":"fc1","op":{"linear":{"units":8}},"inputs":["x"]},
    {"name":"act","op":"relu","inputs":["fc1"]},
    {"name":"fc2","op":{"linear":{"units":4}},"inputs":["act"]},
    {"name":"fc3","op":{"linear":{"units":2}},"inputs":["fc2"]}]}"#;
const MODEL: Digest = Digest([7; 32]);
const VERSION: Digest = Digest([8; 32]);
const ROWS: &[f32] = &[0.5, -1.0, 2.0, 0.0, 0.25, -0.75];

fn layers() -> Arc<Network> {
    let spec = ModelSpec::from_json(SPEC).unwrap().check().unwrap();
    Arc::new(Network::layers(&spec, &Params::init(&spec, 5)).unwrap())
}

fn policy(cuts: &[u32]) -> Policy {
    let mut policy = Policy::default();
    policy.split.push(CutPolicy { model: MODEL, cuts: cuts.iter().copied().collect() });
    policy
}

fn splitter(network: &Arc<Network>, placement: Placement, cuts: &[u32]) -> Splitter {
    let network = Arc::clone(network);
    let made = Splitter::new(network, (MODEL, VERSION), placement, 2, policy(cuts));
    let mut made = made.unwrap_or_else(|error| panic!("{error}"));
    made.connected(0);
    made
}

/// Head here, tail at the server, little patience.
fn tailed() -> Splitter {
    splitter(&layers(), Placement::tail(2, 4).with_deadline(50), &[2])
}

fn rows(rows: &[f32]) -> Vec<Value> {
    inputs_of_rows(&layers(), rows).unwrap()
}

fn whole(network: &Network, inputs: Vec<Value>) -> Vec<f32> {
    let at = network.crossing(0, inputs).unwrap();
    let n = network.n_nodes();
    let out = network.forward(n, &at, &mut network.start(0..n)).unwrap();
    numbers(out.values()).to_vec()
}

/// An honest partition server.
struct Server {
    network: Arc<Network>,
    held: BTreeMap<u64, (States, u32)>,
    ran: usize,
}

impl Server {
    fn new(network: &Arc<Network>) -> Self {
        Self { network: Arc::clone(network), held: BTreeMap::new(), ran: 0 }
    }

    fn answer(&mut self, activation: &wire::Activation) -> wire::InferenceReply {
        let (from, to) = (activation.from as usize, activation.to as usize);
        let values = Activation::decode(&activation.boundary, 1 << 20).unwrap();
        let at = self.network.crossing(from, values).unwrap();
        let fresh = (self.network.start(from..to), 0);
        let key = activation.sequence;
        let (mut states, steps) = match self.held.remove(&key) {
            Some(held) if activation.step > 0 => held,
            _ => fresh,
        };
        if key > 0 && steps != activation.step {
            return rejected(activation.request, "unknown_sequence");
        }
        self.ran += 1;
        let out = self.network.forward(to, &at, &mut states).unwrap();
        if key > 0 {
            self.held.insert(key, (states, steps + 1));
        }
        let bytes = Activation::encode(&out, Codec::F32).unwrap().into_bytes();
        let result = Some(wire::inference_reply::Result::Boundary(bytes));
        let request = activation.request;
        wire::InferenceReply { request, result, ..wire::InferenceReply::default() }
    }

    /// Answers until the question is; a server that is not this one is not expected.
    fn finish(&mut self, splitter: &mut Splitter, mut step: Step) -> Answer {
        loop {
            match step {
                Step::Done(answer) => return answer,
                Step::Send(_, activations) => {
                    let mut next = None;
                    for activation in activations {
                        let reply = self.answer(&activation);
                        next = splitter.reply(0, reply).unwrap().or(next);
                    }
                    step = next.expect("the last one is answered");
                }
            }
        }
    }
}

fn rejected(request: u64, code: &str) -> wire::InferenceReply {
    let rejection = wire::Rejection { code: code.into(), detail: "x".into() };
    let result = Some(wire::inference_reply::Result::Rejection(rejection));
    wire::InferenceReply { request, result, ..wire::InferenceReply::default() }
}

fn sent(step: Step) -> Vec<wire::Activation> {
    match step {
        Step::Send(_, activations) => activations,
        Step::Done(_) => panic!("it should be sent"),
    }
}

fn done(step: Step) -> Answer {
    match step {
        Step::Done(answer) => answer,
        Step::Send(..) => panic!("it should be answered"),
    }
}

#[test]
fn every_placement_gives_the_whole_networks_answers() {
    let network = layers();
    let all = [
        (Placement::here(4), Origin::Here),
        (Placement::tail(2, 4), Origin::Split),
        (Placement::u_shape(2, 3, 4), Origin::Split),
        (Placement::chain(&[1, 2], 4), Origin::Split),
        (Placement::chain(&[1, 2, 3], 4), Origin::Split),
    ];
    for (placement, origin) in all {
        let mut splitter = splitter(&network, placement, &[1, 2, 3]);
        let mut server = Server::new(&network);
        let (number, step) = splitter.ask(0, None, rows(ROWS)).unwrap();
        let answer = server.finish(&mut splitter, step);
        assert_eq!((answer.request, &answer.origin), (number, &origin));
        assert_eq!(numbers(&answer.outputs), whole(&network, rows(ROWS)));
        assert_eq!(splitter.next_deadline(), None);
    }
}

#[test]
fn answers_may_come_in_any_order_and_once() {
    let (network, mut splitter) = (layers(), tailed());
    let mut server = Server::new(&network);
    let (one, first) = splitter.ask(0, None, rows(ROWS)).unwrap();
    let (two, second) = splitter.ask(0, None, rows(&ROWS[..3])).unwrap();
    let (first, second) = (sent(first), sent(second));
    for (number, activation, want) in [(two, &second[0], &ROWS[..3]), (one, &first[0], ROWS)] {
        let answer = done(splitter.reply(0, server.answer(activation)).unwrap().unwrap());
        assert_eq!(answer.request, number);
        assert_eq!(numbers(&answer.outputs), whole(&network, rows(want)));
    }
    assert!(splitter.reply(0, server.answer(&first[0])).unwrap().is_none(), "answered once");
}

#[test]
fn a_late_lost_or_rejected_question_is_answered_here_and_says_so() {
    let (network, mut splitter) = (layers(), tailed());
    let right = whole(&network, rows(ROWS));
    let (number, step) = splitter.ask(100, None, rows(ROWS)).unwrap();
    let late = sent(step);
    assert_eq!(splitter.next_deadline(), Some(150));
    assert!(splitter.expire(149).unwrap().is_empty());
    let answers = splitter.expire(150).unwrap();
    assert_eq!((answers[0].request, &answers[0].origin), (number, &Origin::LocalDeadline));
    assert_eq!(numbers(&answers[0].outputs), right);
    let reply = Server::new(&network).answer(&late[0]);
    assert!(splitter.reply(151, reply).unwrap().is_none(), "too late");

    let asked = sent(splitter.ask(300, None, rows(ROWS)).unwrap().1);
    let reply = rejected(asked[0].request, "unknown_version\n!");
    let answer = done(splitter.reply(300, reply).unwrap().unwrap());
    assert_eq!(answer.origin, Origin::LocalRejected("unknown_version".into()));
    assert_eq!(numbers(&answer.outputs), right);

    splitter.ask(200, None, rows(ROWS)).unwrap();
    let steps = splitter.disconnected(200, 0).unwrap();
    let answer = steps.into_iter().map(done).next().unwrap();
    assert_eq!(answer.origin, Origin::LocalDisconnected);
    let (_, step) = splitter.ask(200, None, rows(ROWS)).unwrap();
    assert_eq!(done(step).origin, Origin::LocalDisconnected, "nobody is asked meanwhile");
    splitter.connected(0);
    assert_eq!(sent(splitter.ask(200, None, rows(ROWS)).unwrap().1).len(), 1);
}

#[test]
fn another_server_takes_over_what_waits() {
    let (network, mut splitter) = (layers(), tailed());
    splitter.connected(1);
    let first = sent(splitter.ask(0, None, rows(ROWS)).unwrap().1);
    let mut steps = splitter.disconnected(10, 0).unwrap();
    let Some(Step::Send(1, again)) = steps.pop() else { panic!("the other server is asked") };
    assert!(again[0].boundary == first[0].boundary && again[0].deadline_ms == 40);
    let reply = Server::new(&network).answer(&again[0]);
    let answer = done(splitter.reply(11, reply).unwrap().unwrap());
    assert_eq!(answer.origin, Origin::Split);
    assert_eq!(numbers(&answer.outputs), whole(&network, rows(ROWS)));
}

#[test]
fn garbage_from_the_server_is_not_an_answer() {
    let (network, mut splitter) = (layers(), tailed());
    let fewer = sent(splitter.ask(0, None, rows(&ROWS[..3])).unwrap().1);
    let fewer = Server::new(&network).answer(&fewer[0]).result;
    let garbage = Some(wire::inference_reply::Result::Boundary(vec![1; 40]));
    for result in [fewer, garbage, None] {
        let request = sent(splitter.ask(0, None, rows(ROWS)).unwrap().1)[0].request;
        let reply = wire::InferenceReply { request, result, ..wire::InferenceReply::default() };
        let answer = done(splitter.reply(0, reply).unwrap().unwrap());
        assert_eq!(answer.origin, Origin::LocalRejected("malformed".into()));
        assert_eq!(numbers(&answer.outputs), whole(&network, rows(ROWS)));
    }
}

#[test]
fn only_permitted_cuts_and_never_the_input() {
    let refused = |placement: Placement, cuts: &[u32]| {
        let made = Splitter::new(layers(), (MODEL, VERSION), placement, 1, policy(cuts));
        made.err().expect("refused")
    };
    let forbidden = refused(Placement::tail(1, 4), &[2]);
    assert!(matches!(forbidden, SplitError::Forbidden { position: 1, .. }), "{forbidden}");
    let chained = refused(Placement::chain(&[2, 3], 4), &[2]);
    assert!(
        matches!(chained, SplitError::Forbidden { position: 3, .. }),
        "each hop leaves the site"
    );
    let everything: Vec<u32> = (0..10).collect();
    for placement in [
        Placement::tail(0, 4),
        Placement::tail(4, 4),
        Placement::u_shape(2, 2, 4),
        Placement::u_shape(3, 2, 4),
        Placement::tail(2, 5),
        Placement::of(&[(4, Place::Server(0))]),
        Placement::of(&[]),
        Placement::of(&[(2, Place::Here)]),
    ] {
        assert!(matches!(refused(placement, &everything), SplitError::Range { .. }));
    }
}

#[test]
fn questions_are_bounded() {
    let mut splitter = tailed();
    let short = Value::new(vec![1, 2], Data::F32(vec![1.0, 2.0])).unwrap();
    assert!(matches!(splitter.ask(0, None, vec![short]), Err(SplitError::Network(_))));
    let mut bad = ROWS.to_vec();
    bad[4] = f32::NAN;
    let asked = splitter.ask(0, None, rows(&bad));
    assert!(matches!(asked, Err(SplitError::NotFinite { row: 1 })));
    let many = vec![0.5; 3 * 600_000];
    let asked = splitter.ask(0, None, rows(&many));
    assert!(matches!(asked, Err(SplitError::TooLarge { .. })));
    for _ in 0..limits::ACTIVATIONS_IN_FLIGHT_MAX {
        splitter.ask(0, None, rows(ROWS)).unwrap();
    }
    assert!(matches!(splitter.ask(0, None, rows(ROWS)), Err(SplitError::Busy(_))));
}

/// `h = tanh(x · w)`, `s' = s + h`, `y = s' · v`: a running sum behind a product with weights.
fn remembering() -> Arc<Network> {
    let node = |name: &str, op, inputs: &[&str]| ProgramNode {
        name: name.into(),
        op,
        inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
        outputs: vec![name.into()],
    };
    let number = |items: &[f32], shape: &[usize]| {
        Value::new(shape.to_vec(), Data::F32(items.to_vec())).unwrap()
    };
    let program = Program {
        name: "p".into(),
        inputs: vec![Port {
            name: "x".into(),
            dtype: DType::F32,
            shape: Some(vec![Some(1), Some(2)]),
            role: Role::Rows,
        }],
        nodes: vec![
            node("h", TensorOp::MatMul, &["x", "w"]),
            node("sum", TensorOp::Binary(Binary::Add), &["h", "s"]),
            node("y", TensorOp::MatMul, &["sum", "v"]),
        ],
        outputs: vec!["y".into()],
        states: vec![State {
            name: "s".into(),
            dtype: DType::F32,
            shape: vec![1, 2],
            output: "sum".into(),
        }],
    };
    let constants = Constants::from([
        ("w".to_owned(), number(&[0.3, -0.7, 0.11, 0.9], &[2, 2])),
        ("v".to_owned(), number(&[0.37, 1.3], &[2, 1])),
    ]);
    Arc::new(Network::program(program.check(constants).unwrap()))
}

fn word(at: u32) -> Vec<Value> {
    let at = f32::from(u16::try_from(at).unwrap());
    vec![Value::new(vec![1, 2], Data::F32(vec![at.sin(), at.cos()])).unwrap()]
}

/// The outputs of ten steps; `trouble` may do something to splitter and server before each.
fn ten_steps(
    placement: Placement,
    mut trouble: impl FnMut(u32, &mut Splitter, &mut Server),
) -> Vec<Vec<f32>> {
    let network = remembering();
    let mut splitter = splitter(&network, placement, &[1]);
    let mut server = Server::new(&network);
    let sequence = splitter.begin();
    let mut outputs = Vec::new();
    for at in 0..10 {
        trouble(at, &mut splitter, &mut server);
        let (_, step) = splitter.ask(0, Some(sequence), word(at)).unwrap();
        let answer = server.finish(&mut splitter, step);
        outputs.push(numbers(&answer.outputs).to_vec());
    }
    outputs
}

#[test]
fn a_sequence_goes_on_identically_wherever_its_memory_is_made_again() {
    for codec in Codec::ALL {
        let split = || Placement::tail(1, 3).with_codec(codec);
        let right = ten_steps(split(), |_, _, _| {});
        if codec == Codec::F32 {
            assert_eq!(right, ten_steps(Placement::here(3), |_, _, _| {}));
        }
        let forgets = ten_steps(split(), |at, _, server| {
            if at == 4 || at == 7 {
                server.held.clear();
            }
        });
        let lost = ten_steps(split(), |at, splitter, server| match at {
            3 => assert!(splitter.disconnected(0, 0).unwrap().is_empty()),
            6 => {
                server.held.clear();
                splitter.connected(0);
            }
            _ => {}
        });
        let moved = ten_steps(split(), |at, splitter, server| {
            if at == 5 {
                server.held.clear();
                splitter.connected(1);
                splitter.disconnected(0, 0).unwrap();
            }
        });
        assert!(right == forgets && right == lost && right == moved, "{codec:?}");
    }
}

#[test]
fn only_the_new_step_is_sent_while_the_server_remembers() {
    let network = remembering();
    let mut splitter = splitter(&network, Placement::tail(1, 3), &[1]);
    let mut server = Server::new(&network);
    let sequence = splitter.begin();
    for at in 0..6 {
        let (_, step) = splitter.ask(0, Some(sequence), word(at)).unwrap();
        server.finish(&mut splitter, step);
    }
    assert_eq!(server.ran, 6);
    assert!(matches!(splitter.ask(0, Some(99), word(0)), Err(SplitError::NoSequence)));
    let (_, step) = splitter.ask(0, Some(sequence), word(6)).unwrap();
    let again = splitter.ask(0, Some(sequence), word(7));
    assert!(matches!(again, Err(SplitError::NoSequence)), "one step at a time");
    assert!(splitter.expire(u64::MAX).unwrap().len() == 1, "answered here, {:?}", sent(step).len());
    let (_, step) = splitter.ask(0, Some(sequence), word(7)).unwrap();
    assert_eq!(sent(step).len(), 8, "a server that was late is given everything again");
    splitter.end(sequence);
    assert!(splitter.ask(0, Some(sequence), word(8)).is_err());
}
