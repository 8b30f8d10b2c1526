//! The thread that trains.
//!
//! One job at a time, in the order in which they come; a stop is seen by the trainer between two
//! batches. The daemon never waits for it. Deliberately no knowledge of what the work is. Start at
//! [`Worker::start`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use koinon_proto::id::SessionId;
use tokio::sync::mpsc;

use super::daemon::Input;
use super::error::NodeError;
use crate::trainer::{Job, Trainer};

/// A trainer that may be given to a thread.
pub type SendTrainer = Box<dyn Trainer + Send>;

/// The daemon's hold on the thread.
pub(super) struct Worker {
    jobs: Sender<(Box<Job>, Arc<AtomicBool>)>,
    current: Option<(SessionId, Arc<AtomicBool>)>,
}

impl Worker {
    /// Starts the thread. It ends after the job it is doing when the worker is dropped.
    pub(super) fn start(
        trainer: SendTrainer,
        inputs: mpsc::Sender<Input>,
    ) -> Result<Self, NodeError> {
        let (jobs, queue) = channel();
        thread::Builder::new()
            .name("trainer".into())
            .spawn(move || work(trainer, &queue, &inputs))
            .map_err(|e| NodeError::State(format!("no thread for training: {e}")))?;
        Ok(Self { jobs, current: None })
    }

    /// Stops what is being done and does this.
    pub(super) fn work(&mut self, job: Box<Job>) {
        self.stop_current();
        let stop = Arc::new(AtomicBool::new(false));
        self.current = Some((job.session, Arc::clone(&stop)));
        // The thread lives as long as this sender.
        let _ = self.jobs.send((job, stop));
    }

    /// Stops the work for a session, if it is that one.
    pub(super) fn stop(&mut self, session: &SessionId) {
        if self.current.as_ref().is_some_and(|(current, _)| current == session) {
            self.stop_current();
        }
    }

    fn stop_current(&mut self) {
        if let Some((_, stop)) = self.current.take() {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop_current();
    }
}

fn work(
    mut trainer: SendTrainer,
    queue: &Receiver<(Box<Job>, Arc<AtomicBool>)>,
    inputs: &mpsc::Sender<Input>,
) {
    while let Ok((job, stop)) = queue.recv() {
        if stop.load(Ordering::Relaxed) {
            continue;
        }
        let result = trainer.work(&job, &|| stop.load(Ordering::Relaxed));
        if inputs.blocking_send(Input::Worked { job, result }).is_err() {
            return;
        }
    }
}
