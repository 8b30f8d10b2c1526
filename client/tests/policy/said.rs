//! What a site said: its answers by name, one way each, and the ledger that tells of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use koinon_client::Effect;
use koinon_client::egress::leaving_of;
use koinon_client::ledger::{Head, Ledger, LedgerStore};
use koinon_proto::wire;
use prost::Message as _;

use super::world::{Site, coordinator_name};

/// Each thing that may be said in one way only, as it was said: kind of message (or chunk) and bytes.
pub(crate) fn said_once(site: &Site) -> BTreeMap<String, Vec<u8>> {
    let mut said: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for body in site.secrets_sent() {
        let key = key_of(&body);
        let before = said.insert(key.clone(), body.clone());
        assert!(before.is_none_or(|before| before == body), "{key} was said in two ways");
    }
    said
}

/// What a body that left is: the kind of its message, or the number of its chunk, and its session.
pub(crate) fn key_of(body: &[u8]) -> String {
    use wire::to_coordinator::Message as M;
    let mail = wire::ToCoordinator::decode(body).ok().and_then(|body| body.message);
    let (kind, session) = match mail {
        Some(M::Ready(message)) => ("ready", message.session),
        Some(M::Shares(message)) => ("shares", message.session),
        Some(M::Report(message)) => ("report", message.session),
        Some(M::SurvivorSignature(message)) => ("signature", message.session),
        Some(M::Reveal(message)) => ("reveal", message.session),
        _ => {
            let chunk = wire::UploadChunk::decode(body).unwrap();
            return format!("chunk {} {:?}", chunk.index, chunk.session);
        }
    };
    format!("{kind} {session:?}")
}

/// The name of an effect; none for notes and frames without content.
pub(crate) fn effect_name(effect: &Effect) -> Option<String> {
    let name = match effect {
        Effect::Persist(_) => "persist",
        Effect::PersistVector { .. } => "vector",
        Effect::DropVector => "drop",
        Effect::Fetch(_) => "fetch",
        Effect::Work(_) => "work",
        Effect::StopWork { .. } => "stop",
        Effect::Agree { .. } => "agree",
        Effect::Note(_) => return None,
        Effect::Send(frame) => match &frame.frame {
            Some(wire::site_frame::Frame::Mail(mail)) => {
                let body = &mail.envelope.as_ref()?.body;
                let key = key_of(body);
                return key.split(' ').next().map(str::to_owned);
            }
            Some(wire::site_frame::Frame::Chunk(_)) => "chunk",
            _ => return None,
        },
    };
    Some(name.to_owned())
}

/// The ledger of a site that sent these frames.
pub(crate) fn ledger_of(frames: &[wire::SiteFrame]) -> Vec<u8> {
    #[derive(Clone, Default)]
    struct Lines(Rc<RefCell<Vec<u8>>>);
    impl LedgerStore for Lines {
        fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
            self.0.borrow_mut().extend_from_slice(line);
            Ok(())
        }
    }
    let lines = Lines::default();
    let mut ledger = Ledger::new(Head::EMPTY, lines.clone());
    for frame in frames {
        let leaving = leaving_of(frame, &coordinator_name());
        let entry = ledger.entry(1, &leaving, &frame.encode_to_vec());
        ledger.append(&entry).unwrap();
    }
    lines.0.take()
}
