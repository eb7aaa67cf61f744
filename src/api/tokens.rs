//! Tokens: who may come in, by what they show.
//!
//! ```text
//! # NAME  SHA-256 of the token, in hex
//! branch-7 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! ```
//!
//! The file holds hashes, so that whoever reads it comes in nowhere. A token must be long and random: `openssl
//! rand -hex 32` makes one, and `printf %s "$TOKEN" | sha256sum` its hash. All hashes are compared, each in the
//! same time whatever it holds.

use std::path::Path;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::{Error, Result};

/// The hashes of all tokens that come in.
#[derive(Clone)]
pub struct Tokens(Vec<[u8; 32]>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    /// Reads a file.
    pub fn from_file(file: &Path) -> Result<Tokens> {
        let text = std::fs::read_to_string(file).map_err(|e| {
            Error::invalid("TOKENS_FILE", format!("{} cannot be read: {e}", file.display()))
                .hint("auth.tokens_file names the file of tokens")
        })?;
        Tokens::read(&text)
    }

    /// Reads a file's text.
    pub fn read(text: &str) -> Result<Tokens> {
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let hashes = lines.map(|(at, line)| hash_in(line).ok_or_else(|| unreadable(at + 1)));
        let hashes = hashes.collect::<Result<Vec<_>>>()?;
        if hashes.is_empty() {
            return Err(Error::invalid(
                "TOKENS_FILE",
                "the file of tokens has none: nobody could come in",
            )
            .hint(HOW));
        }
        Ok(Tokens(hashes))
    }

    /// The hash of this token, if it is among ours.
    pub(super) fn holder(&self, token: &str) -> Option<[u8; 32]> {
        let shown: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let known = self.0.iter().fold(0, |known, ours| known | ours.ct_eq(&shown).unwrap_u8());
        (known == 1).then_some(shown)
    }
}

const HOW: &str =
    "one line for each token: a name, a blank, and what `printf %s \"$TOKEN\" | sha256sum` prints";

/// What stands there is not repeated: it may be a token.
fn unreadable(line: usize) -> Error {
    Error::invalid("TOKENS_FILE", format!("line {line} of the file of tokens is no name and hash"))
        .hint(HOW)
}

fn hash_in(line: &str) -> Option<[u8; 32]> {
    let mut words = line.split_whitespace();
    let (_name, hex) = (words.next()?, words.next()?);
    // `sha256sum` puts a dash behind it.
    let is_all = matches!(words.next(), None | Some("-")) && hex.len() == 64 && hex.is_ascii();
    let mut hash = [0; 32];
    for (i, byte) in hash.iter_mut().enumerate().filter(|_| is_all) {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
    }
    is_all.then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_tokens_come_in() {
        let line = "a 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let tokens = Tokens::read(&format!("# who\n\n{line}  -\n")).unwrap();
        assert!(tokens.holder("test").is_some());
        for other in
            ["", "tes", "test ", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
        {
            assert!(tokens.holder(other).is_none(), "{other}");
        }
        assert_eq!(format!("{tokens:?}"), "Tokens(1)");
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_repeated() {
        for wrong in ["", "# only words", "my-secret-token", "a my-secret-token", "a 9f86d081 x"] {
            let error = Tokens::read(wrong).unwrap_err();
            assert_eq!(error.code(), "TOKENS_FILE");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
