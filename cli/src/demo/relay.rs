//! A counting relay between the sites and the servers: it sees only TLS, and counts it.
//!
//! It stands outside the clients, so that their own counts can be checked, and it can make one site's line slow, so that a
//! fault hits while an upload is under way. It never changes, adds or drops a byte.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// One relayed line, as the demo asks for it on the command line: `NAME=TARGET`.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Name under which the line is counted.
    pub(crate) name: String,
    /// Where it leads.
    pub(crate) target: SocketAddr,
}

impl std::str::FromStr for Line {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (name, target) = s.split_once('=').ok_or("expected NAME=ADDRESS:PORT")?;
        let target = target.parse().map_err(|e| format!("{target}: {e}"))?;
        Ok(Line { name: name.into(), target })
    }
}

/// Bytes seen on one line since the start.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Seen {
    /// From the site to the server.
    pub(crate) up: u64,
    /// From the server to the site.
    pub(crate) down: u64,
}

/// What the relay answers: first the ports, then a count for each `count` it is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Port of each line, by name.
    Ports(BTreeMap<String, u16>),
    /// Bytes of each line, by name.
    Counts(BTreeMap<String, Seen>),
}

#[derive(Default)]
struct Counters {
    up: AtomicU64,
    down: AtomicU64,
    /// Upper bound on bytes a second from the site; 0 = none.
    rate: AtomicU64,
}

/// Runs until standard input ends. Commands, one a line: `count`, `slow NAME BYTES_PER_SECOND`, `fast NAME`.
pub(crate) async fn run(lines: Vec<Line>) -> anyhow::Result<()> {
    let mut counters = BTreeMap::new();
    let mut ports = BTreeMap::new();
    for line in lines {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        ports.insert(line.name.clone(), listener.local_addr()?.port());
        let counter = Arc::new(Counters::default());
        counters.insert(line.name.clone(), Arc::clone(&counter));
        tokio::spawn(accept(listener, line.target, counter));
    }
    crate::output::say_json(&Answer::Ports(ports))?;
    let mut commands = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    while let Some(command) = commands.next_line().await? {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            ["count"] => {
                let seen = counters.iter().map(|(name, c)| (name.clone(), c.seen())).collect();
                crate::output::say_json(&Answer::Counts(seen))?;
            }
            ["slow", name, rate] => {
                if let (Some(c), Ok(rate)) = (counters.get(*name), rate.parse()) {
                    c.rate.store(rate, Ordering::Relaxed);
                }
            }
            ["fast", name] => {
                if let Some(c) = counters.get(*name) {
                    c.rate.store(0, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

impl Counters {
    fn seen(&self) -> Seen {
        Seen { up: self.up.load(Ordering::Relaxed), down: self.down.load(Ordering::Relaxed) }
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, counters: Arc<Counters>) {
    while let Ok((site, _)) = listener.accept().await {
        let counters = Arc::clone(&counters);
        tokio::spawn(async move {
            let _ = site.set_nodelay(true);
            let (site_read, site_write) = site.into_split();
            // A server that is away right now looks to the site like a line that breaks at once; what the site wrote counts.
            let (server_read, server_write) = match TcpStream::connect(target).await {
                Ok(server) => {
                    let _ = server.set_nodelay(true);
                    let (r, w) = server.into_split();
                    (Some(r), Some(w))
                }
                Err(_) => (None, None),
            };
            tokio::join!(
                upward(site_read, server_write, &counters),
                downward(server_read, site_write, &counters)
            );
        });
    }
}

/// Site to server. Goes on reading when the server is gone: every byte that the site wrote is counted.
async fn upward(mut site: OwnedReadHalf, mut server: Option<OwnedWriteHalf>, counters: &Counters) {
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let rate = counters.rate.load(Ordering::Relaxed);
        let window = if rate == 0 { buffer.len() } else { buffer.len().min(2048) };
        let Ok(n @ 1..) = site.read(&mut buffer[..window]).await else { break };
        counters.up.fetch_add(n as u64, Ordering::Relaxed);
        if let Some(milliseconds) = (n as u64 * 1000).checked_div(rate) {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
        if let Some(writer) = &mut server
            && writer.write_all(&buffer[..n]).await.is_err()
        {
            server = None;
        }
    }
    if let Some(mut writer) = server {
        let _ = writer.shutdown().await;
    }
}

async fn downward(server: Option<OwnedReadHalf>, mut site: OwnedWriteHalf, counters: &Counters) {
    let mut buffer = vec![0u8; 64 * 1024];
    if let Some(mut server) = server {
        while let Ok(n @ 1..) = server.read(&mut buffer).await {
            if site.write_all(&buffer[..n]).await.is_err() {
                break;
            }
            counters.down.fetch_add(n as u64, Ordering::Relaxed);
        }
    }
    let _ = site.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_byte_is_counted_also_when_the_server_is_away() {
        let away = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let target = away.local_addr().unwrap();
        drop(away);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let counters = Arc::new(Counters::default());
        tokio::spawn(accept(listener, target, Arc::clone(&counters)));
        let mut site = TcpStream::connect(address).await.unwrap();
        site.write_all(&[7; 1000]).await.unwrap();
        site.shutdown().await.unwrap();
        let mut rest = Vec::new();
        site.read_to_end(&mut rest).await.unwrap();
        for _ in 0..100 {
            if counters.seen().up == 1000 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("counted {}", counters.seen().up);
    }

    #[test]
    fn lines_are_parsed_with_a_reason() {
        assert_eq!("a=127.0.0.1:7".parse::<Line>().unwrap().name, "a");
        assert!("a".parse::<Line>().unwrap_err().contains("NAME="));
        assert!("a=x".parse::<Line>().is_err());
    }
}
