//! The metrics' own port: answers `GET /metrics` over HTTP/1.1, and nothing else.
//!
//! By hand, because it is one fixed answer: no header counts, no body is read, each connection has one request, few
//! connections and little time. Start at [`serve`].

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Connections at one time.
const CONNECTIONS_MAX: usize = 8;
/// For all of a connection.
const TIME: Duration = Duration::from_secs(5);

/// Answers until it is dropped.
pub(super) async fn serve(
    listener: TcpListener,
    text: impl Fn() -> String + Send + Sync + 'static,
) {
    let (text, seats) = (Arc::new(text), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await; // out of files, say
            continue;
        };
        let text = Arc::clone(&text);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(TIME, answer(socket, &*text)).await;
            drop(seat);
        });
    }
}

async fn answer(mut socket: TcpStream, text: &(impl Fn() -> String + Sync)) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1024];
        let n = socket.read(&mut part).await?;
        if n == 0 || head.len() + n > HEAD_BYTES_MAX {
            return Ok(());
        }
        head.extend_from_slice(&part[..n]);
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (status, body) = match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/metrics")) => ("200 OK", text()),
        (Some(b"GET"), _) => ("404 Not Found", "only /metrics is here\n".into()),
        _ => ("405 Method Not Allowed", "only GET is answered\n".into()),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, || "koinon 1\n".into()));
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer).await;
        server.abort();
        answer
    }

    #[tokio::test]
    async fn metrics_and_nothing_else() {
        let answer = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nkoinon 1\n")
        );
        assert!(ask("GET /etc/passwd HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 405"));
        assert_eq!(ask(&format!("GET /{}", "a".repeat(9 << 10))).await, "");
    }
}
