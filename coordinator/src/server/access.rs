//! Who may do what, and how often: the questions that every call is asked first.
//!
//! The certificate says who somebody is, the role what they may call. Whether the consortium still
//! counts them is the roster's word, which the core checks on every frame. Deliberately nothing about
//! rounds. Start at [`member`] and [`Rate`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use koinon_aggregation::roster::Role;
use koinon_proto::wire;
use koinon_proto::{PROTOCOL, VersionRange};
use tonic::{Request, Status};

use super::listener::{Member, Peer, lock};
use crate::event::{Rejection, codes};

/// Enrolments that one address may try at once, and how fast that fills up again.
const BURST: f64 = 128.0;
const PER_SECOND: f64 = 2.0;
/// Addresses remembered; a stranger's failure to be remembered costs only strangers.
const ADDRESSES_MAX: usize = 4096;

/// The member behind a call, if its role is `role`.
pub(super) fn member<T>(request: &Request<T>, role: Role) -> Result<Member, Status> {
    let member = any_member(request)?;
    if member.role == role {
        return Ok(member);
    }
    Err(Status::permission_denied(format!(
        "this call is for role {role}; the certificate is of role {}",
        member.role
    )))
}

/// The member behind a call, whatever its role.
pub(super) fn any_member<T>(request: &Request<T>) -> Result<Member, Status> {
    peer(request)?.member.clone().ok_or_else(|| {
        Status::unauthenticated("this call needs a certificate of this consortium: join first")
    })
}

/// Where a call comes from.
pub(super) fn peer<T>(request: &Request<T>) -> Result<&Peer, Status> {
    request.extensions().get::<Peer>().ok_or_else(|| Status::internal("no peer"))
}

/// Answers the first message of every connection.
pub(super) fn negotiated(theirs: &wire::VersionRange) -> Result<wire::Negotiated, Status> {
    let range = VersionRange { min: theirs.min, max: theirs.max };
    let version = koinon_proto::negotiate(PROTOCOL, range)
        .map_err(|e| Status::failed_precondition(e.to_string()))?;
    Ok(wire::Negotiated { version, server_time_ms: super::now_ms() })
}

/// A rejection as the status of a call.
pub(super) fn status(rejection: &Rejection) -> Status {
    let text = rejection.to_string();
    match rejection.code {
        codes::NOT_A_MEMBER | codes::BAD_ADMISSION | codes::ADMISSION_SPENT => {
            Status::permission_denied(text)
        }
        codes::UNKNOWN_TASK | codes::UNKNOWN_VERSION => Status::not_found(text),
        codes::TOO_MANY => Status::resource_exhausted(text),
        codes::TASK_ENDED | codes::ROSTER_ROLLBACK => Status::failed_precondition(text),
        _ => Status::invalid_argument(text),
    }
}

/// How often each address tries to enrol.
#[derive(Default)]
pub(super) struct Rate(Mutex<BTreeMap<IpAddr, Bucket>>);

struct Bucket {
    left: f64,
    at: Instant,
}

impl Rate {
    /// Takes one try of an address.
    pub(super) fn check(&self, address: IpAddr, now: Instant) -> Result<(), Status> {
        let mut buckets = lock(&self.0);
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&address) {
            // Who is back at the full burst need not be remembered.
            buckets.retain(|_, bucket| bucket.level(now) < BURST);
            if buckets.len() >= ADDRESSES_MAX {
                return Err(Status::resource_exhausted("too many addresses enrol; try later"));
            }
        }
        let bucket = buckets.entry(address).or_insert(Bucket { left: BURST, at: now });
        (bucket.left, bucket.at) = (bucket.level(now), now);
        if bucket.left < 1.0 {
            return Err(Status::resource_exhausted("too many enrolments from here; try later"));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

impl Bucket {
    fn level(&self, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + seconds * PER_SECOND).min(BURST)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_that_hammers_waits_and_the_others_do_not() {
        let (rate, start) = (Rate::default(), Instant::now());
        let (one, other) = (IpAddr::from([1, 1, 1, 1]), IpAddr::from([2, 2, 2, 2]));
        let allowed = (0..1000).filter(|_| rate.check(one, start).is_ok()).count();
        assert_eq!(allowed, 128);
        assert!(rate.check(other, start).is_ok());
        assert!(rate.check(one, start + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_frees_itself() {
        let (rate, start) = (Rate::default(), Instant::now());
        for n in 0..10_000_u32 {
            let _ = rate.check(IpAddr::from(n.to_be_bytes()), start);
        }
        assert_eq!(lock(&rate.0).len(), ADDRESSES_MAX);
        let later = start + Duration::from_secs(3600);
        assert!(rate.check(IpAddr::from([9, 9, 9, 9]), later).is_ok());
        assert!(lock(&rate.0).len() < ADDRESSES_MAX);
    }
}
