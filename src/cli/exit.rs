//! How a command ends: a number for scripts, and words for people.

use std::process::ExitCode;

use crate::client;
use crate::config::Problems;
use crate::error::{self, Kind};

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Yes, or done.
    Yes = 0,
    /// No, different, unhealthy.
    No = 1,
    /// Usage, configuration, or nobody answered.
    Usage = 2,
    /// It may or may not have happened.
    Unknown = 3,
    /// A person must decide: fenced, diverged, restored.
    Decision = 4,
    /// The storage failed; a restart is safe.
    Storage = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl Exit {
    /// The exit that a number stands for; what is unknown is a no.
    pub fn from_code(code: u8) -> Exit {
        use Exit::*;
        [Yes, No, Usage, Unknown, Decision, Storage]
            .into_iter()
            .find(|exit| *exit as u8 == code)
            .unwrap_or(No)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The number.
    pub exit: Exit,
    /// The words, as they are printed.
    pub text: String,
}

/// A command's end.
pub type Outcome = Result<Exit, Failure>;

impl Failure {
    /// A failure with a code, a sentence and a hint.
    pub fn new(exit: Exit, code: &str, message: &str, hint: &str) -> Failure {
        let hint = if hint.is_empty() { String::new() } else { format!("\n  hint: {hint}") };
        Failure { exit, text: format!("error: {message} ({code}){hint}") }
    }

    /// Prints it, and gives its exit.
    pub fn report(self) -> Exit {
        eprintln!("{}", self.text);
        self.exit
    }
}

impl From<error::Error> for Failure {
    fn from(error: error::Error) -> Failure {
        let exit = match error.kind() {
            Kind::Invalid | Kind::Forbidden | Kind::Unavailable => Exit::Usage,
            Kind::Retry | Kind::Behind => Exit::No,
            Kind::Unknown => Exit::Unknown,
            Kind::Conflict | Kind::Diverged => Exit::Decision,
            Kind::Corrupt | Kind::Storage => Exit::Storage,
        };
        Failure::new(exit, error.code(), error.message(), error.hint_text())
    }
}

impl From<client::Failure> for Failure {
    fn from(failure: client::Failure) -> Failure {
        let exit = match &failure {
            client::Failure::Unreachable { perhaps_done: true, .. } => Exit::Unknown,
            client::Failure::Refused(refusal) => of_refusal(refusal),
            _ => Exit::Usage,
        };
        let hint = failure.hint().unwrap_or_default();
        Failure::new(exit, failure.code(), &failure.to_string(), &hint)
    }
}

fn of_refusal(refusal: &client::Refusal) -> Exit {
    match (refusal.status, refusal.retry.as_str()) {
        (409, _) => Exit::Decision,
        (_, "unknown") => Exit::Unknown,
        (400..=499, _) => Exit::Usage,
        _ => Exit::No,
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Failure {
        Failure { exit: Exit::Usage, text: problems.to_string() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(Exit::No, "IO", &error.to_string(), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_to_do_next_decides_the_exit() {
        let exit = |error: Error| Failure::from(error).exit;
        assert_eq!(exit(Error::invalid("X", "")), Exit::Usage);
        assert_eq!(exit(Error::diverged("X", "")), Exit::Decision);
        assert_eq!(exit(Error::storage("X", "")), Exit::Storage);
        assert_eq!(exit(Error::new(Kind::Unknown, "X", "")), Exit::Unknown);
    }

    #[test]
    fn a_refusal_keeps_unknown_apart_from_no() {
        let exit = |status, retry: &str| {
            of_refusal(&client::Refusal {
                status,
                code: "X".into(),
                message: String::new(),
                hint: String::new(),
                retry: retry.into(),
            })
        };
        assert_eq!(exit(409, "no"), Exit::Decision);
        assert_eq!(exit(503, "unknown"), Exit::Unknown);
        assert_eq!(exit(404, "no"), Exit::Usage);
        assert_eq!(exit(503, "yes"), Exit::No);
    }

    #[test]
    fn numbers_are_exits() {
        for exit in [Exit::Yes, Exit::No, Exit::Usage, Exit::Unknown, Exit::Decision, Exit::Storage]
        {
            assert_eq!(Exit::from_code(exit as u8), exit);
        }
    }
}
