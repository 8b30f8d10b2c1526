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

use koinon_proto::limits::FRAME_BYTES_MAX;
use koinon_proto::wire;
use koinon_proto::wire::rounds_server::RoundsServer;
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::{
    BufferSettings, EncodeBody, EncodeBuf, Encoder, SingleMessageCompressionOverride,
};
use tonic::codegen::{Body as _, BoxFuture, Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Request, Status};

use super::rounds::RoundsService;

/// The call that is carried here.
const PATH: &str = "/koinon.v1.Rounds/Exchange";
/// What a message has in front: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;
/// The buffer that frames are encoded into, to begin with.
const ENCODE_BYTES: usize = 512;
/// Encoded bytes that are handed on at once.
const YIELD_BYTES: usize = 16 << 10;

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
    let outgoing = ReceiverStream::new(rounds.open(request).await?);
    let mode = SingleMessageCompressionOverride::default();
    let body = EncodeBody::new_server(Writer, outgoing, None, mode, Some(FRAME_BYTES_MAX));
    let mut response = http::Response::new(Body::new(body));
    let grpc = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    Ok(response)
}

struct Writer;

impl Encoder for Writer {
    type Item = wire::CoordinatorFrame;
    type Error = Status;

    fn encode(&mut self, frame: Self::Item, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        frame.encode(buffer).map_err(|e| Status::internal(e.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ENCODE_BYTES, YIELD_BYTES)
    }
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

    fn encoded(frame: &wire::SiteFrame) -> Vec<u8> {
        let message = frame.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], &message].concat()
    }

    #[test]
    fn frames_are_taken_whole_however_they_are_cut_and_leave_no_memory() {
        let frames = [frame(0), frame(70_000), frame(5)];
        let bytes: Vec<u8> = frames.iter().flat_map(encoded).collect();
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
    async fn a_stream_that_ends_within_a_frame_is_broken() {
        assert!(Frames::new(Body::empty()).next().await.unwrap().is_none());
        let mut torn = Frames { body: Body::empty(), buffer: vec![0, 0] };
        assert!(torn.next().await.is_err());
    }
}
