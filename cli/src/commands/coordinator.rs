//! `koinon coordinator`: make its folder, run it.

use std::path::PathBuf;

use clap::Subcommand;
use koinon_coordinator::server::{self, ServerError, config, init};
use koinon_proto::SiteId;

use crate::exit::{Exit, OrExit as _};
use crate::output::say;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the coordinator's folder: certificate authority, identity, configuration.
    Init {
        /// Folder to make.
        #[arg(long, default_value = "coordinator")]
        dir: PathBuf,
        /// The coordinator's name in the roster.
        #[arg(long, default_value = "coordinator")]
        name: SiteId,
        /// Address and port to listen on.
        #[arg(long, default_value = "127.0.0.1:7443")]
        listen: String,
        /// The address that members dial, if it differs from `--listen`.
        #[arg(long)]
        address: Option<String>,
        /// Further host names for the certificate.
        #[arg(long)]
        host: Vec<String>,
        /// The consortium's public key (consortium.pub), made by `koinon roster init`.
        #[arg(long)]
        consortium: PathBuf,
    },
    /// Run the coordinator until it is asked to stop; after a crash it goes on where it was.
    Run {
        /// The coordinator's folder.
        #[arg(long, default_value = "coordinator")]
        dir: PathBuf,
    },
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init { dir, name, listen, address, host, consortium } => {
            let key = super::consortium::read_public(&consortium)?;
            let address = address.unwrap_or_else(|| listen.clone());
            let options = init::InitOptions {
                dir: dir.clone(),
                name,
                listen,
                address,
                hosts: host,
                consortium_key: key.0,
            };
            init::init(&options).or_code(ServerError::exit_code)?;
            let dir = dir.display();
            say(format!(
                "made {dir}; give {dir}/public.toml to the consortium, it invites with it"
            ));
            say(format!("run it with: koinon coordinator run --dir {dir}"));
            Ok(())
        }
        Command::Run { dir } => {
            super::log_to_stderr();
            let config = config::load(&dir).or_code(ServerError::exit_code)?;
            super::runtime()?.block_on(async {
                let listener = server::bind(&config).await.or_code(ServerError::exit_code)?;
                say(format!("listening on {}", listener.local_addr().or_exit(Exit::Network)?));
                server::run(config, listener, super::asked_to_stop())
                    .await
                    .or_code(ServerError::exit_code)
            })
        }
    }
}
