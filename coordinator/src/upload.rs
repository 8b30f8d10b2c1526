//! The staging place of one upload: chunks in order, until the announced length is there.
//!
//! An upload exists only after a signed report announced it, and its length is the plan's; only so
//! many are staged at a time as [`places`] gives: so memory is bounded, and nobody can send what was
//! not asked for. Staging is volatile on purpose; after a restart the site is told to begin again.
//! Whether the bytes are the announced ones is checked where they are accepted. Start at
//! [`Upload::take`].

use koinon_proto::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNKS_MAX};
use koinon_proto::wire;

use crate::places::Places;

/// Beside two uploads however long they are, so much of a round's is staged at a time. As much again
/// may be on its way from those who have a place.
const STAGED_BYTES: usize = 4 << 20;

/// Places for uploads of so many bytes each.
pub(crate) fn places(bytes: usize) -> Places {
    Places::new(2 + STAGED_BYTES / bytes.max(1))
}

/// An upload under way.
pub(crate) struct Upload {
    report: Vec<u8>,
    bytes: usize,
    staged: Vec<u8>,
    /// Length of every chunk but the last, as the first one had it.
    chunk_bytes: usize,
    next: u32,
    /// Whether it was whole once and not what the report said.
    began_again: bool,
}

/// What became of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is staged: tell the site which one is next.
    Next,
    /// It is out of order: sent before a receipt came, or behind one that was lost. The site asks
    /// with its next hello what is wanted.
    Ignored,
    /// It does not fit the announced length: nothing changed.
    Misfit,
    /// It was the last: the whole upload.
    Whole(Vec<u8>),
}

impl Upload {
    /// The upload that `report` announces, of `bytes` bytes.
    pub(crate) fn new(report: Vec<u8>, bytes: usize) -> Self {
        let (staged, chunk_bytes) = (Vec::new(), 0);
        Self { report, bytes, staged, chunk_bytes, next: 0, began_again: false }
    }

    /// The announcing report.
    pub(crate) fn report(&self) -> &[u8] {
        &self.report
    }

    /// The chunk wanted next.
    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    /// Takes a chunk if it is the next one and fits.
    pub(crate) fn take(&mut self, chunk: &wire::UploadChunk) -> Taken {
        if chunk.index != self.next {
            return Taken::Ignored;
        }
        let chunk_bytes = if self.next == 0 { chunk.data.len() } else { self.chunk_bytes };
        if !self.fits(chunk, chunk_bytes) {
            return Taken::Misfit;
        }
        if self.next == 0 {
            self.staged.reserve_exact(self.bytes);
        }
        self.chunk_bytes = chunk_bytes;
        self.staged.extend_from_slice(&chunk.data);
        self.next += 1;
        if self.staged.len() < self.bytes {
            return Taken::Next;
        }
        Taken::Whole(std::mem::take(&mut self.staged))
    }

    /// The whole was not what the report said: begins again, or says `false` the second time.
    pub(crate) fn begin_again(&mut self) -> bool {
        self.clear();
        !std::mem::replace(&mut self.began_again, true)
    }

    /// Forgets what is staged, and holds no memory for it: the next attempt may come in chunks of
    /// another length.
    pub(crate) fn clear(&mut self) {
        (self.staged, self.next, self.chunk_bytes) = (Vec::new(), 0, 0);
    }

    fn fits(&self, chunk: &wire::UploadChunk, chunk_bytes: usize) -> bool {
        let left = self.bytes - self.staged.len();
        let sized = chunk_bytes == self.bytes && chunk_bytes <= CHUNK_BYTES_MAX
            || (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk_bytes);
        let total = self.bytes.div_ceil(chunk_bytes.max(1));
        sized
            && chunk.data.len() == chunk_bytes.min(left)
            && u32::try_from(total).is_ok_and(|total| total == chunk.total && total <= CHUNKS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(index: u32, total: u32, len: usize) -> wire::UploadChunk {
        let byte = u8::try_from(index).unwrap();
        wire::UploadChunk { session: Vec::new(), index, total, data: vec![byte; len] }
    }

    #[test]
    fn beginning_again_forgets_what_came_before_also_in_other_chunks() {
        let mut upload = Upload::new(b"report".to_vec(), 2500);
        upload.take(&chunk(0, 3, 1024));
        assert_eq!(upload.take(&chunk(1, 2, 1500)), Taken::Misfit);
        assert!(upload.begin_again());
        assert_eq!(upload.take(&chunk(0, 2, 1500)), Taken::Next);
        let whole = [vec![0; 1500], vec![1; 1000]].concat();
        assert_eq!(upload.take(&chunk(1, 2, 1000)), Taken::Whole(whole));
    }

    #[test]
    fn chunks_are_staged_in_order_and_once() {
        let mut upload = Upload::new(b"report".to_vec(), 2500);
        assert_eq!(upload.take(&chunk(1, 3, 1024)), Taken::Ignored);
        assert_eq!(upload.take(&chunk(2, 3, 452)), Taken::Ignored);
        assert_eq!(upload.take(&chunk(0, 3, 1024)), Taken::Next);
        assert_eq!(upload.take(&chunk(0, 3, 1024)), Taken::Ignored, "a repeat");
        assert_eq!((upload.next(), upload.staged.len()), (1, 1024));
        assert_eq!(upload.take(&chunk(1, 3, 1024)), Taken::Next);
        let whole = match upload.take(&chunk(2, 3, 452)) {
            Taken::Whole(whole) => whole,
            other => panic!("{other:?}"),
        };
        assert_eq!(whole, [vec![0; 1024], vec![1; 1024], vec![2; 452]].concat());
        assert!(upload.begin_again());
        assert!(!upload.begin_again(), "a second wrong upload is one too many");
    }

    #[test]
    fn what_does_not_fit_the_announced_length_changes_nothing() {
        let mut upload = Upload::new(Vec::new(), 2500);
        for bad in [
            chunk(0, 3, 0),
            chunk(0, 3, 100),             // smaller than chunks may be
            chunk(0, 4, 1024),            // a wrong total
            chunk(0, 1, 2501),            // longer than announced
            chunk(0, 1, CHUNK_BYTES_MAX), // much longer
        ] {
            assert_eq!(upload.take(&bad), Taken::Misfit, "{} of {}", bad.index, bad.total);
        }
        assert_eq!(upload.take(&chunk(0, 3, 1024)), Taken::Next);
        for bad in [chunk(1, 3, 1023), chunk(1, 2, 1476), chunk(1, 3, 0)] {
            assert_eq!(upload.take(&bad), Taken::Misfit);
        }
        assert_eq!((upload.next(), upload.staged.len()), (1, 1024));
    }

    #[test]
    fn a_small_update_is_one_chunk() {
        let mut upload = Upload::new(Vec::new(), 10);
        assert_eq!(upload.take(&chunk(0, 1, 9)), Taken::Misfit);
        assert_eq!(upload.take(&chunk(0, 1, 10)), Taken::Whole(vec![0; 10]));
    }
}
