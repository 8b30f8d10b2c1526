//! The one port: accepts connections, does TLS, and says who is there before any byte of HTTP.
//!
//! Everybody may knock: a handshake has a few seconds, connections without a certificate live half a
//! minute, and each member and each address has its share of connections, so that silence, garbage
//! and greed cost the others nothing. A certificate counts when the pinned CA signed it *and* it is
//! in the table of issued ones. What a member may do is deliberately decided elsewhere, by role, per
//! call. Start at [`incoming`].

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use koinon_aggregation::roster::Role;
use koinon_proto::id::{Digest, SiteId};
use koinon_proto::limits::CONNECTIONS_MAX;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::certificates::{Authority, CertificateError, server_renewal};
use super::error::ServerError;

/// A TLS handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Who has no certificate is done within this time: negotiating and enrolling take one round trip.
const ANONYMOUS: Duration = Duration::from_secs(30);
/// Connections without a certificate, handshakes included, at a time: in all and per address.
const ANONYMOUS_MAX: usize = 512;
const ANONYMOUS_PER_ADDRESS_MAX: usize = 128;
/// Connections of one member at a time: its stream, a download, and a reconnect not yet noticed.
const PER_MEMBER_MAX: usize = 8;

/// A member as the table of certificates has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name in the roster.
    pub name: SiteId,
    /// Its role.
    pub role: Role,
}

/// The certificates that were issued, by the SHA-256 of the leaf. The journal's file is the truth.
pub type Issued = Arc<Mutex<BTreeMap<Digest, Member>>>;

/// Who is at the other end of a connection: an extension of every request on it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it comes from.
    pub address: IpAddr,
    /// Who it is, if it showed a certificate.
    pub member: Option<Member>,
}

/// What the port needs to know of the coordinator.
pub(super) struct Port {
    pub(super) name: SiteId,
    pub(super) hosts: Vec<String>,
    pub(super) authority: Arc<Authority>,
    pub(super) issued: Issued,
}

/// Accepts connections until the receiver is dropped.
///
/// # Errors
/// When no server certificate can be made.
pub(super) fn incoming(
    listener: TcpListener,
    port: Port,
) -> Result<ReceiverStream<io::Result<Connection>>, ServerError> {
    let acceptor = acceptor(&port).map_err(|e| ServerError::Setup(e.to_string()))?;
    let (ready, connections) = mpsc::channel(64);
    tokio::spawn(accept(listener, port, acceptor, ready));
    Ok(ReceiverStream::new(connections))
}

async fn accept(
    listener: TcpListener,
    port: Port,
    mut acceptor: TlsAcceptor,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    let doors = Arc::new(Doors::default());
    let (anonymous, members) =
        (Arc::new(Semaphore::new(ANONYMOUS_MAX)), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let mut made = Instant::now();
    loop {
        let (stream, address) = tokio::select! {
            () = ready.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or a peer that left again: neither ends the service.
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        if made.elapsed() > server_renewal() {
            match self::acceptor(&port) {
                Ok(renewed) => (acceptor, made) = (renewed, Instant::now()),
                Err(error) => tracing::error!(%error, "the server certificate cannot be renewed"),
            }
        }
        // Without a place in the hall the connection is closed at once, which costs nothing.
        let Ok(permit) = Arc::clone(&anonymous).try_acquire_owned() else { continue };
        let Some(door) = doors.enter(Who::Address(address.ip()), ANONYMOUS_PER_ADDRESS_MAX) else {
            continue;
        };
        let (acceptor, issued, ready) = (acceptor.clone(), Arc::clone(&port.issued), ready.clone());
        let (doors, members) = (Arc::clone(&doors), Arc::clone(&members));
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let Ok(Ok(tls)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else {
                tracing::debug!(peer = %address.ip(), "no TLS handshake");
                return;
            };
            let member = member_of(&tls, &issued);
            let pass = match &member {
                None => Some(Pass { _permit: permit, _door: door }),
                Some(member) => admit(&doors, &members, &member.name),
            };
            let Some(pass) = pass else {
                tracing::warn!(peer = %address.ip(), "too many connections of one member");
                return;
            };
            let connection = Connection::new(tls, address, member, pass);
            let _ = ready.send(Ok(connection)).await;
        });
    }
}

fn admit(doors: &Arc<Doors>, members: &Arc<Semaphore>, name: &SiteId) -> Option<Pass> {
    let permit = Arc::clone(members).try_acquire_owned().ok()?;
    let door = doors.enter(Who::Member(name.clone()), PER_MEMBER_MAX)?;
    Some(Pass { _permit: permit, _door: door })
}

fn member_of(tls: &TlsStream<TcpStream>, issued: &Issued) -> Option<Member> {
    let leaf = tls.get_ref().1.peer_certificates()?.first()?;
    lock(issued).get(&Digest::of(leaf)).cloned()
}

fn acceptor(port: &Port) -> Result<TlsAcceptor, CertificateError> {
    let now = super::now_ms();
    let (certificate, key) = port.authority.server(&port.name, &port.hosts, now)?;
    tls_config(&port.authority, certificate, key)
        .map(|config| TlsAcceptor::from(Arc::new(config)))
        .map_err(CertificateError::new)
}

fn tls_config(
    authority: &Authority,
    certificate: rustls::pki_types::CertificateDer<'static>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone())?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// A connection after its handshake, as tonic takes it.
pub struct Connection {
    tls: TlsStream<TcpStream>,
    peer: Peer,
    /// When a connection without certificate ends, whatever it is doing.
    end: Option<Pin<Box<Sleep>>>,
    _pass: Pass,
}

/// The places a connection takes, free again when it is dropped.
struct Pass {
    _permit: OwnedSemaphorePermit,
    _door: Door,
}

impl Connection {
    fn new(
        tls: TlsStream<TcpStream>,
        address: SocketAddr,
        member: Option<Member>,
        pass: Pass,
    ) -> Self {
        let end = member.is_none().then(|| Box::pin(sleep(ANONYMOUS)));
        Self { tls, peer: Peer { address: address.ip(), member }, end, _pass: pass }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let over = self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready());
        if over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Address(IpAddr),
    Member(SiteId),
}

/// How many connections each address and each member has open.
#[derive(Default)]
struct Doors(Mutex<BTreeMap<Who, usize>>);

/// One open connection in [`Doors`].
struct Door {
    doors: Arc<Doors>,
    who: Who,
}

impl Doors {
    fn enter(self: &Arc<Self>, who: Who, max: usize) -> Option<Door> {
        let mut open = lock(&self.0);
        let count = open.entry(who.clone()).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Door { doors: Arc::clone(self), who })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut open = lock(&self.doors.0);
        if let Some(count) = open.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.who);
            }
        }
    }
}

/// Locks, also after another thread panicked: these maps are whole after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share_of_connections_and_gives_it_back() {
        let doors = Arc::new(Doors::default());
        let site = || Who::Member(SiteId::new("site").unwrap());
        let first = doors.enter(site(), 2).unwrap();
        let _second = doors.enter(site(), 2).unwrap();
        assert!(doors.enter(site(), 2).is_none());
        assert!(doors.enter(Who::Address([127, 0, 0, 1].into()), 2).is_some());
        drop(first);
        assert!(doors.enter(site(), 2).is_some());
        assert_eq!(lock(&doors.0).len(), 1);
    }
}
