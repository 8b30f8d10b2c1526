//! `koinon partition`: the server that runs the rest of a cut model.

use std::path::PathBuf;

use clap::Subcommand;
use koinon_partition::{config, server};

use crate::exit::{Exit, OrExit as _, fail};
use crate::output::say;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve the versions in its models folder until asked to stop; new ones are found by themselves.
    Run {
        /// The folder that `koinon join` made with a partition server's token.
        #[arg(long, default_value = "partition")]
        dir: PathBuf,
        /// Address and port to listen on instead of the file's.
        #[arg(long)]
        listen: Option<String>,
    },
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    let Command::Run { dir, listen } = command;
    super::log_to_stderr();
    let mut config = config::load(&dir).map_err(|e| fail(Exit::Config, e))?;
    if let Some(listen) = listen {
        config.listen = listen;
    }
    super::runtime()?.block_on(async {
        let address = config.listen.clone();
        let listener = tokio::net::TcpListener::bind(&address).await.map_err(|e| {
            fail(
                Exit::Network,
                format!("cannot listen on {address}: {e}; choose another with --listen"),
            )
        })?;
        say(format!("listening on {}", listener.local_addr().or_exit(Exit::Network)?));
        server::run(config, listener, super::asked_to_stop()).await.map_err(|e| match e {
            server::ServerError::File(_) => fail(Exit::Config, e),
            server::ServerError::Transport(_) => fail(Exit::Network, e),
        })
    })
}
