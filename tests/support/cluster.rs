//! A consortium from nothing to running: keys, coordinator, invitations, joining, roster.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use koinon_aggregation::Signer as _;
use koinon_aggregation::identity::Identity;
use koinon_aggregation::invitation::{Enrolment, Invitation, Terms};
use koinon_aggregation::roster::{Member, Role, Roster};
use koinon_client::node::NodeError;
use koinon_client::node::join::{self, JoinOptions};
use koinon_coordinator::server::config::Public;
use koinon_coordinator::server::init::{self, InitOptions};
use koinon_proto::{Digest, SiteId, wire};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;

use crate::node::{CoordinatorNode, SiteNode};
use crate::operator::Operator;
use crate::trainer::{Gate, Steady};

/// How a cluster is made.
#[derive(Clone, Default)]
pub struct Shape {
    /// How many sites.
    pub sites: usize,
    /// Every site's `chunk_bytes`, if not the usual.
    pub chunk_bytes: Option<usize>,
    /// Added to every site's `policy.toml`; tasks are approved unless this says otherwise.
    pub ask: bool,
}

/// The consortium and all its nodes. Sites have joined and are in the roster, and do not run yet.
pub struct Cluster {
    pub dir: TempDir,
    pub consortium: Identity,
    pub public: Public,
    pub coordinator: CoordinatorNode,
    pub operator: Operator,
    pub sites: Vec<SiteNode>,
    pub gate: Gate,
    invitations: Vec<Invitation>,
    version: u64,
    previous: Option<[u8; 32]>,
    members: Vec<Member>,
}

impl Cluster {
    /// A cluster whose sites approve every task.
    #[must_use]
    pub fn start(sites: usize) -> Self {
        Self::shaped(&Shape { sites, ..Shape::default() })
    }

    #[must_use]
    pub fn shaped(shape: &Shape) -> Self {
        crate::logs();
        let dir = tempfile::tempdir().unwrap();
        let consortium = Identity::generate(&mut rng());
        // The port is free again when this listener is gone; nobody else takes it meanwhile.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut coordinator = CoordinatorNode::new(dir.path().join("coordinator"), port);
        let public = init::init(&InitOptions {
            dir: coordinator.dir.clone(),
            name: SiteId::new("coordinator").unwrap(),
            listen: coordinator.address(),
            address: coordinator.address(),
            hosts: vec![],
            consortium_key: consortium.public(),
        })
        .unwrap();
        coordinator.start();

        let mut invitations = Vec::new();
        let operator_dir = dir.path().join("operator");
        invitations.push(invite(&consortium, &public, "operator", Role::Operator));
        join_with(&invitations[0], &operator_dir, &JoinOptions::default()).unwrap();
        let gate = Gate::default();
        let mut sites = Vec::new();
        for index in 0..shape.sites {
            let name = format!("site-{index:02}");
            let invitation = invite(&consortium, &public, &name, Role::Client);
            let site_dir = dir.path().join(&name);
            join_with(&invitation, &site_dir, &JoinOptions::default()).unwrap();
            settle_in(&site_dir, shape);
            invitations.push(invitation);
            sites.push(SiteNode::new(name, site_dir, Steady { gate: gate.clone() }));
        }
        let operator = Operator::open(&operator_dir);
        let coordinator_member = member("coordinator", Role::Coordinator, public.identity_key.0);
        let mut cluster = Self {
            dir,
            consortium,
            public,
            coordinator,
            operator,
            sites,
            gate,
            invitations,
            version: 0,
            previous: None,
            members: vec![coordinator_member],
        };
        cluster.sign_pending();
        cluster
    }

    /// An invitation that the consortium keeps.
    pub fn invite(&mut self, name: &str, role: Role) -> String {
        let invitation = invite(&self.consortium, &self.public, name, role);
        let token = invitation.to_token().to_string();
        self.invitations.push(invitation);
        token
    }

    /// Signs a roster with everybody who enrolled, and publishes it.
    pub fn sign_pending(&mut self) {
        for enrolment in self.operator.pending().enrolments {
            let enrolment = parts(&enrolment);
            let admitted = self
                .invitations
                .iter()
                .find_map(|invitation| invitation.admit(&enrolment, 0, u64::MAX).ok())
                .expect("only invited members enrol");
            self.members.push(admitted);
        }
        self.publish();
    }

    /// Revokes a member in a new roster.
    pub fn revoke(&mut self, name: &str) {
        let row = self.members.iter_mut().find(|member| member.name == name).unwrap();
        row.revoked = true;
        self.publish();
    }

    fn publish(&mut self) {
        self.version += 1;
        let roster = Roster {
            version: self.version,
            previous: self.previous,
            members: self.members.clone(),
        };
        let signed = roster.sign(&self.consortium).unwrap();
        self.operator.publish(signed.bytes()).unwrap();
        self.previous = Some(signed.digest());
    }

    pub fn start_sites(&mut self) {
        for site in &mut self.sites {
            site.start();
        }
    }

    /// Stops everything in order; nothing may complain.
    pub fn stop(&mut self) {
        for site in &mut self.sites {
            site.stop().unwrap();
        }
        self.coordinator.stop().unwrap();
    }

    /// The CA that all trust.
    #[must_use]
    pub fn ca(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.public.ca_pem.as_bytes()).unwrap()
    }

    /// A fresh folder's path.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Joins, blocking.
pub fn join_token(
    token: &str,
    dir: &Path,
    options: &JoinOptions,
) -> Result<join::Joined, NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(join::join(token, dir, options))
}

fn join_with(
    invitation: &Invitation,
    dir: &Path,
    options: &JoinOptions,
) -> Result<join::Joined, NodeError> {
    join_token(&invitation.to_token(), dir, options)
}

fn invite(consortium: &Identity, public: &Public, name: &str, role: Role) -> Invitation {
    let terms = Terms {
        name: name.into(),
        role,
        coordinator: public.address.clone(),
        ca_certificate: CertificateDer::from_pem_slice(public.ca_pem.as_bytes()).unwrap().to_vec(),
        expires_ms: now_ms() + 3_600_000,
    };
    Invitation::new(terms, consortium, &mut rng()).unwrap()
}

/// Sites of tests reach loopback directly, whatever the environment says.
fn settle_in(dir: &Path, shape: &Shape) {
    let path = dir.join("client.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("proxy = \"environment\"", "proxy = \"none\"");
    let text = match shape.chunk_bytes {
        Some(bytes) => text.replace("chunk_bytes = 65536", &format!("chunk_bytes = {bytes}")),
        None => text,
    };
    std::fs::write(&path, text).unwrap();
    if !shape.ask {
        let path = dir.join("policy.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replacen("default = \"ask\"", "default = \"always\"", 1);
        assert!(text.contains("always"));
        std::fs::write(&path, text).unwrap();
    }
}

fn member(name: &str, role: Role, key: [u8; 32]) -> Member {
    Member {
        name: name.into(),
        role,
        key,
        valid_from_ms: 0,
        valid_until_ms: u64::MAX,
        revoked: false,
    }
}

fn parts(enrolment: &wire::Enrolment) -> Enrolment {
    let bytes32 = |field: &[u8]| Digest::try_from(field).unwrap().0;
    Enrolment {
        admission: enrolment.admission.clone(),
        identity_key: bytes32(&enrolment.identity_key),
        binding: bytes32(&enrolment.binding),
        certificate_request: enrolment.certificate_request.clone(),
        signature: enrolment.signature[..].try_into().unwrap(),
    }
}

#[must_use]
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[must_use]
pub fn rng() -> rand::rngs::StdRng {
    rand::make_rng()
}
