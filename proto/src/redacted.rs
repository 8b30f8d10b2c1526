//! What `Debug` says of the messages that carry values: ids and lengths, never the values.
//!
//! A log line with `{frame:?}` in it must not become a copy of an activation or of a model. The other
//! messages hold ids, counts and signed public statements and have the derived form.

use std::fmt::{Debug, Formatter, Result};

use crate::wire::{
    Activation, BlobChunk, Envelope, InferenceReply, UploadChunk, inference_reply::Result as Answer,
};

/// Stands for bytes that are not shown.
struct Bytes(usize);

impl Debug for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} bytes", self.0)
    }
}

impl Debug for Envelope {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Envelope")
            .field("version", &self.version)
            .field("sender", &self.sender)
            .field("recipient", &self.recipient)
            .field("body", &Bytes(self.body.len()))
            .finish_non_exhaustive()
    }
}

impl Debug for UploadChunk {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("UploadChunk")
            .field("index", &self.index)
            .field("total", &self.total)
            .field("data", &Bytes(self.data.len()))
            .finish_non_exhaustive()
    }
}

impl Debug for BlobChunk {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("BlobChunk")
            .field("offset", &self.offset)
            .field("total", &self.total)
            .field("data", &Bytes(self.data.len()))
            .finish()
    }
}

impl Debug for Activation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Activation")
            .field("request", &self.request)
            .field("from", &self.from)
            .field("to", &self.to)
            .field("deadline_ms", &self.deadline_ms)
            .field("boundary", &Bytes(self.boundary.len()))
            .finish_non_exhaustive()
    }
}

impl Debug for InferenceReply {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("InferenceReply")
            .field("request", &self.request)
            .field("result", &self.result)
            .finish()
    }
}

impl Debug for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Boundary(boundary) => write!(f, "Boundary({} bytes)", boundary.len()),
            Self::Rejection(rejection) => rejection.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Mail, SiteFrame, site_frame::Frame};

    #[test]
    fn no_value_is_shown_however_deep() {
        let secret = vec![0xAB; 7];
        let envelope = Envelope { body: secret.clone(), ..Envelope::default() };
        let mail = Mail { sequence: 1, envelope: Some(envelope) };
        let frame = SiteFrame { cursor: 0, frame: Some(Frame::Mail(mail)) };
        let result = Some(Answer::Boundary(secret.clone()));
        let reply = InferenceReply { request: 1, result, ..InferenceReply::default() };
        for shown in [
            format!("{frame:?}"),
            format!("{reply:?}"),
            format!("{:?}", UploadChunk { data: secret.clone(), ..UploadChunk::default() }),
            format!("{:?}", BlobChunk { data: secret.clone(), ..BlobChunk::default() }),
            format!("{:?}", Activation { boundary: secret.clone(), ..Activation::default() }),
        ] {
            assert!(shown.contains("7 bytes") && !shown.contains("171"), "{shown}");
        }
    }
}
