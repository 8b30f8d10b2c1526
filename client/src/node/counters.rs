//! Counts every byte that this process hands to, or takes from, a socket.
//!
//! The count sits directly on the TCP stream, below the proxy's handshake, TLS and HTTP/2: what it
//! says is what anybody sees who measures the wire from outside. It is deliberately not the ledger
//! (that one counts messages, by kind); the difference of the two is framing. Start at [`Counters`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The totals of one process, shared by all its connections. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    written: AtomicU64,
    read: AtomicU64,
    handshake_written: AtomicU64,
    handshake_read: AtomicU64,
    connections: AtomicU64,
    open: AtomicU64,
}

/// One reading of [`Counters`]; every figure is bytes but `connections`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All bytes written to sockets.
    pub written: u64,
    /// All bytes read from sockets.
    pub read: u64,
    /// The part of `written` that opened connections: proxy and TLS handshakes.
    pub handshake_written: u64,
    /// The part of `read` that opened connections.
    pub handshake_read: u64,
    /// Connections whose TLS handshake was completed.
    pub connections: u64,
}

impl Counters {
    /// The totals now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            written: self.0.written.load(Ordering::Relaxed),
            read: self.0.read.load(Ordering::Relaxed),
            handshake_written: self.0.handshake_written.load(Ordering::Relaxed),
            handshake_read: self.0.handshake_read.load(Ordering::Relaxed),
            connections: self.0.connections.load(Ordering::Relaxed),
        }
    }

    /// Sockets that are not closed yet: until there are none, the totals may grow.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.0.open.load(Ordering::Acquire)
    }

    /// Notes that a connection is open and what opening it cost.
    fn opened(&self, written: u64, read: u64) {
        self.0.handshake_written.fetch_add(written, Ordering::Relaxed);
        self.0.handshake_read.fetch_add(read, Ordering::Relaxed);
        self.0.connections.fetch_add(1, Ordering::Relaxed);
    }
}

/// A stream whose bytes are counted, in total and for itself.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    counters: Counters,
    written: u64,
    read: u64,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S, counters: Counters) -> Self {
        counters.0.open.fetch_add(1, Ordering::AcqRel);
        Self { inner, counters, written: 0, read: 0 }
    }

    /// Books everything so far as the price of opening this connection.
    pub(crate) fn opened(&self) {
        self.counters.opened(self.written, self.read);
    }

    fn wrote(&mut self, n: usize) {
        self.written += n as u64;
        self.counters.0.written.fetch_add(n as u64, Ordering::Relaxed);
    }
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        self.counters.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let n = (buf.filled().len() - before) as u64;
        self.read += n;
        self.counters.0.read.fetch_add(n, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.wrote(n);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
        self.wrote(n);
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn both_directions_are_counted_and_the_opening_apart() {
        let (near, mut far) = tokio::io::duplex(64);
        let counters = Counters::default();
        let mut near = Counted::new(near, counters.clone());
        near.write_all(b"hello").await.unwrap();
        far.write_all(b"hi").await.unwrap();
        let mut two = [0; 2];
        near.read_exact(&mut two).await.unwrap();
        near.opened();
        near.write_all(b"and more").await.unwrap();
        assert_eq!(
            counters.totals(),
            Totals {
                written: 13,
                read: 2,
                handshake_written: 5,
                handshake_read: 2,
                connections: 1
            }
        );
    }
}
