//! Exit codes: stable, documented in `docs/operate.md`, one per class of trouble.

use std::fmt;

/// What kind of trouble ended the program. The numbers never change.
#[cfg_attr(
    not(feature = "client"),
    expect(dead_code, reason = "a role built alone does not meet every kind of trouble")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command line is wrong (clap uses the same number).
    Usage = 2,
    /// A configuration, key or other file is wrong or missing.
    Config = 3,
    /// The site's data are wrong.
    Data = 4,
    /// A policy or a peer said no.
    Refused = 5,
    /// The network, a certificate or a port stands in the way.
    Network = 6,
    /// Journal, ledger or disk: nothing left this machine.
    State = 7,
    /// A round or task ended without a result.
    Task = 8,
    /// A check found that something does not hold.
    Verification = 9,
    /// Stopped from outside.
    Interrupted = 130,
}

/// An error with its exit code. Attach one with [`OrExit`]; an error without one ends as 1.
#[derive(Debug)]
pub(crate) struct Coded {
    code: u8,
    source: anyhow::Error,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.source)
    }
}

impl std::error::Error for Coded {}

/// Gives an error its exit code.
pub(crate) trait OrExit<T, E> {
    /// Marks the error, keeping what it says.
    fn or_exit(self, exit: Exit) -> anyhow::Result<T>;
    /// Marks the error with the code that it names itself.
    fn or_code(self, code: impl Fn(&E) -> u8) -> anyhow::Result<T>
    where
        Self: Sized;
}

impl<T, E: Into<anyhow::Error>> OrExit<T, E> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> anyhow::Result<T> {
        self.or_code(|_| exit as u8)
    }

    fn or_code(self, code: impl Fn(&E) -> u8) -> anyhow::Result<T> {
        self.map_err(|error| {
            let code = code(&error);
            anyhow::Error::new(Coded { code, source: error.into() })
        })
    }
}

/// An error made here, with its exit code.
pub(crate) fn fail(exit: Exit, message: impl fmt::Display) -> anyhow::Error {
    anyhow::Error::new(Coded { code: exit as u8, source: anyhow::anyhow!("{message}") })
}

/// The exit code of an error: the outermost one that was given.
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|e| e.downcast_ref::<Coded>()).map_or(1, |c| c.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coded_error_keeps_its_code_under_context() {
        let e = Err::<(), _>(std::io::Error::other("full")).or_exit(Exit::State).unwrap_err();
        assert_eq!(code_of(&e.context("while writing the ledger")), 7);
        assert_eq!(code_of(&anyhow::anyhow!("plain")), 1);
    }
}
