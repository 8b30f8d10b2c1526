//! Between a node and its coordinator: a relay that counts and can hold back, and a CONNECT proxy.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;

/// Counts what passes between its clients and one address.
pub struct Relay {
    port: u16,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
    connections: AtomicU64,
    closed: AtomicBool,
    /// What goes up stops after so many bytes; 0 = never.
    limit: AtomicU64,
}

impl Relay {
    /// Passes connections on to `address`.
    #[must_use]
    pub fn start(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                if shared.closed.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(&address) else { continue };
                pass(near, far, &shared);
            }
        });
        Self { port, counts }
    }

    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Bytes from the client.
    #[must_use]
    pub fn up(&self) -> u64 {
        self.counts.up.load(Ordering::SeqCst)
    }

    /// Bytes to the client.
    #[must_use]
    pub fn down(&self) -> u64 {
        self.counts.down.load(Ordering::SeqCst)
    }

    /// Cuts all connections and takes no new one until it is opened again.
    pub fn close(&self) {
        self.counts.closed.store(true, Ordering::SeqCst);
    }

    pub fn open(&self) {
        self.counts.limit.store(0, Ordering::SeqCst);
        self.counts.closed.store(false, Ordering::SeqCst);
    }

    /// Lets only so many more bytes up; connections stay open and what comes later waits.
    pub fn hold_after(&self, bytes: u64) {
        self.counts.limit.store(self.up() + bytes, Ordering::SeqCst);
    }

    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }
}

/// Copies both ways, each until its side ends, or until the relay is closed.
fn pass(near: TcpStream, far: TcpStream, counts: &Arc<Counts>) {
    for (from, to, up) in
        [(near.try_clone().unwrap(), far.try_clone().unwrap(), true), (far, near, false)]
    {
        let counts = Arc::clone(counts);
        thread::spawn(move || copy(from, to, up, &counts));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, up: bool, counts: &Counts) {
    let _ = from.set_read_timeout(Some(Duration::from_millis(20)));
    let _ = to.set_nodelay(true);
    let mut buffer = [0; 4 * 1024];
    loop {
        if counts.closed.load(Ordering::SeqCst) {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        let limit = counts.limit.load(Ordering::SeqCst);
        if up && limit > 0 && counts.up.load(Ordering::SeqCst) >= limit {
            thread::sleep(Duration::from_millis(5));
            continue;
        }
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        let side = if up { &counts.up } else { &counts.down };
        side.fetch_add(n as u64, Ordering::SeqCst);
        // The last words of one side count although the other may not hear them any more.
        let _ = to.write_all(&buffer[..n]);
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// An HTTP proxy that knows CONNECT only, and one user.
pub struct Proxy {
    port: u16,
    tunnels: Arc<Counts>,
    refused: Arc<AtomicU64>,
}

impl Proxy {
    /// Lets only `user` with `password` through.
    #[must_use]
    pub fn start(user: &str, password: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let expected = format!("proxy-authorization: basic {pair}").to_ascii_lowercase();
        let (tunnels, refused) = (Arc::new(Counts::default()), Arc::new(AtomicU64::new(0)));
        let (shared, denied) = (Arc::clone(&tunnels), Arc::clone(&refused));
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let (shared, denied, expected) =
                    (Arc::clone(&shared), Arc::clone(&denied), expected.clone());
                thread::spawn(move || tunnel(near, &expected, &shared, &denied));
            }
        });
        Self { port, tunnels, refused }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn tunnels(&self) -> u64 {
        self.tunnels.connections.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::SeqCst)
    }
}

fn tunnel(mut near: TcpStream, expected: &str, counts: &Arc<Counts>, refused: &AtomicU64) {
    let mut lines = Vec::new();
    for line in BufReader::new(near.try_clone().unwrap()).lines() {
        match line {
            Ok(line) if line.is_empty() => break,
            Ok(line) => lines.push(line),
            Err(_) => return,
        }
    }
    let Some(address) =
        lines.first().and_then(|line| line.strip_prefix("CONNECT ")?.split(' ').next())
    else {
        let _ = near.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n");
        return;
    };
    if !lines.iter().any(|line| line.to_ascii_lowercase() == expected) {
        refused.fetch_add(1, Ordering::SeqCst);
        let _ = near.write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
        );
        return;
    }
    let Ok(far) = TcpStream::connect(address) else {
        let _ = near.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
        return;
    };
    counts.connections.fetch_add(1, Ordering::SeqCst);
    let _ = near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
    pass(near, far, counts);
}
