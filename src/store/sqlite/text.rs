//! Just enough of SQL's text: where statements end, how one begins, which names it uses.
//!
//! What a statement *does* is learned from SQLite's authorizer; this is for the three things that must
//! be known before SQLite sees it.

use std::borrow::Cow;

/// A token and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    start: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A bare word: keyword, name, number.
    Word,
    /// A quoted name: "…", […] or `…`.
    Quoted,
    /// A string.
    String,
    /// One byte of anything else.
    Punctuation,
}

/// Walks over the tokens; white space and comments are passed over.
struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn skip_space(&mut self) {
        loop {
            let rest = &self.sql[self.at..];
            if rest.starts_with("--") {
                self.at += rest.find('\n').map_or(rest.len(), |i| i + 1);
            } else if let Some(comment) = rest.strip_prefix("/*") {
                self.at += comment.find("*/").map_or(rest.len(), |i| i + 4);
            } else if let Some(c) =
                rest.chars().next().filter(|c| c.is_whitespace() || *c == '\u{feff}')
            {
                self.at += c.len_utf8();
            } else {
                return;
            }
        }
    }

    /// The length of a token that ends with `end`, which stands for itself when doubled.
    fn delimited(rest: &str, end: char, doubles: bool) -> usize {
        let mut chars = rest.char_indices().skip(1).peekable();
        while let Some((i, c)) = chars.next() {
            if c == end {
                if doubles && chars.peek().is_some_and(|(_, next)| *next == end) {
                    chars.next();
                } else {
                    return i + c.len_utf8();
                }
            }
        }
        rest.len()
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_space();
        let rest = &self.sql[self.at..];
        let first = rest.chars().next()?;
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
        let (kind, length) = match first {
            '\'' => (Kind::String, Self::delimited(rest, '\'', true)),
            '"' => (Kind::Quoted, Self::delimited(rest, '"', true)),
            '`' => (Kind::Quoted, Self::delimited(rest, '`', true)),
            '[' => (Kind::Quoted, Self::delimited(rest, ']', false)),
            c if word(c) => (Kind::Word, rest.find(|c| !word(c)).unwrap_or(rest.len())),
            c => (Kind::Punctuation, c.len_utf8()),
        };
        let start = self.at;
        self.at += length;
        Some(Token { kind, text: &rest[..length], start })
    }
}

fn tokens(sql: &str) -> Tokens<'_> {
    Tokens { sql, at: 0 }
}

impl Token<'_> {
    fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// The name it spells, without quotes.
    fn name(&self) -> Option<&str> {
        match self.kind {
            Kind::Word => Some(self.text),
            Kind::Quoted if self.text.len() >= 2 => Some(&self.text[1..self.text.len() - 1]),
            _ => None,
        }
    }
}

/// How a statement begins, as far as transactions go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    /// BEGIN; DEFERRED unless it says more.
    Begin(Begin),
    /// COMMIT or END.
    Commit,
    /// ROLLBACK of the whole transaction.
    Rollback,
    /// SAVEPOINT name.
    Savepoint(String),
    /// RELEASE name.
    Release(String),
    /// ROLLBACK TO name.
    RollbackTo(String),
}

/// The kinds of BEGIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Takes the writer at its first write.
    Deferred,
    /// Takes it at once (IMMEDIATE or EXCLUSIVE).
    Immediate,
    /// Never writes: BEGIN TRANSACTION READONLY of the JavaScript client.
    ReadOnly,
}

/// Recognises transaction control; none for every other statement.
pub(crate) fn control(sql: &str) -> Option<Control> {
    if !begins_with(sql, &["BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"]) {
        return None;
    }
    let words: Vec<Token<'_>> =
        tokens(sql).skip_while(|t| t.text == ";").take_while(|t| t.text != ";").take(5).collect();
    let word = |i: usize, text: &str| words.get(i).is_some_and(|t| t.is(text));
    let name = |i: usize| words.get(i).and_then(|t| t.name()).map(str::to_owned);
    let transaction = usize::from(word(1, "TRANSACTION"));
    if word(0, "BEGIN") {
        let begin = words[1..].iter().find_map(|t| {
            (t.is("IMMEDIATE") || t.is("EXCLUSIVE"))
                .then_some(Begin::Immediate)
                .or(t.is("READONLY").then_some(Begin::ReadOnly))
        });
        return Some(Control::Begin(begin.unwrap_or(Begin::Deferred)));
    }
    if word(0, "COMMIT") || word(0, "END") {
        return Some(Control::Commit);
    }
    if word(0, "ROLLBACK") {
        if !word(1 + transaction, "TO") {
            return Some(Control::Rollback);
        }
        let skip = usize::from(word(2 + transaction, "SAVEPOINT"));
        return name(2 + transaction + skip).map(Control::RollbackTo);
    }
    if word(0, "SAVEPOINT") {
        return name(1).map(Control::Savepoint);
    }
    if word(0, "RELEASE") {
        return name(1 + usize::from(word(1, "SAVEPOINT"))).map(Control::Release);
    }
    None
}

/// Whether the first word is one of these (in upper case).
pub(crate) fn begins_with(sql: &str, words: &[&str]) -> bool {
    // Every statement is asked about more than once: one byte tells for most.
    let initial = sql.trim_ascii_start().bytes().next().filter(u8::is_ascii_alphabetic);
    if let Some(initial) = initial
        && !words.iter().any(|word| word.as_bytes()[0] == initial.to_ascii_uppercase())
    {
        return false;
    }
    let first = tokens(sql).find(|t| t.text != ";");
    first.is_some_and(|first| words.iter().any(|word| first.is(word)))
}

/// Whether there is nothing but white space and comments.
pub(crate) fn is_empty(sql: &str) -> bool {
    tokens(sql).all(|t| t.text == ";")
}

/// `PRAGMA name` or `PRAGMA name = value` (or `(value)`), in lower case; none for other statements.
pub(crate) fn pragma(sql: &str) -> Option<(String, Option<String>)> {
    if !begins_with(sql, &["PRAGMA"]) {
        return None;
    }
    let mut words = tokens(sql).take_while(|t| t.text != ";").skip(1);
    let mut name = words.next()?.name()?.to_ascii_lowercase();
    let mut rest: Vec<Token<'_>> = words.collect();
    if rest.len() > 1 && rest[0].text == "." {
        name = rest[1].name()?.to_ascii_lowercase();
        rest.drain(..2);
    }
    let value: String = rest
        .iter()
        .filter(|t| !matches!(t.text, "=" | "(" | ")"))
        .map(|t| t.text.trim_matches(['\'', '"']).to_ascii_lowercase())
        .collect();
    Some((name, (!value.is_empty()).then_some(value)))
}

/// The statements of a text, in order, without empty ones.
pub(crate) fn split(sql: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let mut start = None;
    let (mut head, mut last): (Vec<String>, String) = (Vec::new(), String::new());
    for token in tokens(sql) {
        if token.text == ";" {
            let trigger = head.first().is_some_and(|w| w == "CREATE")
                && head.iter().skip(1).take(2).any(|w| w == "TRIGGER");
            if !trigger || last == "END" {
                if let Some(start) = start.take() {
                    statements.push(&sql[start..token.start]);
                }
                head.clear();
            }
            last.clear();
            continue;
        }
        start.get_or_insert(token.start);
        last = token.text.to_ascii_uppercase();
        if head.len() < 4 {
            head.push(last.clone());
        }
    }
    if let Some(start) = start {
        statements.push(&sql[start..]);
    }
    statements
}

/// What clients read instead of a catalogue that shows our own tables.
const VIEWS: [(&str, &str); 3] = [
    ("sqlite_master", "syncline_schema"),
    ("sqlite_schema", "syncline_schema"),
    ("pragma_table_list", "syncline_table_list"),
];

/// Makes a statement read the catalogue through views that leave Syncline's own tables out: an ORM
/// that saw them would propose to drop them.
pub(crate) fn hide_internals(sql: &str) -> Cow<'_, str> {
    let lower = sql.to_ascii_lowercase();
    // What is created is stored as it was written, and must mean the same everywhere.
    if begins_with(sql, &["CREATE"]) {
        return Cow::Borrowed(sql);
    }
    if !VIEWS.iter().any(|(name, _)| lower.contains(name)) && !lower.contains("table_list") {
        return Cow::Borrowed(sql);
    }
    if pragma(sql).is_some_and(|(name, value)| name == "table_list" && value.is_none()) {
        return Cow::Borrowed("SELECT * FROM syncline_table_list");
    }
    let all: Vec<Token<'_>> = tokens(sql).collect();
    let mut out = String::with_capacity(sql.len() + 16);
    let mut copied = 0;
    for (i, token) in all.iter().enumerate() {
        let name = token.name().unwrap_or_default();
        let Some((_, view)) = VIEWS.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)) else {
            continue;
        };
        let qualified = i >= 2
            && all[i - 1].text == "."
            && all[i - 2].name().is_some_and(|n| n.eq_ignore_ascii_case("main"));
        let from = if qualified { all[i - 2].start } else { token.start };
        out.push_str(&sql[copied..from]);
        out.push_str(view);
        copied = token.start + token.text.len();
    }
    out.push_str(&sql[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_statements_are_recognised_in_every_spelling() {
        use Control::*;
        let cases = [
            ("begin", Some(Begin(super::Begin::Deferred))),
            ("/* x */ BEGIN -- y\n IMMEDIATE;", Some(Begin(super::Begin::Immediate))),
            ("BEGIN TRANSACTION READONLY", Some(Begin(super::Begin::ReadOnly))),
            ("end transaction", Some(Commit)),
            ("ROLLBACK", Some(Rollback)),
            ("rollback transaction to savepoint \"a\"", Some(RollbackTo("a".into()))),
            ("ROLLBACK TO b;", Some(RollbackTo("b".into()))),
            ("SAVEPOINT c", Some(Savepoint("c".into()))),
            ("RELEASE SAVEPOINT c", Some(Release("c".into()))),
            ("SELECT 'BEGIN'", None),
            ("-- BEGIN\nSELECT 1", None),
        ];
        for (sql, expected) in cases {
            assert_eq!(control(sql), expected, "{sql}");
        }
    }

    #[test]
    fn texts_are_split_where_sqlite_splits_them() {
        let trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT ';'; END";
        let sql = format!(";; SELECT ';' -- ; \n; {trigger};\n/* ; */ SELECT [a;b], \"c;\"");
        let expected = vec!["SELECT ';' -- ; \n", trigger, "SELECT [a;b], \"c;\""];
        assert_eq!(split(&sql), expected);
        assert!(split(" ; -- nothing\n").is_empty());
    }

    #[test]
    fn the_catalogue_is_read_through_views() {
        let sql = "SELECT m.name, 'sqlite_master' FROM main.sqlite_master m, \"SQLITE_SCHEMA\" s";
        assert_eq!(
            hide_internals(sql),
            "SELECT m.name, 'sqlite_master' FROM syncline_schema m, syncline_schema s"
        );
        assert_eq!(hide_internals("PRAGMA table_list"), "SELECT * FROM syncline_table_list");
        assert!(matches!(hide_internals("SELECT 1"), Cow::Borrowed(_)));
    }

    #[test]
    fn pragmas_are_read_with_and_without_a_value() {
        assert_eq!(pragma("PRAGMA foreign_keys"), Some(("foreign_keys".into(), None)));
        assert_eq!(
            pragma("pragma main.Foreign_Keys = OFF;"),
            Some(("foreign_keys".into(), Some("off".into())))
        );
        assert_eq!(
            pragma("PRAGMA user_version(7)"),
            Some(("user_version".into(), Some("7".into())))
        );
        assert_eq!(pragma("SELECT 1"), None);
    }
}
