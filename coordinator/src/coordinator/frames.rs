//! What sites say: hellos, letters, chunks.
//!
//! A letter counts once, in order, and only with the signature of a site that the roster names now.
//! Whatever is wrong with it is said in its receipt, and nothing has changed. Start at
//! [`Coordinator::on_frame`].

use koinon_proto::limits::{CODE_BYTES_MAX, CONNECTIONS_MAX, TASKS_MAX};
use koinon_proto::mailbox::Accept;
use koinon_proto::wire::site_frame::Frame;
use koinon_proto::wire::to_coordinator::Message;
use koinon_proto::{Digest, PROTOCOL, SiteId, WireError, envelope, wire};
use prost::Message as _;
use rand::CryptoRng;

use super::{Coordinator, Out};
use crate::event::{Effect, Rejection, codes};
use crate::members::signed_by;
use crate::post::{CheckIn, Connection, Post, chunk_receipt};
use crate::record::Change;
use crate::round::reporting::Chunk;
use crate::round::{Phase, Said};
use crate::state::Outcome;

/// What a hello costs that fills a mailbox anew, in frames.
const REFILL_COST: u64 = 15;

/// Where a message about a session belongs.
enum About {
    /// To the running round of this task.
    Task(Digest),
    /// To a session that has committed meanwhile: there is nothing left to do, and nothing wrong.
    Committed,
}

impl Coordinator {
    /// A new connection begins with nothing; the one before it is gone.
    pub(super) fn on_connected(&mut self, out: &mut Out, site: SiteId) {
        self.stirred = true;
        if self.connections.len() >= CONNECTIONS_MAX && !self.connections.contains_key(&site) {
            return out.rest.push(Effect::Disconnect { site });
        }
        self.connections.insert(site, Connection::default());
    }

    pub(super) fn on_frame(
        &mut self,
        out: &mut Out,
        rng: &mut dyn CryptoRng,
        site: &SiteId,
        frame: wire::SiteFrame,
    ) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(site) else { return };
        let chunk = matches!(frame.frame, Some(Frame::Chunk(_)));
        if !chunk && !connection.allowance.take(now, 1) {
            return;
        }
        match (frame.frame, &mut connection.post) {
            (Some(Frame::Hello(hello)), _) => self.on_hello(out, rng, site, &hello, frame.cursor),
            (Some(Frame::Mail(mail)), Some(post)) => {
                post.on_cursor(frame.cursor);
                self.on_mail(out, site, mail);
            }
            (Some(Frame::Chunk(chunk)), Some(post)) => {
                post.on_cursor(frame.cursor);
                self.on_chunk(out, site, &chunk);
            }
            // Nothing before hello, and nothing this version does not know.
            (Some(Frame::Mail(_) | Frame::Chunk(_)), None) | (None, _) => {}
        }
    }

    /// A site says hello, on connecting or as a heartbeat: what it has not read is sent again.
    fn on_hello(
        &mut self,
        out: &mut Out,
        rng: &mut dyn CryptoRng,
        site: &SiteId,
        hello: &wire::Hello,
        cursor: u64,
    ) {
        let Some(connection) = self.connections.get_mut(site) else { return };
        let known = connection.post.as_mut().is_some_and(|post| {
            let same = post.on_hello(hello);
            post.on_cursor(cursor);
            same
        });
        if !known {
            if !connection.allowance.take(self.now, REFILL_COST) {
                return;
            }
            connection.check_in = None;
            connection.post = Some(Post::new(rng.next_u64().max(1), hello));
            connection.log_size = hello.log_size;
            // What is put in is sent below, after the welcome.
            self.refill(&mut Out::default(), site);
        }
        let Some(post) = self.connections.get(site).and_then(|c| c.post.as_ref()) else { return };
        post.greeting().into_iter().for_each(|frame| out.send(site, frame));
        for (task, live) in &self.live {
            if let Some(next) = live.wanted(site)
                && let Some(round) = &self.state.tasks[task].round
            {
                out.send(site, chunk_receipt(round.terms.session.into(), next));
            }
        }
    }

    /// Fills a new mailbox with what the site should see now.
    fn refill(&mut self, out: &mut Out, site: &SiteId) {
        use wire::to_site::Message;
        if let Some(digest) = self.state.members.roster {
            let notice = wire::RosterNotice { digest: digest.into() };
            self.post(out, site, Message::Roster(notice));
        }
        if self.key_of(site).is_none() {
            return;
        }
        let offers: Vec<Vec<u8>> = self.state.open().map(|(_, task)| task.bytes.to_vec()).collect();
        for manifest in offers {
            self.post(out, site, Message::Offer(wire::Offer { manifest }));
        }
        let invited =
            |(_, round): &(&Digest, &crate::round::Round)| round.terms.cohort.contains(site);
        // Who is still at work for nothing should stop. Of a session that committed, a site asks.
        let over = self.state.outcomes.get(site).filter(|outcome| outcome.result.is_err());
        if let Some(outcome) = over.filter(|_| !self.state.rounds().any(|round| invited(&round))) {
            let message = outcome.to_wire();
            self.post(out, site, message);
        }
        let rounds = self.state.rounds().filter(invited);
        let (bulky, small): (Vec<_>, Vec<_>) = rounds.partition(|(_, round)| round.is_bulky(site));
        let mail = |(task, round): &(&Digest, &crate::round::Round)| {
            round.mail(self.now, &self.live[task], site)
        };
        let mail: Vec<Message> = small.iter().flat_map(mail).collect();
        for task in bulky.into_iter().map(|(task, _)| *task).collect::<Vec<_>>() {
            // It waits again: who had a place has lost what was in its last mailbox.
            if let Some(live) = self.live.get_mut(&task) {
                live.mailing.leave(site);
                live.mailing.ask(site);
            }
        }
        mail.into_iter().for_each(|message| self.post(out, site, message));
    }

    fn on_mail(&mut self, out: &mut Out, site: &SiteId, mail: wire::Mail) {
        let Some(post) = self.connections.get_mut(site).and_then(|c| c.post.as_mut()) else {
            return;
        };
        let result = match post.accept(mail.sequence) {
            Accept::New => self.on_letter(out, site, mail.envelope.as_ref()),
            Accept::Duplicate | Accept::Gap => Ok(()),
        };
        // The letter may have ended the connection.
        if let Some(post) = self.connections.get(site).and_then(|c| c.post.as_ref()) {
            out.send(site, post.receipt(result.err().as_ref()));
        }
    }

    fn on_letter(
        &mut self,
        out: &mut Out,
        site: &SiteId,
        letter: Option<&wire::Envelope>,
    ) -> Result<(), Rejection> {
        let letter = letter.ok_or(WireError::Missing { what: "the envelope" })?;
        let key = self.key_of(site).ok_or_else(|| {
            let detail = "the roster names no such site now; ask the consortium";
            Rejection::new(codes::NOT_A_MEMBER, detail)
        })?;
        let own = self.setup.name.as_str();
        let body = envelope::open(letter, site.as_str(), own, PROTOCOL.min, signed_by(key))?;
        let unreadable = WireError::Decode { what: "a message to the coordinator" };
        let message = wire::ToCoordinator::decode(body).map_err(|_| unreadable)?;
        match message.message.ok_or(WireError::Missing { what: "the message" })? {
            Message::CheckIn(check_in) => self.on_check_in(out, site, &check_in),
            Message::PostedKeys(posted) => self.on_posted_keys(out, site, (key, posted.batch)),
            Message::Refusal(refusal) => self.on_decline(out, site, &refusal.session, refusal.code),
            Message::Failure(failure) => self.on_decline(out, site, &failure.session, failure.code),
            Message::Report(report) => self.on_report(out, site, report),
            Message::Ready(m) => self.on_said(out, site, &m.session, Said::Ready(m.bundle)),
            Message::Shares(m) => self.on_said(out, site, &m.session, Said::Shares(m.shares)),
            Message::SurvivorSignature(m) => {
                self.on_said(out, site, &m.session, Said::Signature(m.signature))
            }
            Message::Reveal(m) => self.on_said(out, site, &m.session, Said::Reveal(m.reveal)),
        }
    }

    fn on_check_in(
        &mut self,
        out: &mut Out,
        site: &SiteId,
        message: &wire::CheckIn,
    ) -> Result<(), Rejection> {
        let count = message.tasks.len();
        if count > TASKS_MAX {
            let (count, count_max) = (count as u64, TASKS_MAX as u64);
            return Err(WireError::TooMany { what: "tasks", count, count_max }.into());
        }
        let tasks = message.tasks.iter().map(|task| Digest::try_from(&task[..]));
        let tasks = tasks.collect::<Result<_, _>>()?;
        let held = Some(&message.roster[..]).filter(|roster| !roster.is_empty());
        let roster = held.map(Digest::try_from).transpose()?;
        if let Some(connection) = self.connections.get_mut(site) {
            connection.check_in = Some(CheckIn { tasks, roster });
            connection.pauses.clear();
            self.stirred = true;
        }
        self.on_log_head(out, site, &message.head);
        self.want_keys(out, site);
        Ok(())
    }

    fn on_decline(
        &mut self,
        out: &mut Out,
        site: &SiteId,
        session: &[u8],
        code: String,
    ) -> Result<(), Rejection> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if code.is_empty() || code.len() > CODE_BYTES_MAX || !code.chars().all(legal) {
            let detail = "a code has 1 to 64 characters of a-z, 0-9 and _";
            return Err(Rejection::new(codes::BAD_MESSAGE, detail));
        }
        // Who declines a session that is over needs no answer.
        let Some(task) = self.state.task_of(&Digest::try_from(session)?) else { return Ok(()) };
        let round = self.state.tasks[&task].round.as_ref();
        let heard = round.map(|round| round.on_decline(site, &code)).transpose()?.flatten();
        if heard.is_some() {
            self.decline(out, &task, site, &code);
        }
        Ok(())
    }

    fn on_said(
        &mut self,
        out: &mut Out,
        site: &SiteId,
        session: &[u8],
        message: Said,
    ) -> Result<(), Rejection> {
        let About::Task(task) = self.about(out, site, session)? else { return Ok(()) };
        let (Some(round), Some(live)) = (&self.state.tasks[&task].round, self.live.get_mut(&task))
        else {
            return Ok(());
        };
        if let Some(change) = round.hear(live, site, message)? {
            self.decide(out, change);
        }
        let round = self.state.tasks[&task].round.as_ref();
        if let (Some(round), Some(live)) = (round, self.live.get_mut(&task))
            && !round.is_bulky(site)
        {
            live.mailing.leave(site);
        }
        Ok(())
    }

    fn on_report(
        &mut self,
        out: &mut Out,
        site: &SiteId,
        message: wire::Report,
    ) -> Result<(), Rejection> {
        let About::Task(task) = self.about(out, site, &message.session)? else { return Ok(()) };
        let (Some(round), Some(live)) = (&self.state.tasks[&task].round, self.live.get_mut(&task))
        else {
            return Ok(());
        };
        let next = round.on_report(live, site, message)?;
        if let Phase::Reporting(_) = round.phase {
            // It has read its shares. Later it may say again what it reported, and still wait for mail.
            live.mailing.leave(site);
        }
        if let Some(next) = next {
            out.send(site, chunk_receipt(round.terms.session.into(), next));
        }
        Ok(())
    }

    /// A chunk is no letter: the report that announced it was signed, and has its digest.
    fn on_chunk(&mut self, out: &mut Out, site: &SiteId, chunk: &wire::UploadChunk) {
        let Ok(session) = Digest::try_from(&chunk.session[..]) else { return };
        let Some(task) = self.state.task_of(&session) else { return };
        let Some(live) = self.live.get_mut(&task) else { return };
        let Some(round) = &self.state.tasks[&task].round else { return };
        let Phase::Reporting(phase) = &round.phase else { return };
        let session = || chunk.session.clone();
        match phase.on_chunk(&round.terms, self.now, live, site, chunk) {
            Chunk::Silent => {}
            Chunk::Wanted(next) => out.send(site, chunk_receipt(session(), next)),
            Chunk::Bad(code) => {
                self.decline(out, &task, site, code);
                self.tell(out, &task, std::slice::from_ref(site));
                let rejection = Rejection::new(codes::BAD_UPLOAD, "not the reported update");
                if let Some(post) = self.connections.get(site).and_then(|c| c.post.as_ref()) {
                    out.send(site, post.receipt(Some(&rejection)));
                }
            }
            Chunk::Whole { change, packed } => {
                if let Change::UpdateAccepted { update, .. } = &change {
                    out.blobs.push((*update, packed));
                }
                self.decide(out, change);
                out.send(site, chunk_receipt(session(), chunk.total));
                self.tell(out, &task, std::slice::from_ref(site));
            }
        }
    }

    /// Finds where a message about a session belongs. Who speaks of a session that is over is told
    /// how it ended.
    fn about(&mut self, out: &mut Out, site: &SiteId, session: &[u8]) -> Result<About, Rejection> {
        let session = Digest::try_from(session)?;
        if let Some(task) = self.state.task_of(&session) {
            // A site may have taken an invitation that was on its way when it was left out, and would
            // wait for ever for a round that goes on without it.
            let round = self.state.tasks[&task].round.as_ref();
            if round.is_some_and(|round| round.declined.contains_key(site)) {
                self.tell(out, &task, std::slice::from_ref(site));
            }
            return Ok(About::Task(task));
        }
        let last = self.state.outcomes.get(site).filter(|outcome| outcome.session == session);
        let known = last.is_some();
        let unknown = || Outcome { session, result: Err(codes::UNKNOWN_SESSION.to_owned()) };
        let outcome = last.cloned().unwrap_or_else(unknown);
        self.post(out, site, outcome.to_wire());
        if outcome.result.is_ok() {
            return Ok(About::Committed);
        }
        let code = if known { codes::LATE } else { codes::UNKNOWN_SESSION };
        Err(Rejection::new(code, "the session is over, or never was"))
    }
}
