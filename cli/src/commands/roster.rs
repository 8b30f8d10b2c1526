//! `koinon roster`: the consortium's side. Its key signs who is a member; the coordinator can neither invent nor swap one.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use koinon_aggregation::identity::{Identity, fingerprint};
use koinon_aggregation::invitation::{Invitation, Terms};
#[cfg(feature = "client")]
use koinon_aggregation::roster::Roster;
use koinon_aggregation::roster::{Member, Role, SignedRoster};
use koinon_aggregation::signer::Signer as _;

use super::clock::{date, now_ms};
use super::consortium::{Folder, Kept, PUBLIC};
#[cfg(feature = "client")]
use crate::exit::fail;
use crate::exit::{Exit, OrExit as _};
use crate::output::{Format, say, say_json, table};

/// How long a membership is valid.
#[cfg(feature = "client")]
const MEMBERSHIP_MS: u64 = 2 * 365 * 24 * 3_600_000;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the consortium's key. Keep this folder off the coordinator, and keep a copy in a safe.
    Init {
        /// Folder to make.
        #[arg(long, default_value = "consortium")]
        dir: PathBuf,
    },
    /// Make a token with which one member can join once. Whoever has it can join under the name: hand it over in private.
    Invite {
        /// What the member will be.
        role: Invited,
        /// Its name: 1 to 64 of a-z, 0-9 and -.
        name: String,
        /// The consortium's folder.
        #[arg(long, default_value = "consortium")]
        dir: PathBuf,
        /// The coordinator's public.toml, or its folder.
        #[arg(long)]
        coordinator: PathBuf,
        /// The coordinator's address as this member sees it, if it differs from public.toml.
        #[arg(long)]
        address: Option<String>,
        /// Days until the token is worth nothing.
        #[arg(long, default_value_t = 14)]
        days: u64,
    },
    /// Check who joined, sign the next roster and publish it.
    #[cfg(feature = "client")]
    Sign {
        /// The consortium's folder.
        #[arg(long, default_value = "consortium")]
        dir: PathBuf,
        /// Folder of an operator that joined.
        #[arg(long)]
        operator: PathBuf,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Also lengthen every membership that is not revoked, as if it began today.
        #[arg(long)]
        renew: bool,
    },
    /// The last roster signed here, with fingerprints.
    List {
        /// The consortium's folder.
        #[arg(long, default_value = "consortium")]
        dir: PathBuf,
        /// Text or JSON.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Take a membership back; it holds once every site has the new roster.
    #[cfg(feature = "client")]
    Revoke {
        /// The member's name.
        name: String,
        /// The consortium's folder.
        #[arg(long, default_value = "consortium")]
        dir: PathBuf,
        /// Folder of an operator that joined.
        #[arg(long)]
        operator: PathBuf,
    },
}

/// Roles that can be invited; the coordinator makes itself known when the first roster is signed.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Invited {
    /// A client node at a site.
    Client,
    /// A partition server.
    Partition,
    /// Somebody who submits tasks and publishes rosters.
    Operator,
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init { dir } => init(&dir),
        Command::Invite { role, name, dir, coordinator, address, days } => {
            invite(role, name, &dir, &coordinator, address, days)
        }
        #[cfg(feature = "client")]
        Command::Sign { dir, operator, yes, renew } => sign(&dir, &operator, yes, renew),
        Command::List { dir, format } => list(&dir, format),
        #[cfg(feature = "client")]
        Command::Revoke { name, dir, operator } => revoke(&name, &dir, &operator),
    }
}

fn init(dir: &Path) -> anyhow::Result<()> {
    let identity = Identity::generate(&mut super::entropy());
    Folder::create(dir, &identity.to_secret_bytes(), &identity.public())?;
    say(format!(
        "made {}; the consortium's key is {}",
        dir.display(),
        fingerprint(&identity.public())
    ));
    say(format!(
        "give {} to the coordinator: koinon coordinator init --consortium …",
        dir.join(PUBLIC).display()
    ));
    Ok(())
}

fn invite(
    role: Invited,
    name: String,
    dir: &Path,
    coordinator: &Path,
    address: Option<String>,
    days: u64,
) -> anyhow::Result<()> {
    let folder = Folder::open(dir)?;
    let public = super::public::load(coordinator)?;
    let role = match role {
        Invited::Client => Role::Client,
        Invited::Partition => Role::Partition,
        Invited::Operator => Role::Operator,
    };
    let terms = Terms {
        name: name.clone(),
        role,
        coordinator: address.unwrap_or(public.address),
        ca_certificate: public.ca,
        expires_ms: now_ms() + days * 24 * 3_600_000,
    };
    let consortium = Identity::from_secret_bytes(&folder.secret()?);
    let invitation =
        Invitation::new(terms, &consortium, &mut super::entropy()).or_exit(Exit::Usage)?;
    let token = invitation.to_token();
    let mut kept = folder.invitations()?;
    let expires_ms = invitation.terms().expires_ms;
    kept.push(Kept { name, role: role.to_string(), token: token.to_string(), expires_ms });
    folder.keep_invitations(&kept)?;
    say(token.as_str());
    Ok(())
}

#[cfg(feature = "client")]
fn sign(dir: &Path, operator: &Path, yes: bool, renew: bool) -> anyhow::Result<()> {
    let folder = Folder::open(dir)?;
    let operator = super::operator::Operator::open(operator)?;
    let pending = operator.pending()?;
    let consortium = Identity::from_secret_bytes(&folder.secret()?);
    let mut next = next_roster(&folder, &consortium)?;
    let coordinator: [u8; 32] = pending.coordinator_key.as_slice().try_into().map_err(|_| {
        fail(Exit::Refused, "the coordinator names no identity key; check its version")
    })?;
    let name = operator.coordinator_name().to_owned();
    let mut changes = vec![member(&name, Role::Coordinator, coordinator)];
    let kept = folder.invitations()?;
    for enrolment in pending.enrolments {
        changes.push(admitted(&kept, enrolment)?);
    }
    // A coordinator that was revoked, or whose key was never changed, gives no new row.
    changes.retain(|m| !next.members.iter().any(|old| old.name == m.name && old.key == m.key));
    if changes.is_empty() && !renew {
        say("nobody new has joined; the roster stays as it is");
        return Ok(());
    }
    if renew {
        let until = now_ms() + MEMBERSHIP_MS;
        next.members.iter_mut().filter(|m| !m.revoked).for_each(|m| m.valid_until_ms = until);
        say(format!("every membership is valid until {}", date(until)));
    }
    for new in &changes {
        say(format!("{:<12} {:<24} {}", new.role, new.name, fingerprint(&new.key)));
        if let Some(old) = next.members.iter().find(|old| old.name == new.name) {
            say(format!("{:<12} {:<24} {}", "", "  instead of", fingerprint(&old.key)));
        }
        next.members.retain(|old| old.name != new.name);
        next.members.push(new.clone());
    }
    if !yes && !confirmed("sign these members with the consortium's key? [y/N] ")? {
        return Err(fail(Exit::Interrupted, "nothing was signed"));
    }
    publish(&folder, &operator, next, &consortium)
}

/// The row of an enrolment, after everything was checked against the invitation that was handed out.
#[cfg(feature = "client")]
fn admitted(kept: &[Kept], enrolment: koinon_proto::wire::Enrolment) -> anyhow::Result<Member> {
    use koinon_aggregation::invitation::{Enrolment, InvitationError};
    let sized = |bytes: Vec<u8>, what: &str| {
        <[u8; 32]>::try_from(bytes)
            .map_err(|_| fail(Exit::Refused, format!("an enrolment's {what} has not 32 bytes")))
    };
    let signature = <[u8; 64]>::try_from(enrolment.signature)
        .map_err(|_| fail(Exit::Refused, "an enrolment's signature has not 64 bytes"))?;
    let enrolment = Enrolment {
        admission: enrolment.admission,
        identity_key: sized(enrolment.identity_key, "identity key")?,
        binding: sized(enrolment.binding, "binding")?,
        certificate_request: enrolment.certificate_request,
        signature,
    };
    let now = now_ms();
    for k in kept {
        let invitation = Invitation::parse_token(&k.token).or_exit(Exit::Config)?;
        match invitation.admit(&enrolment, now.saturating_sub(3_600_000), now + MEMBERSHIP_MS) {
            Err(InvitationError::OtherInvitation) => {}
            row => {
                let what = || format!("the enrolment of {} is not what was invited", k.name);
                return row.with_context(what).or_exit(Exit::Refused);
            }
        }
    }
    Err(fail(
        Exit::Refused,
        "somebody enrolled with an invitation that this folder did not make; nothing was signed",
    ))
}

#[cfg(feature = "client")]
fn revoke(name: &str, dir: &Path, operator: &Path) -> anyhow::Result<()> {
    let folder = Folder::open(dir)?;
    let consortium = Identity::from_secret_bytes(&folder.secret()?);
    let mut next = next_roster(&folder, &consortium)?;
    let names: Vec<String> = next.members.iter().map(|m| m.name.clone()).collect();
    let Some(member) = next.members.iter_mut().find(|m| m.name == name) else {
        let near = koinon_proto::nearest::nearest(name, names.iter().map(String::as_str));
        let hint = near.map_or_else(String::new, |n| format!("; did you mean {n}?"));
        return Err(fail(Exit::Usage, format!("no member is named {name}{hint}")));
    };
    if member.revoked {
        return Err(fail(Exit::Usage, format!("{name} is revoked already")));
    }
    member.revoked = true;
    let operator = super::operator::Operator::open(operator)?;
    publish(&folder, &operator, next, &consortium)
}

#[cfg(feature = "client")]
fn publish(
    folder: &Folder,
    operator: &super::operator::Operator,
    next: Roster,
    consortium: &Identity,
) -> anyhow::Result<()> {
    let version = next.version;
    let members = next.members.iter().filter(|m| !m.revoked).count();
    let signed = next.sign(consortium).or_exit(Exit::Config)?;
    // Kept before it is published: a roster that is out must be known here, or two would have one version.
    folder.keep_roster(signed.bytes())?;
    operator.publish(signed.bytes())?;
    say(format!("roster version {version} signed and published: {members} members"));
    Ok(())
}

/// The last roster as a draft of the next version.
#[cfg(feature = "client")]
fn next_roster(folder: &Folder, consortium: &Identity) -> anyhow::Result<Roster> {
    let Some(bytes) = folder.roster()? else {
        return Ok(Roster { version: 1, previous: None, members: Vec::new() });
    };
    let last = SignedRoster::verify(&bytes, &consortium.public())
        .context("roster.bin")
        .or_exit(Exit::Config)?;
    let version = last.roster().version + 1;
    Ok(Roster { version, previous: Some(last.digest()), members: last.roster().members.clone() })
}

#[cfg(feature = "client")]
fn member(name: &str, role: Role, key: [u8; 32]) -> Member {
    let now = now_ms();
    Member {
        name: name.into(),
        role,
        key,
        valid_from_ms: now.saturating_sub(3_600_000),
        valid_until_ms: now + MEMBERSHIP_MS,
        revoked: false,
    }
}

fn list(dir: &Path, format: Format) -> anyhow::Result<()> {
    let folder = Folder::open(dir)?;
    let public = Identity::from_secret_bytes(&folder.secret()?).public();
    let Some(bytes) = folder.roster()? else {
        say("no roster was signed yet; `koinon roster sign` does it once somebody joined");
        return Ok(());
    };
    let signed =
        SignedRoster::verify(&bytes, &public).context("roster.bin").or_exit(Exit::Config)?;
    let state = |m: &Member| if m.revoked { "revoked" } else { "member" };
    if format == Format::Json {
        let members: Vec<_> = signed.roster().members.iter().map(|m| serde_json::json!({
            "name": m.name, "role": m.role.as_str(), "state": state(m), "fingerprint": fingerprint(&m.key),
            "valid_until_ms": m.valid_until_ms,
        })).collect();
        return say_json(
            &serde_json::json!({ "version": signed.roster().version, "members": members }),
        );
    }
    let mut rows =
        vec![["name", "role", "state", "valid until", "fingerprint"].map(String::from).to_vec()];
    for m in &signed.roster().members {
        rows.push(vec![
            m.name.clone(),
            m.role.to_string(),
            state(m).into(),
            date(m.valid_until_ms),
            fingerprint(&m.key),
        ]);
    }
    say(format!("roster version {}", signed.roster().version));
    say(table(&rows).trim_end());
    Ok(())
}

#[cfg(feature = "client")]
fn confirmed(question: &str) -> anyhow::Result<bool> {
    use std::io::Write as _;
    write!(std::io::stderr(), "{question}")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
