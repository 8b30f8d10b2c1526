//! What leaves a site: masked words, signatures, reveals.

use super::Checker;
use crate::oracle::unpack;
use crate::uniform::Uniformity;
use koinon_aggregation::Bundle;
use koinon_proto::wire::to_coordinator::Message;
use koinon_proto::{Digest, Millis, SessionId, wire};
use prost::Message as _;
use std::collections::BTreeMap;

/// A masked update on its way, chunk by chunk.
#[derive(Default)]
pub(super) struct Upload {
    chunks: BTreeMap<u32, Vec<u8>>,
    tested: bool,
}

/// The message in a site's mail frame, where it is one.
pub(crate) fn mail_to_coordinator(frame: &wire::SiteFrame) -> Option<Message> {
    let Some(wire::site_frame::Frame::Mail(mail)) = &frame.frame else { return None };
    wire::ToCoordinator::decode(mail.envelope.as_ref()?.body.as_slice()).ok()?.message
}

impl Checker {
    /// A frame leaves an honest site's machine.
    pub(crate) fn leaves_site(&mut self, now: Millis, site: usize, frame: &wire::SiteFrame) {
        self.counts.frames += 1;
        if let Some(wire::site_frame::Frame::Chunk(chunk)) = &frame.frame {
            return self.chunk(now, site, chunk);
        }
        match mail_to_coordinator(frame) {
            Some(Message::SurvivorSignature(m)) => {
                let Some(session) = session(&m.session) else { return };
                let first = self.signatures.entry((session, site)).or_insert(m.signature.clone());
                if *first != m.signature {
                    let place = self.at(site, session);
                    self.violation(now, place, "signs a second set of survivors");
                }
            }
            Some(Message::Reveal(m)) => self.reveal(now, site, &m),
            Some(Message::Ready(m)) => self.offers_keys(now, site, &m),
            Some(Message::Refusal(m)) if !self.hub_lies && LOG_CODES.contains(&&m.code[..]) => {
                let place = format!("site {site}");
                self.violation(now, place, format!("refuses an honest coordinator ({})", m.code));
            }
            _ => {}
        }
    }

    fn offers_keys(&mut self, now: Millis, site: usize, m: &wire::Ready) {
        let (Some(session), Ok(bundle)) = (session(&m.session), Bundle::from_bytes(&m.bundle))
        else {
            return;
        };
        for key in bundle.public_keys() {
            let first = *self.offered.entry(*key).or_insert((session, site));
            if first != (session, site) {
                let what = format!("offers keys of session {} again", first.0.short());
                self.violation(now, self.at(site, session), what);
            }
        }
    }

    /// A reveal has room for one kind of share of each dealer, so both kinds need two reveals.
    fn reveal(&mut self, now: Millis, site: usize, m: &wire::Reveal) {
        let Some(session) = session(&m.session) else { return };
        let place = self.at(site, session);
        let first = self.reveals.entry((session, site)).or_insert(m.reveal.clone());
        if *first != m.reveal {
            self.violation(now, place, "reveals a second time, in other words");
            return;
        }
        let Some(invited) = self.plans.get(&(session, site)) else {
            return self.violation(now, place, "reveals without an invitation");
        };
        let over = (site, invited.kind, invited.over.clone());
        let first = *self.opened.entry(over).or_insert(session);
        if first != session {
            let what = format!("helps to open the parameters of session {} again", first.short());
            self.violation(now, place, what);
        }
    }

    fn chunk(&mut self, now: Millis, site: usize, chunk: &wire::UploadChunk) {
        let Some(session) = session(&chunk.session) else { return };
        let upload = self.uploads.entry((session, site)).or_default();
        let first = upload.chunks.entry(chunk.index).or_insert_with(|| chunk.data.clone());
        let same = *first == chunk.data;
        let whole = upload.chunks.len() == chunk.total as usize && !upload.tested;
        upload.tested |= whole;
        if !same {
            let place = self.at(site, session);
            self.violation(now, place, "sends other masked bytes in the same session");
        }
        if whole {
            self.whole(now, site, session);
        }
    }

    /// Takes the encoded update off the masked words and looks at what is left.
    fn whole(&mut self, now: Millis, site: usize, session: SessionId) {
        let place = self.at(site, session);
        let key = (session, site);
        let (Some(upload), Some(invited)) = (self.uploads.get(&key), self.plans.get(&key)) else {
            return self.violation(now, place, "reports without an invitation");
        };
        let Some(expected) = self.expected.get(&key) else {
            return self.violation(now, place, "reports without having worked");
        };
        let bits = u32::from(invited.plan.encoding.bits());
        let packed: Vec<u8> = upload.chunks.values().flatten().copied().collect();
        let words = unpack(&packed, bits, WORDS_MAX.min(expected.len()));
        let modulus = (1u64 << bits) - 1;
        let mask = |place: usize| {
            words[place].wrapping_sub(expected.least(place).cast_unsigned()) & modulus
        };
        // A mask plus a rounding is as uniform as the mask.
        let mut test = Uniformity::default();
        (0..words.len()).for_each(|place| test.add(mask(place), bits));
        let exact = (0..words.len()).filter(|place| expected.exact(*place).is_some());
        let start: Vec<u64> = exact.take(FINGERPRINT).map(mask).collect();
        self.uniform.merge(&test);
        self.counts.words_tested += words.len() as u64;
        if let Some(worst) = test.violation() {
            let what = format!("the mask is not uniform (chi-square {worst:.0})");
            self.violation(now, place.clone(), what);
        }
        if start.len() == FINGERPRINT {
            let first = *self.masks.entry(start).or_insert(key);
            if first != key {
                let what = format!("the mask is that of {}", self.at(first.1, first.0));
                self.violation(now, place, what);
            }
        }
    }
}

fn session(bytes: &[u8]) -> Option<SessionId> {
    Digest::try_from(bytes).ok()
}

/// Words of one update that are tested: beyond that a fault would have to know where to hide.
const WORDS_MAX: usize = 4_096;
/// Words that tell two masks apart.
const FINGERPRINT: usize = 8;

/// Why a site refuses what it is told of posted keys.
const LOG_CODES: [&str; 2] = ["key_log", "keys_unproven"];
