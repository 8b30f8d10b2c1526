//! `koinon join`: from a token to a member's folder.

use std::path::PathBuf;

use koinon_aggregation::identity::fingerprint;
use koinon_aggregation::roster::Role;
use koinon_client::node::NodeError;
use koinon_client::node::join::{self, JoinOptions};

use crate::exit::OrExit as _;
use crate::output::{Format, say, say_json};

/// What joining needs.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The token from the consortium; it is a secret until it was used.
    token: String,
    /// Folder to make; for a client it may hold the site's data already.
    #[arg(long)]
    dir: PathBuf,
    /// The coordinator's address, if it is another one than the token says.
    #[arg(long)]
    address: Option<String>,
    /// Further host names for a partition server's certificate.
    #[arg(long)]
    host: Vec<String>,
    /// Text or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let options = JoinOptions {
        address: arguments.address.clone(),
        hosts: arguments.host.clone(),
        ..JoinOptions::default()
    };
    let joining = join::join(&arguments.token, &arguments.dir, &options);
    let joined = super::runtime()?.block_on(joining).or_code(NodeError::exit_code)?;
    let dir = arguments.dir.display();
    #[cfg(feature = "partition")]
    if joined.pins.role == Role::Partition {
        let path = arguments.dir.join(koinon_partition::config::FILE);
        if !path.exists() {
            std::fs::write(&path, koinon_partition::config::TEMPLATE)
                .or_exit(crate::exit::Exit::State)?;
        }
    }
    if arguments.format == Format::Json {
        return say_json(&serde_json::json!({
            "name": joined.pins.name, "role": joined.pins.role.as_str(), "already": joined.already,
            "fingerprint": fingerprint(&joined.identity_key),
            "transport": { "written": joined.transport.written, "handshake_written": joined.transport.handshake_written },
        }));
    }
    let done = if joined.already { "had joined already" } else { "joined" };
    say(format!(
        "{} {done} as {}; its key was made in {dir} and never leaves it",
        joined.pins.name, joined.pins.role
    ));
    say(format!("fingerprint {}", fingerprint(&joined.identity_key)));
    say(match joined.pins.role {
        Role::Client => {
            format!("next: koinon client check --dir {dir}, then koinon client run --dir {dir}")
        }
        Role::Partition => format!(
            "next: koinon model pull into {dir}/models, then koinon partition run --dir {dir}"
        ),
        _ => format!("next: koinon roster sign --operator {dir}"),
    });
    Ok(())
}
