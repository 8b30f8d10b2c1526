//! From an address to a gRPC channel: TCP, counted, through a proxy where there is one, then TLS.
//!
//! This is the only place of the client that opens a socket, and it only dials out. The far side must
//! show a certificate of the consortium's pinned CA that names its *role* ([`COORDINATOR`],
//! [`PARTITION`]) rather than its host, so addresses may change freely and no member of another role
//! can stand in. It deliberately never reconnects: who holds a channel decides when to dial again
//! (and with which certificate). Start at [`channel`].

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::counters::{Counted, Counters};
use super::proxy::{self, ProxySetting, split_host_port};

/// The name in a coordinator's certificate.
pub const COORDINATOR: &str = "coordinator.koinon";
/// The name in a partition server's certificate.
pub const PARTITION: &str = "partition.koinon";

/// Each step of opening a connection may take this long.
const STEP: Duration = Duration::from_secs(10);
/// A silent connection is asked for a sign of life this often, and given up after the same time.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Where to connect to, and how to get there.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// The name that the certificate must carry: [`COORDINATOR`] or [`PARTITION`].
    pub server_name: String,
    /// The way out of the site.
    pub proxy: ProxySetting,
    /// CAs that are trusted besides the pinned one, DER.
    pub extra_ca: Vec<CertificateDer<'static>>,
}

impl Target {
    /// A target without extra CA, with the proxy of the environment.
    #[must_use]
    pub fn new(address: &str, server_name: &str) -> Self {
        Self {
            address: address.to_owned(),
            server_name: server_name.to_owned(),
            proxy: ProxySetting::Environment,
            extra_ca: Vec::new(),
        }
    }
}

/// What this side trusts and shows: the pinned CA, and its own certificate once it has one.
pub struct Tls {
    /// The consortium's CA, DER.
    pub ca: CertificateDer<'static>,
    /// Certificate chain (leaf first) and key of this member.
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// Why there is no connection; each kind is mended somewhere else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is not one.
    #[error("`{address}` is not an address; write host:port")]
    Address {
        /// What was given.
        address: String,
    },
    /// The name is unknown.
    #[error(
        "the name `{host}` cannot be resolved: {reason}; check the name and this machine's DNS"
    )]
    Dns {
        /// The host asked for.
        host: String,
        /// The resolver's answer.
        reason: String,
    },
    /// Nobody answers there.
    #[error(
        "{address} cannot be reached: {reason}; check the address and whether the firewall lets this machine out to it"
    )]
    Tcp {
        /// Host and port.
        address: String,
        /// The system's answer.
        reason: String,
    },
    /// The proxy is misconfigured, down, or does not let this through.
    #[error(
        "proxy {proxy}: {reason}; check `proxy` in the site file or HTTPS_PROXY, and ask for CONNECT to the coordinator to be allowed"
    )]
    Proxy {
        /// The proxy, without password.
        proxy: String,
        /// What happened.
        reason: String,
    },
    /// The proxy wants a user and password.
    #[error(
        "proxy {proxy} refuses this user or password (407); check the user in `proxy` and the file `proxy_password_file`"
    )]
    ProxyAuthentication {
        /// The proxy, without password.
        proxy: String,
    },
    /// The certificate is somebody else's.
    #[error(
        "the certificate shown at {address} is not from the consortium's CA: something in between opens TLS (an inspecting proxy or firewall), or this is another server; ask for {address} to be exempt from inspection"
    )]
    Interception {
        /// Host and port.
        address: String,
    },
    /// The certificate is of this CA but not valid now.
    #[error(
        "the certificate shown at {address} is not valid now: {reason}; check this machine's clock first, then ask the coordinator's operator"
    )]
    Validity {
        /// Host and port.
        address: String,
        /// Expired, or not yet valid.
        reason: String,
    },
    /// The certificate is of this CA but names another role.
    #[error(
        "the certificate shown at {address} does not name `{expected}`: another member of the consortium answers there; check the address"
    )]
    WrongRole {
        /// Host and port.
        address: String,
        /// The name expected.
        expected: String,
    },
    /// The far side refuses this side's certificate.
    #[error(
        "{address} refuses this site's certificate: {reason}; if it expired, join again with a new token"
    )]
    Refused {
        /// Host and port.
        address: String,
        /// The alert received.
        reason: String,
    },
    /// TLS failed otherwise.
    #[error("no TLS connection to {address}: {reason}")]
    Tls {
        /// Host and port.
        address: String,
        /// The library's answer.
        reason: String,
    },
    /// HTTP/2 failed after TLS.
    #[error("no HTTP/2 connection to {address}: {reason}")]
    Http {
        /// Host and port.
        address: String,
        /// The library's answer.
        reason: String,
    },
}

/// Opens one connection and returns the channel on it. When the connection is lost the channel fails
/// for good.
///
/// # Errors
/// [`ConnectError`], by cause.
pub async fn channel(
    target: &Target,
    tls: &Tls,
    counters: &Counters,
) -> Result<Channel, ConnectError> {
    let stream = dial(target, tls, counters).await?;
    let http = |e: tonic::transport::Error| ConnectError::Http {
        address: target.address.clone(),
        reason: chain(&e),
    };
    let mut once = Some(stream);
    let connector = tower::service_fn(move |_: Uri| {
        let stream = once.take().map(TokioIo::new);
        async move { stream.ok_or_else(|| std::io::Error::other("the connection was lost")) }
    });
    // The scheme is http as far as tonic is concerned: TLS is already there, below.
    Endpoint::from_shared(format!("http://{}", target.server_name))
        .map_err(http)?
        .initial_stream_window_size(2 * 1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(http)
}

/// TCP, proxy, TLS: everything below HTTP/2, with each failure told apart.
pub(crate) async fn dial(
    target: &Target,
    tls: &Tls,
    counters: &Counters,
) -> Result<TlsStream<Counted<TcpStream>>, ConnectError> {
    let address = || target.address.clone();
    let (host, port) =
        split_host_port(&target.address).ok_or(ConnectError::Address { address: address() })?;
    let proxy = target
        .proxy
        .for_host(&host)
        .map_err(|reason| ConnectError::Proxy { proxy: "(setting)".into(), reason })?;
    let tcp = match &proxy {
        None => tcp(&host, port).await?,
        Some(proxy) => {
            let (host, port) = proxy.address();
            tcp(host, port).await.map_err(|e| ConnectError::Proxy {
                proxy: proxy.to_string(),
                reason: e.to_string(),
            })?
        }
    };
    let mut stream = Counted::new(tcp, counters.clone());
    if let Some(proxy) = &proxy {
        timeout(STEP, proxy::connect(&mut stream, proxy, &host, port)).await.map_err(|_| {
            ConnectError::Proxy { proxy: proxy.to_string(), reason: "it does not answer".into() }
        })??;
    }
    let config = client_config(target, tls)
        .map_err(|e| ConnectError::Tls { address: address(), reason: e.to_string() })?;
    let name = ServerName::try_from(target.server_name.clone())
        .map_err(|e| ConnectError::Tls { address: address(), reason: e.to_string() })?;
    let stream = timeout(STEP, TlsConnector::from(Arc::new(config)).connect(name, stream))
        .await
        .map_err(|_| ConnectError::Tls { address: address(), reason: "no answer in time".into() })?
        .map_err(|e| tls_error(target, &e))?;
    stream.get_ref().0.opened();
    Ok(stream)
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let mut addresses = timeout(STEP, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| ConnectError::Dns { host: host.into(), reason: "no answer in time".into() })?
        .map_err(|e| ConnectError::Dns { host: host.into(), reason: e.to_string() })?
        .peekable();
    if addresses.peek().is_none() {
        return Err(ConnectError::Dns { host: host.into(), reason: "it has no address".into() });
    }
    let mut reason = String::new();
    for address in addresses {
        match timeout(STEP, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Frames are small and answered one by one: waiting to fill a segment only adds delay.
                if stream.set_nodelay(true).is_ok() {
                    return Ok(stream);
                }
            }
            Ok(Err(e)) => reason = e.to_string(),
            Err(_) => reason = "no answer in time".into(),
        }
    }
    Err(ConnectError::Tcp { address: format!("{host}:{port}"), reason })
}

fn client_config(target: &Target, tls: &Tls) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(tls.ca.clone())?;
    for ca in &target.extra_ca {
        roots.add(ca.clone())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match &tls.identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn tls_error(target: &Target, error: &std::io::Error) -> ConnectError {
    let address = target.address.clone();
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(fault)) => match fault {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                ConnectError::Validity { address, reason: fault.to_string() }
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ConnectError::WrongRole { address, expected: target.server_name.clone() }
            }
            _ => ConnectError::Interception { address },
        },
        Some(rustls::Error::AlertReceived(alert)) => {
            ConnectError::Refused { address, reason: format!("{alert:?}") }
        }
        Some(other) => ConnectError::Tls { address, reason: other.to_string() },
        None => ConnectError::Tls { address, reason: error.to_string() },
    }
}

/// The alert that the far side sent about this side's certificate, if that is why a call failed.
/// With TLS 1.3 it arrives only after the handshake looks complete.
pub(crate) fn refusal(target: &Target, status: &tonic::Status) -> Option<ConnectError> {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let tls = error.downcast_ref::<rustls::Error>().or_else(|| {
            error.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>()
        });
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return Some(ConnectError::Refused {
                address: target.address.clone(),
                reason: format!("{alert:?}"),
            });
        }
        source = error.source();
    }
    None
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
