//! Downloads of blobs, so many at a time.
//!
//! After a round begins every site wants the same parameters at once. Each download under way holds
//! memory: a piece that is read, one that waits, and what the connection has not yet sent. So there
//! are places, given in order of asking, and memory does not grow with the cohort. Who takes nothing
//! for a while loses its place, and so does who is still not done after a longer while when others
//! wait; it goes on from where it was with its next call. Deliberately no idea of who asks and what
//! a blob is. Start at [`Downloads::open`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use koinon_proto::id::Digest;
use koinon_proto::limits::BLOB_CHUNK_BYTES;
use koinon_proto::wire;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::blobs::Blobs;
use super::listener::lock;

/// Downloads at a time.
const PLACES: usize = 16;
/// One piece of a download here: less than the wire allows, because each is held several times.
const PIECE_BYTES: usize = 64 << 10;
/// Who does not take the next piece for so long loses its place.
const IDLE: Duration = Duration::from_secs(30);
/// Who is not done after so long loses its place when others wait.
const HOLD: Duration = Duration::from_secs(120);

const _: () = assert!(PIECE_BYTES <= BLOB_CHUNK_BYTES);

/// How long a place is held.
#[derive(Clone, Copy)]
struct Patience {
    idle: Duration,
    hold: Duration,
}

/// Hands out blobs. Cheap to clone.
#[derive(Clone)]
pub(super) struct Downloads {
    blobs: Blobs,
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    patience: Patience,
    /// Blobs that somebody downloads: checked once, and not by everybody again.
    open: Arc<Mutex<BTreeMap<Digest, Weak<Checked>>>>,
}

/// A blob whose content was checked against its name.
struct Checked {
    file: Mutex<File>,
    total: u64,
}

/// A download as it goes out.
pub(super) type Download = ReceiverStream<Result<wire::BlobChunk, Status>>;

impl Downloads {
    pub(super) fn new(blobs: Blobs) -> Self {
        Self::with(blobs, PLACES, Patience { idle: IDLE, hold: HOLD })
    }

    fn with(blobs: Blobs, places: usize, patience: Patience) -> Self {
        Self {
            blobs,
            places: Arc::new(Semaphore::new(places)),
            waiting: Arc::default(),
            patience,
            open: Arc::default(),
        }
    }

    /// Opens a blob from `offset` and waits for a place; whoever stops waiting is out of the queue.
    ///
    /// # Errors
    /// When there is no such blob, it ends before the offset, or cannot be read.
    pub(super) async fn open(&self, digest: Digest, offset: u64) -> Result<Download, Status> {
        let place = {
            let _waits = Waits::new(&self.waiting);
            let place = Arc::clone(&self.places).acquire_owned().await;
            place.map_err(|e| Status::unavailable(e.to_string()))?
        };
        // Only now: a thread and a buffer for everybody who asks would be what places are against.
        let this = self.clone();
        let checked = tokio::task::spawn_blocking(move || this.checked(&digest))
            .await
            .map_err(|e| Status::internal(e.to_string()))??;
        if offset > checked.total {
            return Err(Status::out_of_range("the offset lies behind the end"));
        }
        let (outgoing, pieces) = mpsc::channel(1);
        let (patience, waiting) = (self.patience, Arc::clone(&self.waiting));
        tokio::spawn(async move {
            let sent = send(checked, offset, &outgoing, patience, &waiting).await;
            if sent.is_ok() {
                // The last piece is held until the connection has taken it.
                let _ = timeout(patience.idle, outgoing.reserve()).await;
            }
            drop(place);
            if let Err(status) = sent {
                let _ = timeout(patience.idle, outgoing.send(Err(status))).await;
            }
        });
        Ok(ReceiverStream::new(pieces))
    }

    /// The blob, checked now unless somebody has it open already.
    fn checked(&self, digest: &Digest) -> Result<Arc<Checked>, Status> {
        if let Some(checked) = lock(&self.open).get(digest).and_then(Weak::upgrade) {
            return Ok(checked);
        }
        match self.blobs.reader(digest) {
            Ok(Some((file, total))) => {
                let checked = Arc::new(Checked { file: Mutex::new(file), total });
                let mut open = lock(&self.open);
                open.retain(|_, checked| checked.strong_count() > 0);
                open.insert(*digest, Arc::downgrade(&checked));
                Ok(checked)
            }
            Ok(None) => Err(Status::not_found(format!("no blob {}", digest.short()))),
            Err(error) => {
                tracing::error!(blob = %digest.short(), %error, "a blob cannot be read");
                Err(Status::data_loss("the blob cannot be read here"))
            }
        }
    }
}

impl Checked {
    fn piece(&self, offset: u64) -> io::Result<wire::BlobChunk> {
        let left = usize::try_from(self.total - offset).unwrap_or(usize::MAX);
        let mut data = vec![0; left.min(PIECE_BYTES)];
        let mut file = lock(&self.file);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut data)?;
        Ok(wire::BlobChunk { offset, total: self.total, data })
    }
}

/// Sends the pieces from `offset` on, as long as they are taken.
async fn send(
    checked: Arc<Checked>,
    mut offset: u64,
    outgoing: &mpsc::Sender<Result<wire::BlobChunk, Status>>,
    patience: Patience,
    waiting: &AtomicUsize,
) -> Result<(), Status> {
    let began = Instant::now();
    loop {
        let blob = Arc::clone(&checked);
        let piece = tokio::task::spawn_blocking(move || blob.piece(offset))
            .await
            .map_err(|e| Status::internal(e.to_string()))?
            .map_err(|e| Status::data_loss(e.to_string()))?;
        let end = offset + piece.data.len() as u64;
        match timeout(patience.idle, outgoing.send(Ok(piece))).await {
            Ok(Ok(())) => offset = end,
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Status::aborted("nothing was taken for too long: go on later")),
        }
        // An empty blob is still one, empty, piece.
        if offset >= checked.total {
            return Ok(());
        }
        if began.elapsed() >= patience.hold && waiting.load(Ordering::Relaxed) > 0 {
            return Err(Status::aborted("others wait: go on later from here"));
        }
    }
}

/// One who waits for a place, until it has one or stops waiting.
struct Waits(Arc<AtomicUsize>);

impl Waits {
    fn new(waiting: &Arc<AtomicUsize>) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(waiting))
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    struct Store {
        downloads: Downloads,
        digest: Digest,
        bytes: Vec<u8>,
        _dir: tempfile::TempDir,
    }

    fn store(places: usize, patience: Patience) -> Store {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let bytes: Vec<u8> = (0..5 * PIECE_BYTES + 7).map(|at| at.to_le_bytes()[1]).collect();
        let digest = Digest::of(&bytes);
        blobs.put(&digest, &bytes).unwrap();
        Store { downloads: Downloads::with(blobs, places, patience), digest, bytes, _dir: dir }
    }

    const PATIENT: Patience = Patience { idle: IDLE, hold: HOLD };

    async fn read(download: &mut Download) -> (Vec<u8>, Option<Status>) {
        let mut bytes = Vec::new();
        while let Some(piece) = download.next().await {
            match piece {
                Ok(piece) => bytes.extend(piece.data),
                Err(status) => return (bytes, Some(status)),
            }
        }
        (bytes, None)
    }

    #[tokio::test]
    async fn a_download_begins_where_it_is_asked_to() {
        let Store { downloads, digest, bytes, _dir } = store(1, PATIENT);
        for offset in [0, 1, PIECE_BYTES, bytes.len()] {
            let mut download = downloads.open(digest, offset as u64).await.unwrap();
            assert_eq!(read(&mut download).await.0, bytes[offset..], "from {offset}");
        }
        let beyond = downloads.open(digest, bytes.len() as u64 + 1).await;
        assert_eq!(beyond.map(|_| ()).unwrap_err().code(), tonic::Code::OutOfRange);
        let missing = downloads.open(Digest::of(b"missing"), 0).await;
        assert_eq!(missing.map(|_| ()).unwrap_err().code(), tonic::Code::NotFound);
        let empty = Digest::of(b"");
        downloads.blobs.put(&empty, b"").unwrap();
        let mut download = downloads.open(empty, 0).await.unwrap();
        assert_eq!(download.next().await.unwrap().unwrap().data, b"");
        assert!(download.next().await.is_none());
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_and_is_served() {
        let Store { downloads, digest, bytes, _dir } = store(2, PATIENT);
        let first = downloads.open(digest, 0).await.unwrap();
        let _second = downloads.open(digest, 0).await.unwrap();
        let soon = Duration::from_millis(50);
        assert!(timeout(soon, downloads.open(digest, 0)).await.is_err(), "both places are taken");
        assert_eq!(downloads.waiting.load(Ordering::Relaxed), 0, "who gave up does not wait");
        let third = tokio::spawn({
            let downloads = downloads.clone();
            async move { downloads.open(digest, 0).await.map(|_| ()) }
        });
        tokio::time::sleep(soon).await;
        assert_eq!(downloads.waiting.load(Ordering::Relaxed), 1);
        drop(first);
        third.await.unwrap().unwrap();
        let mut download = downloads.open(digest, 0).await.unwrap();
        assert_eq!(read(&mut download).await.0, bytes);
    }

    #[tokio::test]
    async fn who_takes_nothing_loses_its_place_and_goes_on_later() {
        let impatient = Patience { idle: Duration::from_millis(30), hold: HOLD };
        let Store { downloads, digest, bytes, _dir } = store(1, impatient);
        let mut stuck = downloads.open(digest, 0).await.unwrap();
        let mut other = downloads.open(digest, 0).await.unwrap();
        assert_eq!(read(&mut other).await.0, bytes, "the stuck one is still there");
        drop(other);
        let (got, _) = read(&mut stuck).await;
        assert!(got.len() < bytes.len());
        let mut again = downloads.open(digest, got.len() as u64).await.unwrap();
        assert_eq!([got, read(&mut again).await.0].concat(), bytes);
    }

    #[tokio::test]
    async fn who_trickles_loses_its_place_only_to_others() {
        let hasty = Patience { idle: IDLE, hold: Duration::ZERO };
        let Store { downloads, digest, bytes, _dir } = store(1, hasty);
        let mut alone = downloads.open(digest, 0).await.unwrap();
        assert_eq!(read(&mut alone).await.0, bytes, "nobody waits");
        drop(alone);
        let mut slow = downloads.open(digest, 0).await.unwrap();
        let other = tokio::spawn({
            let downloads = downloads.clone();
            async move { downloads.open(digest, 0).await.map(|_| ()) }
        });
        while downloads.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let (got, status) = read(&mut slow).await;
        assert_eq!(status.unwrap().code(), tonic::Code::Aborted);
        assert!(!got.is_empty() && got.len() < bytes.len());
        other.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn memory_does_not_grow_with_who_asks() {
        let Store { downloads, digest, _dir, .. } = store(3, PATIENT);
        let asking: Vec<_> = (0..50)
            .map(|_| {
                let downloads = downloads.clone();
                tokio::spawn(async move { downloads.open(digest, 0).await })
            })
            .collect();
        while downloads.waiting.load(Ordering::Relaxed) < 47 {
            tokio::task::yield_now().await;
        }
        let served = asking.iter().filter(|task| task.is_finished()).count();
        assert!(served <= 3 && lock(&downloads.open).len() <= 1, "one file for all");
        asking.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
