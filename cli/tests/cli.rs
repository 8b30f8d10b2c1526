//! The program from outside: every command as a person or a script runs it, with what it answers when something is wrong.
//!
//! One test binary. Deliberately no look inside: only arguments, files, processes, output and exit codes. Start at
//! `cli/support.rs`; the pages in `docs/` are tested in `cli/docs.rs` and `cli/quickstart.rs`.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly anywhere")]

#[path = "cli/support.rs"]
mod support;

#[path = "cli/federation.rs"]
mod federation;

#[path = "cli/usage.rs"]
mod usage;

#[path = "cli/settings.rs"]
mod settings;

#[path = "cli/keys.rs"]
mod keys;

#[path = "cli/members.rs"]
mod members;

#[path = "cli/data.rs"]
mod data;

#[path = "cli/faults.rs"]
mod faults;

#[path = "cli/output.rs"]
mod output;

#[path = "cli/docs.rs"]
mod docs;

#[cfg(unix)]
#[path = "cli/quickstart.rs"]
mod quickstart;
