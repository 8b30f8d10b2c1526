//! What operators and newcomers ask for: enrolments, rosters, tasks, cancelling.
//!
//! Every request may come twice, because an answer can be lost: the same one again gets the same
//! answer and changes nothing. Start at [`Coordinator::on_submit`].

use std::collections::BTreeMap;

use koinon_proto::limits::{MAILBOX_BYTES_MAX, MAILBOX_MAIL_MAX, TASK_BLOBS_MAX, TASKS_MAX};
use koinon_proto::task::{InitFrom, TaskKind};
use koinon_proto::wire::to_site::Message;
use koinon_proto::{Digest, SiteId, TaskManifest, wire};

use super::{Coordinator, Out};
use crate::event::{Answer, Rejection, codes};
use crate::members::Members;
use crate::record::Change;
use crate::round::{Kind, Phase, Round};
use crate::task::End;
use crate::task::material::{Material, named};

type Result<T> = std::result::Result<T, Rejection>;

impl Coordinator {
    pub(super) fn on_enrol(
        &mut self,
        out: &mut Out,
        enrolment: &wire::Enrolment,
    ) -> Result<Answer> {
        let roster = self.roster.as_ref();
        let consortium_key = &self.setup.consortium_key;
        let enrolled = self.state.members.enrol(enrolment, roster, consortium_key, self.now)?;
        if let Some(change) = enrolled.change {
            self.decide(out, change);
        }
        let roster = self.state.members.roster;
        Ok(Answer::Enrolled { name: enrolled.name, role: enrolled.role, roster })
    }

    pub(super) fn on_roster(&mut self, out: &mut Out, bytes: Vec<u8>) -> Result<Answer> {
        let own = (&self.setup.name, &self.setup.identity as &dyn koinon_aggregation::Signer);
        let held = self.roster.as_ref();
        let consortium_key = &self.setup.consortium_key;
        if let Some(signed) = Members::check_roster(held, &bytes, consortium_key, own)? {
            let stranger = |site: &&SiteId| self.key_of(site).is_none();
            let strangers = self.connections.keys().filter(stranger).cloned().collect();
            let roster = Digest(signed.digest());
            self.roster = Some(signed);
            out.blobs.push((roster, bytes));
            self.decide(out, Change::RosterPublished { roster });
            for site in self.state.keys.stale(|site| self.key_of(site)) {
                self.decide(out, Change::KeysDropped { site });
            }
            self.stirred = true;
            self.begin_anew(out);
            self.announce_roster(out, roster, strangers);
        }
        let signed = self.roster.as_ref().expect("it was just put there, or was there already");
        let version = signed.roster().version;
        Ok(Answer::RosterPublished { digest: Digest(signed.digest()), version })
    }

    /// Sites that still train would find at the end that the keys of their round are of another
    /// roster: their rounds begin anew. Those further on have what they need of the old one.
    fn begin_anew(&mut self, out: &mut Out) {
        let trains = |round: &Round| matches!(round.phase, Phase::Training(_));
        let rounds = self.state.rounds().filter(|(_, round)| trains(round));
        let tasks: Vec<Digest> = rounds.map(|(task, _)| *task).collect();
        for task in tasks {
            self.abandon(out, &task, codes::ROSTER_CHANGED);
        }
    }

    /// Tells everybody, parts from those who are no members any more, and shows the open tasks to
    /// those who were none before.
    fn announce_roster(&mut self, out: &mut Out, roster: Digest, strangers: Vec<SiteId>) {
        let connected: Vec<SiteId> = self.connections.keys().cloned().collect();
        for site in &connected {
            let notice = wire::RosterNotice { digest: roster.into() };
            self.post(out, site, Message::Roster(notice));
            let row = self.roster.as_ref().and_then(|s| s.roster().member(site.as_str()));
            if row.is_some_and(|row| row.revoked) {
                self.disconnect(out, site);
            }
        }
        let open: Vec<Vec<u8>> = self.state.open().map(|(_, task)| task.bytes.to_vec()).collect();
        self.offer(out, &strangers, &open);
    }

    pub(super) fn on_submit(
        &mut self,
        out: &mut Out,
        bytes: Vec<u8>,
        blobs: Vec<Vec<u8>>,
    ) -> Result<Answer> {
        let digest = Digest::of(&bytes);
        if self.state.tasks.contains_key(&digest) {
            return Ok(Answer::Submitted { task: digest });
        }
        let manifest = TaskManifest::parse_json(&bytes)
            .map_err(|error| Rejection::new(codes::BAD_MANIFEST, error.to_string()))?;
        if self.state.tasks.len() >= TASKS_MAX || blobs.len() > TASK_BLOBS_MAX {
            let detail = format!("at most {TASKS_MAX} tasks, with {TASK_BLOBS_MAX} blobs each");
            return Err(Rejection::new(codes::TOO_MANY, detail));
        }
        self.check_room(bytes.len())?;
        let mut blobs: BTreeMap<Digest, Vec<u8>> =
            blobs.into_iter().map(|bytes| (Digest::of(&bytes), bytes)).collect();
        let find = |digest: &Digest| blobs.get(digest).cloned();
        let (material, fresh) = Material::read(&manifest, None, &find)?;
        self.check_encodings(&manifest, &material)?;
        let (version, fitted) = self.start_of(&manifest, fresh.as_deref())?;
        let public = material.public_features();
        let fitted = public.as_deref().map(Digest::of).or(fitted);
        let mine = named(&manifest).into_iter();
        out.blobs.extend(mine.filter_map(|digest| blobs.remove_entry(&digest)));
        out.blobs.extend(fresh.into_iter().chain(public).map(|bytes| (Digest::of(&bytes), bytes)));
        let offer = [bytes.clone()];
        self.decide(out, Change::TaskSubmitted { manifest: bytes.into(), version, fitted });
        self.materials.insert(digest, material);
        self.stirred = true;
        let connected: Vec<SiteId> = self.connections.keys().cloned().collect();
        self.offer(out, &connected, &offer);
        Ok(Answer::Submitted { task: digest })
    }

    /// Refuses more open tasks than can be offered to a site at once, with room for its rounds.
    fn check_room(&self, bytes: usize) -> Result<()> {
        let open = self.state.open().map(|(_, task)| task.bytes.len());
        let (count, bytes) = open.fold((1, bytes), |(n, sum), bytes| (n + 1, sum + bytes));
        if count <= MAILBOX_MAIL_MAX / 2 && bytes <= MAILBOX_BYTES_MAX / 4 {
            return Ok(());
        }
        let detail = "too many tasks are open: cancel one, or wait until one has ended";
        Err(Rejection::new(codes::TOO_MANY, detail))
    }

    /// Refuses a task of which one round could overflow, before a site is asked for anything.
    fn check_encodings(&self, manifest: &TaskManifest, material: &Material) -> Result<()> {
        let kinds: &[Kind] = match manifest.kind {
            TaskKind::Statistics => &[Kind::Statistics],
            TaskKind::Evaluate => &[Kind::Statistics, Kind::Evaluate],
            TaskKind::Train if manifest.privacy.is_some() => &[Kind::Train],
            TaskKind::Train => &[Kind::Statistics, Kind::Train, Kind::Evaluate],
        };
        let most = usize::from(manifest.cohort.max);
        super::advance::topology(&manifest.cohort, most, 0).map_err(|error| {
            let detail = format!("no sums can be kept private in such cohorts: {error}");
            Rejection::new(codes::BAD_MANIFEST, detail)
        })?;
        for kind in kinds {
            material.encoding(manifest, *kind).map_err(|error| {
                let detail = format!("a {kind:?} round cannot be encoded: {error}");
                Rejection::new(codes::BAD_MANIFEST, detail)
            })?;
        }
        Ok(())
    }

    /// The parameters that a task starts from, and the fitted features, if the plan was fitted before:
    /// those of the version, else the newest. The sites would not open the sums behind them again.
    fn start_of(
        &self,
        manifest: &TaskManifest,
        fresh: Option<&[u8]>,
    ) -> Result<(Option<Digest>, Option<Digest>)> {
        let fits = manifest.kind != TaskKind::Statistics;
        let newest = self.state.fitted_of(&manifest.features).filter(|_| fits);
        match manifest.init_from {
            InitFrom::Fresh { .. } => Ok((fresh.map(Digest::of), newest)),
            InitFrom::File { digest } => Ok((Some(digest), newest)),
            InitFrom::Version { digest } => {
                let version = self.state.registry.get(&digest).ok_or_else(|| {
                    let detail = format!("version {digest} is not known here; `koinon model list`");
                    Rejection::new(codes::UNKNOWN_VERSION, detail)
                })?;
                // Under another feature plan the old statistics mean nothing.
                let same = version.features == manifest.features;
                Ok((Some(digest), version.fitted.filter(|_| same).or(newest)))
            }
        }
    }

    /// Offers tasks to those of these sites that are members.
    fn offer(&mut self, out: &mut Out, sites: &[SiteId], manifests: &[Vec<u8>]) {
        for site in sites {
            if self.key_of(site).is_none() {
                continue;
            }
            for manifest in manifests {
                let offer = wire::Offer { manifest: manifest.clone() };
                self.post(out, site, Message::Offer(offer));
            }
        }
    }

    pub(super) fn on_cancel(&mut self, out: &mut Out, digest: &Digest) -> Result<Answer> {
        let task = self.state.tasks.get(digest).ok_or_else(|| {
            Rejection::new(codes::UNKNOWN_TASK, format!("task {digest} is not known here"))
        })?;
        match &task.end {
            Some(End::Cancelled) => {}
            Some(_) => {
                let detail = "the task has ended already; its versions stay";
                return Err(Rejection::new(codes::TASK_ENDED, detail));
            }
            None => {
                let audience = task.round.as_ref().map(Round::audience);
                self.decide(out, Change::TaskCancelled { task: *digest });
                if let Some(audience) = audience {
                    self.conclude(out, digest, &audience);
                }
                self.forget_task(digest);
            }
        }
        let status = self.status(digest).expect("the task was just looked at");
        Ok(Answer::Cancelled(status))
    }
}
