//! The carrier of `Exchange`, the one call that stays open for as long as a site is connected.
//!
//! A thousand sites have a thousand of these streams, and the general carrier keeps for each the
//! largest buffer it ever needed. This one reads a frame into memory that it gives back as soon as
//! the frame is decoded, so that a silent stream holds next to none. All other calls go to the
//! general carrier untouched. Deliberately nothing of what frames say. Start at [`Carrier`].

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Frame;
use koinon_proto::limits::FRAME_BYTES_MAX;
use koinon_proto::wire;
use koinon_proto::wire::rounds_server::RoundsServer;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codegen::{Body as _, BoxFuture, Bytes, Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Request, Status};

use super::rounds::RoundsService;

/// The call that is carried here.
const PATH: &str = "/koinon.v1.Rounds/Exchange";
/// What a message has in front: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// The service `Rounds` with its long-lived call carried here.
#[derive(Clone)]
pub(super) struct Carrier {
    pub(super) rounds: RoundsService,
    pub(super) general: RoundsServer<RoundsService>,
}

impl NamedService for Carrier {
    const NAME: &'static str = <RoundsServer<RoundsService> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for Carrier {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != PATH {
            return self.general.call(request);
        }
        let rounds = self.rounds.clone();
        Box::pin(async move {
            let answer = exchange(&rounds, request).await;
            Ok(answer.unwrap_or_else(Status::into_http))
        })
    }
}

async fn exchange(
    rounds: &RoundsService,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, Status> {
    let (head, body) = request.into_parts();
    let frames = Frames::new(body);
    let request =
        Request::from_parts(MetadataMap::from_headers(head.headers), head.extensions, frames);
    let outgoing = Outgoing { frames: rounds.open(request).await?, ended: false };
    let mut response = http::Response::new(Body::new(outgoing));
    let grpc = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    Ok(response)
}

/// The frames to a site, each in memory of its own.
struct Outgoing {
    frames: mpsc::Receiver<Box<wire::CoordinatorFrame>>,
    ended: bool,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let status = match self.frames.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(frame)) => match encoded(&*frame) {
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
                Err(status) => status,
            },
            Poll::Ready(None) => Status::new(tonic::Code::Ok, ""),
        };
        self.ended = true;
        let mut trailers = status.into_http::<()>().into_parts().0.headers;
        trailers.remove(http::header::CONTENT_TYPE);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

/// A message with its head.
fn encoded(message: &impl prost::Message) -> Result<Vec<u8>, Status> {
    let length = message.encoded_len();
    let announced = u32::try_from(length).ok().filter(|_| length <= FRAME_BYTES_MAX);
    let too_long = || Status::out_of_range(format!("a frame of {length} bytes"));
    let mut bytes = Vec::with_capacity(HEAD_BYTES + length);
    bytes.push(0);
    bytes.extend_from_slice(&announced.ok_or_else(too_long)?.to_be_bytes());
    message.encode(&mut bytes).map_err(|e| Status::internal(e.to_string()))?;
    Ok(bytes)
}

/// The frames of a site as they come.
pub(super) struct Frames {
    body: Body,
    buffer: Vec<u8>,
}

impl Frames {
    pub(super) fn new(body: Body) -> Self {
        Self { body, buffer: Vec::new() }
    }

    /// The next frame; `None` at the end. What has arrived of a frame stays when this is not waited for.
    ///
    /// # Errors
    /// When the stream breaks, or what comes is no frame.
    pub(super) async fn next(&mut self) -> Result<Option<wire::SiteFrame>, Status> {
        loop {
            if let Some(frame) = take(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {
                Some(part) => {
                    if let Ok(data) = part?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Status::internal("the stream ended within a frame")),
            }
        }
    }
}

/// Takes the frame at the start of the buffer, once it is whole; no memory is left in an empty one.
fn take(buffer: &mut Vec<u8>) -> Result<Option<wire::SiteFrame>, Status> {
    let Some(([compressed, length @ ..], rest)) = buffer.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    if *compressed != 0 {
        return Err(Status::unimplemented("frames are not compressed"));
    }
    let bytes = u32::from_be_bytes(*length) as usize;
    if bytes > FRAME_BYTES_MAX {
        return Err(Status::out_of_range(format!("a frame of {bytes} bytes")));
    }
    let Some(message) = rest.get(..bytes) else { return Ok(None) };
    let frame =
        wire::SiteFrame::decode(message).map_err(|e| Status::invalid_argument(e.to_string()))?;
    buffer.drain(..HEAD_BYTES + bytes);
    if buffer.is_empty() {
        *buffer = Vec::new();
    }
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> wire::SiteFrame {
        let chunk = wire::UploadChunk { data: vec![7; bytes], ..wire::UploadChunk::default() };
        wire::SiteFrame { cursor: 3, frame: Some(wire::site_frame::Frame::Chunk(chunk)) }
    }

    #[test]
    fn frames_are_taken_whole_however_they_are_cut_and_leave_no_memory() {
        let frames = [frame(0), frame(70_000), frame(5)];
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| encoded(frame).unwrap()).collect();
        for cut in [1, 4, 5, 6, 1000, bytes.len()] {
            let (mut buffer, mut taken) = (Vec::new(), Vec::new());
            for part in bytes.chunks(cut) {
                buffer.extend_from_slice(part);
                while let Some(frame) = take(&mut buffer).unwrap() {
                    taken.push(frame);
                }
            }
            assert!(taken == frames, "in parts of {cut}");
            assert_eq!(buffer.capacity(), 0);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_is_gathered() {
        let refused = |bytes: &[u8]| take(&mut bytes.to_vec()).unwrap_err().code();
        assert_eq!(refused(&[1, 0, 0, 0, 1]), tonic::Code::Unimplemented);
        assert_eq!(refused(&[0, 255, 0, 0, 0]), tonic::Code::OutOfRange);
        assert_eq!(refused(&[0, 0, 0, 0, 1, 255]), tonic::Code::InvalidArgument);
        assert!(take(&mut vec![0, 0, 0, 0]).unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_sent_is_framed_and_ends_with_a_status() {
        let (frames, outgoing) = mpsc::channel(2);
        let frame = wire::CoordinatorFrame::default();
        frames.send(Box::new(frame.clone())).await.unwrap();
        drop(frames);
        let mut body = Outgoing { frames: outgoing, ended: false };
        let mut next = async || poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let data = next().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data, encoded(&frame).unwrap());
        let trailers = next().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert!(next().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_frame_is_broken() {
        assert!(Frames::new(Body::empty()).next().await.unwrap().is_none());
        let mut torn = Frames { body: Body::empty(), buffer: vec![0, 0] };
        assert!(torn.next().await.is_err());
    }
}
