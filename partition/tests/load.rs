//! A partition server under load over real sockets and mutual TLS: killed and restarted in the middle, flooded, asked to end
//! while requests wait, and with a version taken away.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use koinon_model::codec::{Activation, Codec};
use koinon_model::network::{Form, Network};
use koinon_model::params::Params;
use koinon_model::program::{Data, Value};
use koinon_model::spec::{CheckedSpec, ModelSpec};
use koinon_partition::config::{self, Config};
use koinon_proto::wire::inference_client::InferenceClient;
use koinon_proto::wire::{self, inference_reply};
use koinon_proto::{Digest, limits};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

const SITES: usize = 32;
const QUESTIONS: usize = 313;
const CUT: u32 = 2;
const NODES: u32 = 4;

/// A consortium's CA, a server's folder, and the network that is served.
struct World {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    ca: String,
    spec: CheckedSpec,
    values: Vec<u8>,
    network: Arc<Network>,
}

/// A server in a runtime of its own: dropping it is as abrupt as `kill -9`.
struct Server {
    runtime: Option<tokio::runtime::Runtime>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<tokio::task::JoinHandle<Result<(), String>>>,
    port: u16,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = ca.self_signed(&key).unwrap().pem();
        let text = br#"{"name":"m","inputs":[{"name":"x","shape":[16]}],"nodes":[
            {"name":"fc1","op":{"linear":{"units":32}},"inputs":["x"]},
            {"name":"act","op":"relu","inputs":["fc1"]},
            {"name":"fc2","op":{"linear":{"units":64}},"inputs":["act"]},
            {"name":"fc3","op":{"linear":{"units":4}},"inputs":["fc2"]}]}"#;
        let spec = ModelSpec::from_json(text).unwrap().check().unwrap();
        let params = Params::init(&spec, 3);
        let values = params.to_safetensors(spec.layout()).unwrap();
        let network = Arc::new(Network::layers(&spec, &params).unwrap());
        let world = Self { folder, issuer: Issuer::new(ca, key), ca: pem, spec, values, network };
        let (chain, key) = world.credentials("partition.koinon");
        std::fs::write(world.path("tls.pem"), chain).unwrap();
        std::fs::write(world.path("tls.key"), key).unwrap();
        std::fs::write(world.path("ca.pem"), &world.ca).unwrap();
        std::fs::create_dir_all(world.path("models/one")).unwrap();
        let [graph, values] = Form::Layers.files();
        std::fs::write(world.path("models/one").join(graph), world.spec.canonical()).unwrap();
        std::fs::write(world.path("models/one").join(values), &world.values).unwrap();
        std::fs::write(world.path(config::FILE), config::TEMPLATE).unwrap();
        world
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> Config {
        config::load(self.folder.path()).unwrap()
    }

    fn credentials(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn site(&self, n: usize) -> Site {
        let (chain, key) = self.credentials(&format!("site-{n}"));
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(chain, key))
            .domain_name("partition.koinon");
        Site { n, tls, network: Arc::clone(&self.network), names: self.names() }
    }

    /// Digests of the two files.
    fn names(&self) -> (Digest, Digest) {
        (Digest::of(self.spec.canonical()), Digest::of(&self.values))
    }

    fn serve(&self, config: Config, port: u16) -> Server {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (stop, stopped) = oneshot::channel();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = async {
            let _ = stopped.await;
        };
        let ended = runtime.spawn(async move {
            koinon_partition::server::run(config, listener, asked).await.map_err(|e| e.to_string())
        });
        Server { runtime: Some(runtime), stop: Some(stop), ended: Some(ended), port }
    }
}

impl Server {
    /// Asks it to end, as SIGTERM does, and waits until it has.
    fn end(mut self) -> Result<(), String> {
        let _ = self.stop.take().unwrap().send(());
        let runtime = self.runtime.take().unwrap();
        let ended = self.ended.take().unwrap();
        let ended =
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), ended).await });
        runtime.shutdown_background();
        ended.expect("it ends in time").unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One site's side.
#[derive(Clone)]
struct Site {
    n: usize,
    tls: ClientTlsConfig,
    network: Arc<Network>,
    names: (Digest, Digest),
}

type Stream = (mpsc::Sender<wire::Activation>, Streaming<wire::InferenceReply>);

impl Site {
    async fn connect(&self, port: u16) -> Result<Stream, String> {
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}")).unwrap();
        let endpoint = endpoint.tls_config(self.tls.clone()).unwrap().tcp_nodelay(true);
        let channel: Channel = endpoint.connect().await.map_err(|e| e.to_string())?;
        let mut client = InferenceClient::new(channel)
            .max_decoding_message_size(limits::INFERENCE_FRAME_BYTES_MAX);
        let (sender, requests) = mpsc::channel(limits::ACTIVATIONS_IN_FLIGHT_MAX);
        let replies = client.infer(ReceiverStream::new(requests)).await;
        Ok((sender, replies.map_err(|e| e.to_string())?.into_inner()))
    }

    fn rows(&self, question: usize) -> Vec<f32> {
        let at = |i: usize| ((self.n * 31 + question * 7 + i * 3) % 23) as f32 / 11.0 - 1.0;
        (0..16 * (1 + question % 3)).map(at).collect()
    }

    /// An activation as the site sends it, without a splitter.
    fn activation(&self, request: u64, rows: &[f32], deadline_ms: u32) -> wire::Activation {
        let at = self.network.crossing(0, vec![inputs_of_rows(rows)]).unwrap();
        let at = self.network.forward(CUT as usize, &at, &mut self.network.start(0..2)).unwrap();
        let boundary = Activation::encode(&at, Codec::F32).unwrap().into_bytes();
        wire::Activation {
            request,
            version: self.names.1.0.to_vec(),
            from: CUT,
            to: NODES,
            deadline_ms,
            boundary,
            ..wire::Activation::default()
        }
    }
}

/// Sends and waits for the last one's answer; `None` when the connection is gone.
async fn exchange(
    stream: Option<&mut Stream>,
    messages: Vec<wire::Activation>,
) -> Option<wire::InferenceReply> {
    let (sender, replies) = stream?;
    let last = messages.last()?.request;
    for message in messages {
        sender.send(message).await.ok()?;
    }
    loop {
        let reply = replies.message().await.ok()??;
        if reply.request == last {
            return Some(reply);
        }
    }
}

fn outcome(reply: &wire::InferenceReply) -> String {
    match &reply.result {
        Some(inference_reply::Result::Boundary(_)) => "answered".into(),
        Some(inference_reply::Result::Rejection(rejection)) => rejection.code.clone(),
        None => "nothing".into(),
    }
}

fn inputs_of_rows(rows: &[f32]) -> Value {
    Value::new(vec![rows.len() / 16, 16], Data::F32(rows.to_vec())).unwrap()
}

fn numbers(value: &Value) -> &[f32] {
    let Data::F32(numbers) = value.data() else { panic!("single precision") };
    numbers
}

impl Site {
    /// Asks all its questions, again where the server went away; every answer is compared with the whole network's. Gives
    /// how often it asked again.
    async fn ask_all(self, port: u16, answered: Arc<AtomicUsize>) -> usize {
        let (mut stream, mut again) = (None, 0);
        for question in 0..QUESTIONS {
            let rows = self.rows(question);
            let reply = loop {
                if stream.is_none() {
                    stream = self.connect(port).await.ok();
                }
                let activation = self.activation(question as u64, &rows, 5_000);
                match exchange(stream.as_mut(), vec![activation]).await {
                    Some(reply) => break reply,
                    None => (stream, again) = (None, again + 1),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            let Some(inference_reply::Result::Boundary(bytes)) = &reply.result else {
                panic!("{}", outcome(&reply))
            };
            let got = Activation::decode(bytes, 1 << 20).unwrap();
            let at = self.network.crossing(0, vec![inputs_of_rows(&rows)]).unwrap();
            let mut states = self.network.start(0..NODES as usize);
            let want = self.network.forward(NODES as usize, &at, &mut states).unwrap();
            let (got, want) = (numbers(&got[0]), numbers(&want.values()[0]));
            assert_eq!(got.len(), want.len());
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-4), "{got:?} {want:?}");
            answered.fetch_add(1, Ordering::Relaxed);
        }
        again
    }
}

#[test]
fn of_ten_thousand_requests_none_is_lost_or_wrong_when_the_server_is_killed() {
    let world = World::new();
    let server = world.serve(world.config(), 0);
    let port = server.port;
    let answered = Arc::new(AtomicUsize::new(0));
    let sites = tokio::runtime::Runtime::new().unwrap();
    let tasks: Vec<_> = (0..SITES)
        .map(|n| sites.spawn(world.site(n).ask_all(port, Arc::clone(&answered))))
        .collect();
    let began = Instant::now();
    while answered.load(Ordering::Relaxed) < SITES * QUESTIONS / 3 {
        assert!(began.elapsed() < Duration::from_secs(120), "a third is never answered");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(server);
    std::thread::sleep(Duration::from_millis(200));
    let server = world.serve(world.config(), port);
    let again: usize = tasks.into_iter().map(|task| sites.block_on(task).unwrap()).sum();
    assert!(again > 0, "it was felt");
    assert_eq!(answered.load(Ordering::Relaxed), SITES * QUESTIONS);
    server.end().unwrap();
}

#[test]
fn a_site_that_floods_is_refused_and_a_quiet_one_is_not() {
    let world = World::new();
    let config = Config { site_bytes: 100_000, queue_bytes: 200_000, threads: 1, ..world.config() };
    let server = world.serve(config, 0);
    let (flood, quiet) = (world.site(1), world.site(2));
    let sites = tokio::runtime::Runtime::new().unwrap();
    let (refused, slowest) = sites.block_on(async {
        let (flooding, mut flooded) = flood.connect(server.port).await.unwrap();
        let many = vec![0.5; 16 * 1000];
        let messages: Vec<_> = (0..200).map(|n| flood.activation(n, &many, 0)).collect();
        let sending = tokio::spawn(async move {
            for message in messages {
                if flooding.send(message).await.is_err() {
                    break;
                }
            }
            flooding
        });
        let mut stream = quiet.connect(server.port).await.unwrap();
        let mut slowest = Duration::ZERO;
        for n in 0..30 {
            let began = Instant::now();
            let one = quiet.activation(n, &quiet.rows(0), 2_000);
            let reply = exchange(Some(&mut stream), vec![one]).await.unwrap();
            assert_eq!(outcome(&reply), "answered");
            slowest = slowest.max(began.elapsed());
        }
        let mut refused = 0;
        for _ in 0..200 {
            let reply = flooded.message().await.unwrap().unwrap();
            refused += usize::from(outcome(&reply) == "overloaded");
        }
        drop(sending.await);
        (refused, slowest)
    });
    assert_eq!(refused, 200, "each is above what a site may have waiting");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    server.end().unwrap();
}

#[test]
fn a_server_that_is_asked_to_end_answers_what_waits() {
    let world = World::new();
    let server = world.serve(Config { threads: 1, ..world.config() }, 0);
    let site = world.site(1);
    let sites = tokio::runtime::Runtime::new().unwrap();
    let (sender, mut replies, first) = sites.block_on(async {
        let (sender, mut replies) = site.connect(server.port).await.unwrap();
        let many = vec![0.5; 16 * 100];
        for n in 0..40 {
            sender.send(site.activation(n, &many, 0)).await.unwrap();
        }
        let first = replies.message().await.unwrap().unwrap();
        assert_eq!(outcome(&first), "answered");
        (sender, replies, first)
    });
    let reading = sites.spawn(async move {
        let mut outcomes = vec![outcome(&first)];
        let orderly = loop {
            match replies.message().await {
                Ok(Some(reply)) => outcomes.push(outcome(&reply)),
                ended => break ended.is_ok(),
            }
        };
        drop(sender);
        (outcomes, orderly)
    });
    let began = Instant::now();
    server.end().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "open streams do not hold it up");
    let (outcomes, orderly) = sites.block_on(reading).unwrap();
    assert!(orderly, "the stream ends, it is not cut");
    assert!(outcomes.iter().all(|o| o == "answered" || o == "stopping"), "{outcomes:?}");
}

#[test]
fn a_version_that_is_replaced_fails_no_request() {
    let world = World::new();
    let server = world.serve(world.config(), 0);
    let site = world.site(1);
    let sites = tokio::runtime::Runtime::new().unwrap();
    sites.block_on(async {
        let mut stream = site.connect(server.port).await.unwrap();
        let next = Params::init(&world.spec, 9).to_safetensors(world.spec.layout()).unwrap();
        let mut newer = site.clone();
        newer.names.1 = Digest::of(&next);
        replace(&world.path("models/one"), &next);
        let began = Instant::now();
        let mut n = 0;
        loop {
            n += 2;
            assert!(began.elapsed() < Duration::from_secs(30), "the new version is never served");
            let old = exchange(Some(&mut stream), vec![site.activation(n, &site.rows(0), 0)]).await;
            assert_eq!(
                outcome(&old.unwrap()),
                "answered",
                "who asks for the old one still gets it"
            );
            let new = newer.activation(n + 1, &site.rows(0), 0);
            let new = exchange(Some(&mut stream), vec![new]).await.unwrap();
            if outcome(&new) == "answered" {
                break;
            }
            assert_eq!(outcome(&new), "unknown_version");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let old = exchange(Some(&mut stream), vec![site.activation(1, &site.rows(0), 0)]).await;
        assert_eq!(outcome(&old.unwrap()), "answered");
    });
    server.end().unwrap();
}

/// As `model pull` does: the file is there as a whole or not at all.
fn replace(folder: &Path, values: &[u8]) {
    let name = Form::Layers.files()[1];
    std::fs::write(folder.join("new"), values).unwrap();
    std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
}
