//! Errors, sorted by what the caller does next.
//!
//! Every error has a [`Kind`] (the next action), a stable code that scripts may match on, a
//! sentence, and a hint that names the next step. The source is kept for the log. SQL errors that
//! SQLite itself reports keep its own codes (`SQLITE_CONSTRAINT_UNIQUE`); see [`Error::extended`].

use std::fmt;

/// What the caller should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong and will stay wrong: change it.
    Invalid,
    /// The same request may succeed now: try again.
    Retry,
    /// Another writer was first: read again, decide again, try again.
    Conflict,
    /// This copy has not got that far yet: wait, or ask the writer.
    Behind,
    /// Two histories parted: HEAL's business, or a person's decision.
    Diverged,
    /// Stored bytes are not what was written: stop using this copy.
    Corrupt,
    /// Something needed is away: it may come back by itself.
    Unavailable,
    /// It may or may not have happened: ask with the receipt or the idempotency key.
    Unknown,
    /// The caller may not do this.
    Forbidden,
    /// The storage under us failed: the process stops; a restart is safe.
    Storage,
}

/// Whether the same request may be sent again, as clients are told in `error.retry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Nothing happened; the same request may succeed.
    Yes,
    /// It will fail again until something changes.
    No,
    /// It may have happened.
    Unknown,
}

impl Retry {
    /// `yes`, `no` or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Retry::Yes => "yes",
            Retry::No => "no",
            Retry::Unknown => "unknown",
        }
    }
}

impl Kind {
    /// Whether a client may send the same request again.
    pub fn retry(self) -> Retry {
        match self {
            Kind::Retry | Kind::Behind | Kind::Unavailable | Kind::Conflict => Retry::Yes,
            Kind::Unknown | Kind::Storage => Retry::Unknown,
            Kind::Invalid | Kind::Diverged | Kind::Corrupt | Kind::Forbidden => Retry::No,
        }
    }
}

/// An error with a stable code, a sentence and a hint.
///
/// One pointer wide, so that `Result` stays small on hot paths.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    code: &'static str,
    extended: Option<&'static str>,
    message: String,
    hint: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// `Result` with our [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a stable `code` (upper-case, `_`), and a sentence.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            code,
            extended: None,
            message: message.into(),
            hint: String::new(),
            source: None,
        }))
    }

    /// What to do next, as a sentence or a command.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = hint.into();
        self
    }

    /// The finer code (SQLite's extended result code), where there is one.
    pub fn with_extended(mut self, code: &'static str) -> Self {
        self.0.extended = Some(code);
        self
    }

    /// The error underneath, for the log.
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// A wrong request.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Error::new(Kind::Invalid, code, message)
    }

    /// A request that may be sent again as it is.
    pub fn retry(code: &'static str, message: impl Into<String>) -> Self {
        Error::new(Kind::Retry, code, message)
    }

    /// Something needed is away.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Error::new(Kind::Unavailable, code, message)
    }

    /// Stored or received bytes that are not what was written.
    pub fn corrupt(code: &'static str, message: impl Into<String>) -> Self {
        Error::new(Kind::Corrupt, code, message)
    }

    /// Two histories that parted.
    pub fn diverged(code: &'static str, message: impl Into<String>) -> Self {
        Error::new(Kind::Diverged, code, message)
    }

    /// The storage failed.
    pub fn storage(code: &'static str, message: impl Into<String>) -> Self {
        Error::new(Kind::Storage, code, message)
    }

    /// What the caller does next.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// SQLite's extended code, or the code itself.
    pub fn extended(&self) -> &'static str {
        self.0.extended.unwrap_or(self.0.code)
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The next step; may be empty where the message says it all.
    pub fn hint_text(&self) -> &str {
        &self.0.hint
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.message, self.extended())?;
        if !self.0.hint.is_empty() {
            write!(f, "; {}", self.0.hint)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        if let Some(source) = &self.0.source {
            write!(f, " [{source}]")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}
