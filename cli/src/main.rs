//! The program `koinon`: parse, dispatch, exit codes; nothing else.
//!
//! Start reading at [`Command`]; each sub-command lives in `commands/` or, for the main job, in `demo/`.

mod commands;
mod exit;
mod output;

#[cfg(feature = "bench")]
mod bench;
#[cfg(any(feature = "demo", feature = "bench"))]
#[cfg_attr(not(feature = "demo"), expect(dead_code, reason = "most charts are the demo's"))]
mod chart;
#[cfg(feature = "demo")]
mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Federated learning and split inference in which raw rows never leave a site.
///
/// One program for all: whoever runs a site, the coordinator, a partition server, or a simulation.
#[derive(Parser)]
#[command(name = "koinon", version, after_help = BEGIN)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What somebody needs who sees the list of commands for the first time.
const BEGIN: &str = "\
Begin with `koinon demo`: sixteen hospitals on this machine, with kills and all.
By hand, as a consortium would deploy it: docs/quickstart.md.";

#[derive(Subcommand)]
enum Command {
    /// Run the main job: sixteen hospitals train one model together, privately, and run it split.
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
    /// The coordinator: schedules rounds, sees only sums.
    #[cfg(feature = "coordinator")]
    #[command(subcommand)]
    Coordinator(commands::coordinator::Command),
    /// The consortium's key and its signed list of members; keep them off the coordinator.
    #[command(subcommand)]
    Roster(commands::roster::Command),
    /// Join a federation with a token; the role is in the token, the keys are made here.
    #[cfg(feature = "client")]
    Join(commands::join::Arguments),
    /// The node beside a site's data.
    #[cfg(feature = "client")]
    #[command(subcommand)]
    Client(commands::client::Command),
    /// The server that runs the rest of a cut model, on activations only.
    #[cfg(feature = "partition")]
    #[command(subcommand)]
    Partition(commands::partition::Command),
    /// What the sites are asked to do.
    #[cfg(feature = "client")]
    #[command(subcommand)]
    Task(commands::task::Command),
    /// Models: fetch, look at, cut, verify.
    #[cfg(feature = "client")]
    #[command(subcommand)]
    Model(commands::model::Command),
    /// Score a site's own rows with a model: here, or with the tail at a partition server.
    #[cfg(feature = "client")]
    Infer(commands::infer::Arguments),
    /// Run a scenario: the shipped coordinator and clients in one thread, under one seed.
    #[cfg(feature = "simulate")]
    Simulate(commands::simulate::Arguments),
    /// What the private sum costs on this machine, in CPU time.
    #[cfg(feature = "bench")]
    #[command(subcommand)]
    Bench(commands::bench::Command),
    /// Parts of the demo that run as processes of their own.
    #[cfg(feature = "demo")]
    #[command(subcommand, hide = true)]
    DemoPart(demo::Part),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr().lock(), "koinon: {error:#}");
            ExitCode::from(exit::code_of(&error))
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        #[cfg(feature = "demo")]
        Command::Demo(a) => demo::run(&a),
        #[cfg(feature = "coordinator")]
        Command::Coordinator(c) => commands::coordinator::run(c),
        Command::Roster(c) => commands::roster::run(c),
        #[cfg(feature = "client")]
        Command::Join(a) => commands::join::run(&a),
        #[cfg(feature = "client")]
        Command::Client(c) => commands::client::run(c),
        #[cfg(feature = "partition")]
        Command::Partition(c) => commands::partition::run(c),
        #[cfg(feature = "client")]
        Command::Task(c) => commands::task::run(c),
        #[cfg(feature = "client")]
        Command::Model(c) => commands::model::run(c),
        #[cfg(feature = "client")]
        Command::Infer(a) => commands::infer::run(&a),
        #[cfg(feature = "simulate")]
        Command::Simulate(a) => commands::simulate::run(&a),
        #[cfg(feature = "bench")]
        Command::Bench(c) => commands::bench::run(c),
        #[cfg(feature = "demo")]
        Command::DemoPart(p) => demo::part(p),
    }
}
