//! One dense line per event, for replays: what crossed, what was written, what a site noted.
//!
//! Ids and counts only, like every log of the roles themselves. Start at [`site_frame`].

use crate::checker::{mail_to_coordinator, mail_to_site};
use koinon_client::participant::Note;
use koinon_coordinator::record::{Change, Record};
use koinon_proto::Digest;
use koinon_proto::wire::{self, coordinator_frame, site_frame, to_coordinator, to_site};

/// A frame from a site.
pub(crate) fn site_frame(frame: &wire::SiteFrame) -> String {
    let cursor = frame.cursor;
    match &frame.frame {
        Some(site_frame::Frame::Hello(hello)) => {
            format!("hello first={} cursor={cursor}", hello.first_sequence)
        }
        Some(site_frame::Frame::Mail(mail)) => {
            let what = mail_to_coordinator(frame).map_or("?".to_owned(), |m| from_site(&m));
            format!("mail #{} {what} cursor={cursor}", mail.sequence)
        }
        Some(site_frame::Frame::Chunk(chunk)) => {
            format!("chunk {}/{} of {}", chunk.index + 1, chunk.total, short(&chunk.session))
        }
        None => "empty".to_owned(),
    }
}

/// A frame from the coordinator.
pub(crate) fn hub_frame(frame: &wire::CoordinatorFrame) -> String {
    match &frame.frame {
        Some(coordinator_frame::Frame::Welcome(welcome)) => {
            format!("welcome received={}", welcome.received)
        }
        Some(coordinator_frame::Frame::Mail(mail)) => {
            let what = mail_to_site(frame).map_or("?".to_owned(), |m| from_hub(&m));
            format!("mail #{} {what}", mail.sequence)
        }
        Some(coordinator_frame::Frame::Receipt(receipt)) => match &receipt.rejection {
            Some(rejection) => format!("receipt #{} rejected {}", receipt.sequence, rejection.code),
            None => format!("receipt #{}", receipt.sequence),
        },
        Some(coordinator_frame::Frame::ChunkReceipt(receipt)) => {
            format!("wants chunk {} of {}", receipt.next + 1, short(&receipt.session))
        }
        None => "empty".to_owned(),
    }
}

/// A record of the journal.
pub(crate) fn record(record: &Record) -> String {
    match &record.change {
        Change::Booted { .. } => "booted".to_owned(),
        Change::RosterPublished { roster } => format!("roster {}", roster.short()),
        Change::Enrolled { .. } => "enrolled".to_owned(),
        Change::TaskSubmitted { .. } => "task submitted".to_owned(),
        Change::RoundStarted { kind, round, attempt, session, cohort, .. } => format!(
            "round {round} attempt {attempt} {kind:?} session {} cohort {}",
            session.short(),
            cohort.len()
        ),
        Change::KeysPosted { site, .. } => format!("keys of {site}"),
        Change::KeysDropped { site } => format!("keys of {site} dropped"),
        Change::KeyLogLost { .. } => "key log lost".to_owned(),
        Change::BundleAccepted { site, .. } => format!("bundle {site}"),
        Change::ParticipantsFixed { .. } => "participants fixed".to_owned(),
        Change::SharesAccepted { site, .. } => format!("shares {site}"),
        Change::DealersFixed { .. } => "dealers fixed".to_owned(),
        Change::UpdateAccepted { site, bytes, .. } => format!("update {site} {bytes} bytes"),
        Change::SurvivorsFixed { .. } => "survivors fixed".to_owned(),
        Change::SignatureAccepted { site, .. } => format!("signature {site}"),
        Change::UnmaskStarted { .. } => "unmask".to_owned(),
        Change::RevealAccepted { site, .. } => format!("reveal {site}"),
        Change::Declined { site, code, .. } => format!("declined {site} {code}"),
        Change::Committed { result, figures, .. } => {
            format!("committed {} of {}", result.short(), figures.participants)
        }
        Change::Abandoned { reason, .. } => format!("abandoned {reason}"),
        Change::Coasted { version, .. } => format!("coasted {}", version.short()),
        Change::TaskCancelled { .. } => "task cancelled".to_owned(),
        Change::TaskEnded { failure, .. } => match failure {
            Some(failure) => format!("task failed {failure}"),
            None => "task done".to_owned(),
        },
    }
}

/// What a site noted.
pub(crate) fn note(note: &Note) -> String {
    format!("{note:?}")
}

fn from_site(message: &to_coordinator::Message) -> String {
    use to_coordinator::Message;
    match message {
        Message::CheckIn(m) => format!("check-in of {} tasks", m.tasks.len()),
        Message::PostedKeys(_) => "posted keys".to_owned(),
        Message::Refusal(m) => format!("refusal {}", m.code),
        Message::Ready(m) => format!("ready {}", short(&m.session)),
        Message::Shares(m) => format!("shares {}", short(&m.session)),
        Message::Report(m) => format!("report {} of {} bytes", short(&m.session), m.bytes),
        Message::SurvivorSignature(m) => format!("signature {}", short(&m.session)),
        Message::Reveal(m) => format!("reveal {}", short(&m.session)),
        Message::Failure(m) => format!("failure {} {}", short(&m.session), m.code),
    }
}

fn from_hub(message: &to_site::Message) -> String {
    use to_site::Message;
    match message {
        Message::Roster(m) => format!("roster {}", short(&m.digest)),
        Message::Offer(m) => format!("offer {}", Digest::of(&m.manifest).short()),
        Message::Invite(m) => {
            let named = m.keys.as_ref().map_or(0, |keys| keys.named.len());
            format!("invite round {} attempt {} with {named} keys", m.round, m.attempt)
        }
        Message::Participants(m) => format!("participants {}", short(&m.session)),
        Message::Inbox(m) => format!("inbox {}", short(&m.session)),
        Message::Accepted(m) => format!("accepted {}", short(&m.session)),
        Message::Survivors(m) => format!("survivors {} {:?}", short(&m.session), m.indices),
        Message::Unmask(m) => format!("unmask {}", short(&m.session)),
        Message::KeysWanted(m) => format!("keys wanted, {} wait", m.waiting),
        Message::Outcome(m) => match &m.result {
            Some(wire::outcome::Result::Committed(d)) => {
                format!("outcome {} committed {}", short(&m.session), short(d))
            }
            Some(wire::outcome::Result::Abandoned(reason)) => {
                format!("outcome {} abandoned {reason}", short(&m.session))
            }
            None => format!("outcome {} ?", short(&m.session)),
        },
    }
}

fn short(digest: &[u8]) -> String {
    Digest::try_from(digest).map_or("-".to_owned(), |d| d.short())
}
