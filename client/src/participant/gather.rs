//! Fetching the blobs that a round names by digest.
//!
//! Blobs are content-addressed: each is checked against its digest where it arrives, so it does not
//! matter who sent it.

use std::collections::BTreeMap;

use koinon_proto::Digest;

use super::phase::Round;
use super::{Effect, Participant, Phase, Turn};
use crate::error::Refusal;

/// Blobs on their way.
pub(super) struct Gather {
    blobs: BTreeMap<Digest, Option<Vec<u8>>>,
}

impl Gather {
    /// What a round needs beside the plan: model, feature plan, training plan, version, statistics.
    pub(super) fn new(round: &Round) -> Self {
        use crate::trainer::RoundKind;
        let manifest = &round.manifest;
        let model = manifest.model.filter(|_| round.kind != RoundKind::Statistics);
        let training = manifest.training.filter(|_| round.kind == RoundKind::Train);
        let wanted = [Some(manifest.features), model, training, round.version, round.fitted];
        Self { blobs: wanted.into_iter().flatten().map(|digest| (digest, None)).collect() }
    }

    /// Asks for what is not here yet.
    pub(super) fn ask(&self, turn: &mut Turn<'_>) {
        for (digest, _) in self.blobs.iter().filter(|(_, bytes)| bytes.is_none()) {
            turn.push(Effect::Fetch(*digest));
        }
    }

    fn wants(&self, digest: &Digest) -> bool {
        self.blobs.get(digest).is_some_and(Option::is_none)
    }

    /// The blobs, once all are here.
    pub(super) fn blobs(&self) -> Option<BTreeMap<Digest, &[u8]>> {
        self.blobs.iter().map(|(digest, bytes)| Some((*digest, bytes.as_deref()?))).collect()
    }
}

impl Participant {
    fn gather(&mut self) -> Option<&mut Gather> {
        match &mut self.phase {
            Phase::Invited(phase) => Some(&mut phase.gather),
            Phase::Sharing(phase) => phase.gather.as_mut(),
            _ => None,
        }
    }

    /// Asks again for what a lost connection may have taken with it.
    pub(super) fn ask_for_blobs(&mut self, turn: &mut Turn<'_>) {
        if let Some(gather) = self.gather() {
            gather.ask(turn);
        }
    }

    pub(super) fn blob_arrived(&mut self, turn: &mut Turn<'_>, digest: Digest, bytes: Vec<u8>) {
        let Some(gather) = self.gather().filter(|gather| gather.wants(&digest)) else { return };
        gather.blobs.insert(digest, Some(bytes));
        if gather.blobs().is_some() {
            self.gathered(turn);
        }
    }

    pub(super) fn blob_missing(&mut self, turn: &mut Turn<'_>, digest: Digest) {
        if self.gather().is_some_and(|gather| gather.wants(&digest)) {
            self.withdraw(turn, Refusal::BlobInvalid);
        }
    }

    fn gathered(&mut self, turn: &mut Turn<'_>) {
        match &self.phase {
            Phase::Invited(_) => self.begin_work(turn),
            Phase::Sharing(_) => self.work_again(turn),
            _ => {}
        }
    }
}
