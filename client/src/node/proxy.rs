//! Which proxy to go through, and the CONNECT handshake with it (RFC 9110, section 9.3.6).
//!
//! Sites often reach the world only through an HTTP proxy. This module reads the setting (site file
//! or the usual environment variables), decides by NO_PROXY, and opens the tunnel. It deliberately
//! speaks plain HTTP to the proxy: what goes through the tunnel is TLS to the coordinator anyhow.
//! Start at [`ProxySetting::for_host`] and [`connect`].

use std::fmt;

use base64::Engine as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::connect::ConnectError;

/// A proxy's answer is read up to here; more is not an answer to CONNECT.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// How the site reaches the outside.
#[derive(Clone, Debug, Default)]
pub enum ProxySetting {
    /// As HTTPS_PROXY and NO_PROXY say.
    #[default]
    Environment,
    /// Directly, whatever the environment says.
    Direct,
    /// Always through this proxy.
    Through(Proxy),
}

/// An HTTP proxy that allows CONNECT. Debug shows no password.
#[derive(Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    user: Option<String>,
    password: Zeroizing<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl Proxy {
    /// Reads `http://[user[:password]@]host[:port]` (port 3128 unless given).
    ///
    /// # Errors
    /// What is wrong with the address, without the password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                return Err(format!(
                    "the proxy's scheme is `{scheme}`; only http:// proxies (CONNECT) are supported"
                ));
            }
            None => url,
        };
        let rest = rest.split('/').next().unwrap_or_default();
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let (host, port) = match split_host_port(place) {
            Some(parts) => parts,
            None if !place.is_empty() && !place.contains(':') => (place.to_owned(), 3128),
            None => return Err("the proxy's address is not host:port".into()),
        };
        let (user, password) = match user.map(|u| u.split_once(':').unwrap_or((u, ""))) {
            Some((user, password)) => (Some(percent_decode(user)), percent_decode(password)),
            None => (None, String::new()),
        };
        Ok(Self { host, port, user, password: Zeroizing::new(password) })
    }

    /// The same proxy with this password.
    #[must_use]
    pub fn with_password(mut self, password: Zeroizing<String>) -> Self {
        self.password = password;
        self
    }

    /// Whether the address itself carried a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        !self.password.is_empty()
    }

    pub(crate) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    fn authorization(&self) -> Option<Zeroizing<String>> {
        let user = self.user.as_ref()?;
        let pair = Zeroizing::new(format!("{user}:{}", self.password.as_str()));
        Some(Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes())))
    }
}

impl ProxySetting {
    /// The proxy for this host, if any.
    ///
    /// # Errors
    /// When an environment variable holds no proxy address.
    pub fn for_host(&self, host: &str) -> Result<Option<Proxy>, String> {
        self.for_host_in(host, |name| std::env::var(name).ok())
    }

    fn for_host_in(
        &self,
        host: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Proxy>, String> {
        let first = |names: [&str; 2]| {
            names.into_iter().find_map(|n| variable(n).filter(|v| !v.is_empty()))
        };
        match self {
            Self::Direct => Ok(None),
            Self::Through(proxy) => Ok(Some(proxy.clone())),
            Self::Environment => {
                if first(["NO_PROXY", "no_proxy"]).is_some_and(|list| exempt(host, &list)) {
                    return Ok(None);
                }
                match first(["HTTPS_PROXY", "https_proxy"]) {
                    None => Ok(None),
                    Some(url) => {
                        Proxy::parse(&url).map(Some).map_err(|e| format!("in HTTPS_PROXY: {e}"))
                    }
                }
            }
        }
    }
}

/// Whether NO_PROXY's list names this host: exactly, as a domain that contains it, or `*`.
fn exempt(host: &str, list: &str) -> bool {
    let host = host.to_ascii_lowercase();
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        let entry = entry.split_once(':').map_or(entry.as_str(), |(name, _)| name);
        let domain = entry.trim_start_matches("*.").trim_start_matches('.');
        entry == "*"
            || (!domain.is_empty()
                && (host == domain
                    || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))))
    })
}

/// `host:port` or `[v6]:port`; the brackets are taken off.
pub(crate) fn split_host_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty() && !host.contains(char::is_whitespace)).then(|| (host.to_owned(), port))
}

fn percent_decode(text: &str) -> String {
    let hex = |b: &u8| (*b as char).to_digit(16);
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let pair = (bytes[at] == b'%')
            .then(|| Some((hex(bytes.get(at + 1)?)?, hex(bytes.get(at + 2)?)?)))
            .flatten()
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        out.push(pair.unwrap_or(bytes[at]));
        at += if pair.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Asks the proxy for a tunnel to `host:port` over an open connection to the proxy.
///
/// # Errors
/// [`ConnectError::ProxyAuthentication`] for 407, [`ConnectError::Proxy`] for every other refusal.
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<(), ConnectError> {
    let fail = |reason: String| ConnectError::Proxy { proxy: proxy.to_string(), reason };
    let place =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = Zeroizing::new(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n"));
    if let Some(authorization) = proxy.authorization() {
        request.push_str("Proxy-Authorization: Basic ");
        request.push_str(&authorization);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| fail(e.to_string()))?;
    stream.flush().await.map_err(|e| fail(e.to_string()))?;

    let mut answer = Vec::with_capacity(512);
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER_BYTES_MAX {
            return Err(fail("its answer to CONNECT has no end".into()));
        }
        // Byte by byte: what follows the blank line belongs to TLS and must stay in the socket.
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) if answer.is_empty() => return Err(fail("it closed the connection".into())),
            Err(e) => return Err(fail(format!("its answer to CONNECT broke off: {e}"))),
        }
    }
    match status(&answer) {
        Some(200..=299) => Ok(()),
        Some(407) => Err(ConnectError::ProxyAuthentication { proxy: proxy.to_string() }),
        Some(code) => Err(fail(format!("it answered {code} to CONNECT {place}"))),
        None => Err(fail("what answers there is not an HTTP proxy".into())),
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|b| *b == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "))?;
    rest.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_passwords_stay_out_of_messages() {
        let proxy = Proxy::parse("http://clinic:s%40fe@proxy.example:8080").unwrap();
        assert_eq!(proxy.address(), ("proxy.example", 8080));
        assert_eq!(proxy.authorization().unwrap().as_str(), "Y2xpbmljOnNAZmU=");
        assert_eq!(
            format!("{proxy} {proxy:?}"),
            "http://proxy.example:8080 Proxy(http://proxy.example:8080)"
        );
        assert_eq!(Proxy::parse("proxy").unwrap().address(), ("proxy", 3128));
        assert!(Proxy::parse("socks5://proxy:1").unwrap_err().contains("socks5"));
        assert!(Proxy::parse("http://").is_err());
        assert!(Proxy::parse("http://proxy:port").is_err());
        assert_eq!(split_host_port("[::1]:443"), Some(("::1".into(), 443)));
        for bad in ["::1:443", "host", "host:0", ":1", "host:70000", "a b:1", "[::1:4"] {
            assert_eq!(split_host_port(bad), None, "{bad}");
        }
        assert_eq!(percent_decode("a%2Gb%"), "a%2Gb%");
    }

    #[test]
    fn the_environment_decides_unless_the_site_file_does() {
        let env = |name: &str| match name {
            "https_proxy" => Some("http://p:1".to_owned()),
            "NO_PROXY" => Some("localhost, .clinic.example,10.0.0.1".to_owned()),
            _ => None,
        };
        let setting = ProxySetting::Environment;
        let through = |host: &str| setting.for_host_in(host, env).unwrap().is_some();
        assert!(through("coordinator.example"));
        assert!(through("notclinic.example"));
        for host in ["localhost", "LOCALHOST", "a.clinic.example", "clinic.example", "10.0.0.1"] {
            assert!(!through(host), "{host}");
        }
        assert!(ProxySetting::Direct.for_host_in("x", env).unwrap().is_none());
        assert!(ProxySetting::Environment.for_host_in("x", |_| None).unwrap().is_none());
        assert!(exempt("anything", "*"));
        assert!(!exempt("anything", ""));
    }

    async fn answered(answer: &'static [u8]) -> Result<(), ConnectError> {
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        far.write_all(answer).await.unwrap();
        let proxy = Proxy::parse("http://u:p@proxy:1").unwrap();
        drop(tokio::spawn(async move {
            let mut sink = Vec::new();
            far.read_buf(&mut sink).await
        }));
        connect(&mut near, &proxy, "host", 443).await
    }

    #[tokio::test]
    async fn answers_are_told_apart() {
        assert!(answered(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n").await.is_ok());
        let refused = answered(b"HTTP/1.1 403 No\r\n\r\n").await.unwrap_err();
        assert!(refused.to_string().contains("403"), "{refused}");
        assert!(matches!(
            answered(b"HTTP/1.0 407 Who\r\n\r\n").await.unwrap_err(),
            ConnectError::ProxyAuthentication { .. }
        ));
        for bad in [&b""[..], b"HTTP/1.1 2", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 \xff\xff\xff\r\n\r\n"] {
            assert!(matches!(answered(bad).await.unwrap_err(), ConnectError::Proxy { .. }));
        }
        let endless: &'static [u8] = vec![b'a'; 32 * 1024].leak();
        assert!(matches!(answered(endless).await.unwrap_err(), ConnectError::Proxy { .. }));
    }
}
