//! Arguments that `diff` and `sync` share, and how long work is shown while it goes on.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::{printable, say_line};
use crate::config::units;
use crate::endpoint::open::{none_yet, open};
use crate::endpoint::sqlite::Access;
use crate::endpoint::{Endpoint, Traffic};
use crate::error::{Error, Result};
use crate::sync::{Event, Selection};

/// Which tables, and what of them.
#[derive(Debug, Args, Default)]
pub struct Selected {
    /// Only these tables, separated by commas.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub tables: Vec<String>,
    /// Not this table; may be given several times, or with commas.
    #[arg(long, value_name = "TABLE", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Only rows of a table for which an SQL condition holds, on both sides: --where 'orders:year >= 2024'.
    #[arg(long = "where", value_name = "TABLE:SQL")]
    pub filters: Vec<String>,
    /// Only these columns of a table (and its key), separated by commas: --columns orders.state,orders.total.
    #[arg(long, value_name = "TABLE.COLUMN,…", value_delimiter = ',')]
    pub columns: Vec<String>,
}

impl Selected {
    /// As the library has it; `versions` as `table=column`.
    pub fn selection(&self, versions: &[String]) -> Result<Selection> {
        let split = |list: &[String], by: char, what: &str| {
            let pairs = list.iter().map(|entry| {
                let (table, of) =
                    entry.split_once(by).ok_or_else(|| not_a_pair(entry, by, what))?;
                Ok((table.trim().to_owned(), of.trim().to_owned()))
            });
            pairs.collect::<Result<Vec<_>>>()
        };
        Ok(Selection {
            tables: self.tables.clone(),
            exclude: self.exclude.clone(),
            filters: split(&self.filters, ':', "--where 'TABLE:SQL'")?,
            columns: self.columns.clone(),
            versions: split(versions, '=', "--version-column TABLE=COLUMN")?,
        })
    }
}

fn not_a_pair(entry: &str, by: char, what: &str) -> Error {
    Error::invalid("ARGUMENT_INVALID", format!("{entry:?} has no {by:?} in it"))
        .hint(format!("write {what}"))
}

/// Two endpoints, opened.
pub type Opened = (Box<dyn Endpoint>, Box<dyn Endpoint>);

/// Opens both sides; B to be written, or not.
///
/// `is_new`: a B that is a file may have to be made, and is not made yet.
pub fn open_both(a: &str, b: &str, b_access: Access, is_new: bool) -> Result<Opened> {
    let of = |side: &str, error: Error| {
        Error::new(error.kind(), error.code(), format!("{side}: {}", error.message()))
            .hint(error.hint_text().to_owned())
    };
    let a = open(a, Access::Read).map_err(|error| of("A", error))?;
    let b = match open(b, b_access) {
        Err(error) if is_new && error.code() == "ENDPOINT_NOT_FOUND" => none_yet(b).ok_or(error),
        opened => opened,
    };
    let b = b.map_err(|error| of("B", error))?;
    match a.address() == b.address() {
        true => Err(Error::invalid("SAME_ENDPOINT", format!("A and B are both {}", a.address()))
            .hint("name two different databases")),
        false => Ok((a, b)),
    }
}

/// Why it came to no answer, for people and, where that was asked for, as a JSON line. No is an answer: whoever is
/// locked out has none.
pub fn refused(error: Error, json: bool) -> Failure {
    if json {
        // What stands on standard error is the same.
        drop(say_line(
            json!({"type": "error", "code": error.code(), "message": error.message(), "hint": error.hint_text()}),
        ));
    }
    let was_asked_to = error.code() == "INTERRUPTED";
    match Failure::from(error) {
        failure if failure.exit == Exit::No && !was_asked_to => {
            Failure { exit: Exit::Usage, ..failure }
        }
        failure => failure,
    }
}

/// What both sides sent and received.
pub fn traffic(opened: &Opened) -> Traffic {
    let (a, b) = (opened.0.traffic(), opened.1.traffic());
    Traffic { bytes: a.bytes + b.bytes, round_trips: a.round_trips + b.round_trips }
}

/// `12.3 s`, and what went over the line.
pub fn cost(began: Instant, traffic: Traffic) -> String {
    let time = format!("{:.1} s", began.elapsed().as_secs_f64());
    match traffic.round_trips {
        0 => time,
        trips => format!(
            "{time}, {trips} round trips, {} over the line",
            units::show_size(traffic.bytes)
        ),
    }
}

/// `1,234,567`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Shows on standard error how it is going: one line that changes on a terminal, a line now and then elsewhere.
pub struct Progress {
    quiet: bool,
    terminal: bool,
    began: Instant,
    shown: Instant,
    /// When the table that is written was begun, and how many rows ago.
    table: Option<(String, Instant)>,
    wrote: bool,
}

/// How often lines are written where nobody looks at them while they change.
const SELDOM: Duration = Duration::from_secs(5);
const OFTEN: Duration = Duration::from_millis(100);

impl Progress {
    /// `quiet`: only what must be known.
    pub fn new(quiet: bool) -> Progress {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        Progress { quiet, terminal, began: now, shown: now, table: None, wrote: false }
    }

    /// Since when.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Estimate { tables, rows, bytes } if !self.quiet => {
                let bytes = bytes.map(|b| format!(", {}", units::show_size(b))).unwrap_or_default();
                let rows = if *rows > 0 {
                    format!(", about {} rows{bytes}", number(*rows))
                } else {
                    bytes
                };
                self.line(&format!("{tables} tables{rows}"));
            }
            Event::Comparing { table } => self.status(&format!("comparing {table} …")),
            Event::Progress { table, done, of, .. } => self.progress(table, *done, *of),
            Event::Held { table, key, reason } => {
                self.line(&format!("held: {table} {}: {}", printable(key), printable(reason)))
            }
            Event::Note(note) => self.line(note),
            _ => {}
        }
    }

    fn progress(&mut self, table: &str, done: u64, of: Option<u64>) {
        if self.table.as_ref().is_none_or(|(name, _)| name != table) {
            self.table = Some((table.to_owned(), Instant::now()));
        }
        let since = self.table.as_ref().map_or(Duration::ZERO, |(_, began)| began.elapsed());
        let rate = done as f64 / since.as_secs_f64().max(0.001);
        let left = of.filter(|of| *of >= done && rate > 0.0).map(|of| {
            let seconds = (of - done) as f64 / rate;
            format!(" of {}, {seconds:.0} s left", number(of))
        });
        let rate =
            if since < OFTEN { String::new() } else { format!(", {}/s", number(rate as u64)) };
        self.status(&format!("{table}: {}{}{rate}", number(done), left.unwrap_or_default()));
    }

    /// A line that the next one replaces.
    fn status(&mut self, text: &str) {
        let due = if self.terminal { OFTEN } else { SELDOM };
        if self.quiet || self.shown.elapsed() < due {
            return;
        }
        self.shown = Instant::now();
        match self.terminal {
            true => {
                eprint!("\r\x1b[K{text}");
                let _ = std::io::stderr().flush();
                self.wrote = true;
            }
            false => eprintln!("{text}"),
        }
    }

    fn line(&mut self, text: &str) {
        self.clear();
        eprintln!("{text}");
    }

    /// Takes the changing line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.wrote) {
            eprint!("\r\x1b[K");
        }
    }
}

/// A time, as the command line has it.
pub fn duration(text: &str) -> std::result::Result<Duration, String> {
    units::duration(text).ok_or_else(|| "write a number and a unit, such as 30s or 5m".into())
}
