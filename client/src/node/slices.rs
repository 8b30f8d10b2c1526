//! Cuts what a site sends into frames of HTTP/2 that fill records of TLS.
//!
//! HTTP/2 hands each frame to TLS by itself, and a full frame with its head is a few bytes longer than
//! a record: an upload would pay for two records, and for a third with the few bytes that are left of
//! each chunk. And whoever reads keeps a buffer for the largest frame that came, a coordinator one
//! for each of thousands of sites. So bodies are cut into even parts that fit. The end of a call that
//! says one thing goes with it, and not in a frame of its own. Deliberately no idea of what is sent.
//! Start at [`sliced`].

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::Frame;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Bytes, http};
use tonic::transport::Channel;
use tower::util::MapRequest;

/// The most bytes of a part: with its head it fills a record of TLS (RFC 8446, section 5.1).
const PART_BYTES_MAX: usize = (16 << 10) - FRAME_HEAD_BYTES;
/// What HTTP/2 puts in front of a frame (RFC 9113, section 4.1).
const FRAME_HEAD_BYTES: usize = 9;

/// A channel whose requests are cut.
pub(super) type SlicedChannel = MapRequest<Channel, fn(Request) -> Request>;

type Request = http::Request<Body>;

/// The same channel, with bodies of requests cut into parts.
pub(super) fn sliced(channel: &Channel) -> SlicedChannel {
    let cut: fn(Request) -> Request = |request| request.map(|body| Body::new(Sliced::new(body)));
    MapRequest::new(channel.clone(), cut)
}

/// A body in parts.
struct Sliced {
    body: Body,
    /// What the body gave after the frame that is being sent, if it had anything: the end is `None`.
    ahead: Option<Option<Result<Frame<Bytes>, Status>>>,
    /// What is left of the last frame of the body.
    rest: Bytes,
    /// How long its parts are.
    part: usize,
}

impl Sliced {
    fn new(body: Body) -> Self {
        Self { body, ahead: None, rest: Bytes::new(), part: 1 }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.ahead.take() {
            Some(None) => {
                // It has ended, however often it is asked.
                self.ahead = Some(None);
                Poll::Ready(None)
            }
            Some(frame) => Poll::Ready(frame),
            None => http_body::Body::poll_frame(Pin::new(&mut self.body), cx),
        }
    }
}

impl http_body::Body for Sliced {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match ready!(self.poll_body(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => (self.part, self.rest) = (part_bytes(data.len()), data),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
            if let Poll::Ready(ahead) = self.poll_body(cx) {
                self.ahead = Some(ahead);
            }
        }
        let part = self.part.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && matches!(self.ahead, Some(None))
    }
}

/// The length of even parts of so many bytes, the last of which may be shorter.
fn part_bytes(bytes: usize) -> usize {
    bytes.div_ceil(bytes.div_ceil(PART_BYTES_MAX).max(1))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body::Body as _;

    use super::*;

    /// Gives these frames, then ends.
    struct Given(Vec<Frame<Bytes>>);

    impl http_body::Body for Given {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop().map(Ok))
        }
    }

    #[tokio::test]
    async fn a_body_is_the_same_in_parts_that_fit() {
        for bytes in [0, 1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 65_600, 14_000] {
            let whole: Bytes = (0..bytes).map(|at| at.to_le_bytes()[0]).collect::<Vec<_>>().into();
            let trailers = Frame::trailers(http::HeaderMap::new());
            let body = Body::new(Given(vec![trailers, Frame::data(whole.clone())]));
            let mut sliced = Sliced::new(body);
            let mut next = async || poll_fn(|cx| Pin::new(&mut sliced).poll_frame(cx)).await;
            let (mut joined, mut lengths) = (Vec::new(), Vec::new());
            loop {
                match next().await.unwrap().unwrap().into_data() {
                    Ok(data) => {
                        lengths.push(data.len());
                        joined.extend_from_slice(&data);
                    }
                    Err(frame) => break assert!(frame.is_trailers()),
                }
            }
            assert!(next().await.is_none());
            assert_eq!(joined, whole, "{bytes}");
            assert_eq!(lengths.len(), bytes.div_ceil(PART_BYTES_MAX).max(1), "{lengths:?}");
            assert!(lengths.iter().all(|len| *len <= PART_BYTES_MAX));
            assert!(lengths.iter().all(|len| lengths[0] - len < lengths.len()), "{lengths:?}");
        }
    }

    #[tokio::test]
    async fn the_end_is_known_with_the_last_part() {
        let data = |bytes: usize| Frame::data(Bytes::from(vec![7; bytes]));
        let body = Body::new(Given(vec![data(3), data(PART_BYTES_MAX + 1)]));
        let mut sliced = Sliced::new(body);
        for (bytes, last) in
            [(PART_BYTES_MAX / 2 + 1, false), (PART_BYTES_MAX / 2 + 1, false), (3, true)]
        {
            assert!(!sliced.is_end_stream());
            let frame = poll_fn(|cx| Pin::new(&mut sliced).poll_frame(cx)).await.unwrap().unwrap();
            assert_eq!((frame.into_data().unwrap().len(), sliced.is_end_stream()), (bytes, last));
        }
        for _ in 0..2 {
            assert!(poll_fn(|cx| Pin::new(&mut sliced).poll_frame(cx)).await.is_none());
        }
    }
}
