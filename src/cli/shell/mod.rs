//! `shell`: SQL from an argument, a pipe or a person.
//!
//! A person goes on after an error; a pipe stops at the first one, since what follows was written
//! in the belief that it went well.
//!
//! Left out: line editing and history (`rlwrap syncline shell …` gives both), and results beyond the
//! node's limit (it refuses them with `RESPONSE_TOO_LARGE`; a cursor would bring them piece by piece).

mod split;
pub mod table;

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use super::arguments::{Format, Shell};
use super::block_on;
use super::exit::{Exit, Failure, Outcome};
use crate::client::{SqlError, Stream};

/// A statement may run for minutes (schema steps do).
const TIMEOUT: Duration = Duration::from_secs(900);

/// Runs SQL on a node.
pub fn run(arguments: &Shell) -> Outcome {
    let client = arguments.node.client(TIMEOUT)?;
    let mut shell = Session { stream: client.stream(), format: arguments.format };
    block_on(async move {
        match &arguments.command {
            Some(sql) => shell.script(sql).await,
            None if std::io::stdin().is_terminal() => shell.converse().await,
            None => shell.pipe().await,
        }
    })
}

struct Session {
    stream: Stream,
    format: Format,
}

impl Session {
    /// Runs a text to its end or to the first error. Its last statement needs no `;`.
    async fn script(&mut self, sql: &str) -> Outcome {
        let (statements, rest) = split::split(sql);
        for statement in statements {
            if !self.statement(statement).await? {
                return Ok(Exit::No);
            }
        }
        let done = split::is_blank(rest) || self.statement(rest.trim()).await?;
        Ok(if done { Exit::Yes } else { Exit::No })
    }

    /// Runs statements as they come in.
    async fn pipe(&mut self) -> Outcome {
        let mut waiting = String::new();
        for line in std::io::stdin().lock().lines() {
            waiting.push_str(&line?);
            waiting.push('\n');
            let (statements, rest) = split::split(&waiting);
            for statement in statements {
                if !self.statement(statement).await? {
                    return Ok(Exit::No);
                }
            }
            waiting = rest.to_string();
        }
        self.script(&waiting).await
    }

    /// Talks to a person until they leave.
    async fn converse(&mut self) -> Outcome {
        println!("Statements end with `;`. `.help` shows more, `.quit` ends.");
        let mut waiting = String::new();
        loop {
            self.prompt(waiting.trim().is_empty())?;
            let mut line = String::new();
            if std::io::stdin().lock().read_line(&mut line)? == 0 {
                println!();
                return Ok(Exit::Yes);
            }
            if waiting.trim().is_empty() && line.trim_start().starts_with('.') {
                if !self.command(line.trim()).await? {
                    return Ok(Exit::Yes);
                }
                continue;
            }
            waiting.push_str(&line);
            let (statements, rest) = split::split(&waiting);
            for statement in statements {
                self.forgiving(statement).await;
            }
            waiting = rest.to_string();
        }
    }

    fn prompt(&self, fresh: bool) -> std::io::Result<()> {
        let prompt = match (fresh, self.stream.in_transaction()) {
            (true, false) => "syncline> ",
            (true, true) => "syncline*> ",
            (false, _) => "     ...> ",
        };
        print!("{prompt}");
        std::io::stdout().flush()
    }

    /// A `.command`; false ends the conversation.
    async fn command(&mut self, line: &str) -> Result<bool, Failure> {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [".quit" | ".exit"] => return Ok(false),
            [".tables"] => self.forgiving(TABLES).await,
            [".schema"] => self.forgiving(SCHEMA).await,
            [".position"] => self.forgiving("SELECT syncline_position()").await,
            [".help"] => println!("{HELP}"),
            _ => println!("{line} is no command; {HELP}"),
        }
        Ok(true)
    }

    /// A person sees what went wrong and goes on, whatever it was.
    async fn forgiving(&mut self, sql: &str) {
        if let Err(failure) = self.statement(sql).await {
            failure.report();
        }
    }

    /// Runs one statement and prints what it gave; false if it failed.
    async fn statement(&mut self, sql: &str) -> Result<bool, Failure> {
        match self.stream.execute(sql, &[]).await? {
            Ok(rows) => {
                print!("{}", table::render(&rows, self.format));
                Ok(true)
            }
            Err(error) => {
                eprintln!("{}", words(&error));
                Ok(false)
            }
        }
    }
}

/// An error with its finest code and its hint.
fn words(error: &SqlError) -> String {
    let code = error.extended_code.as_deref().unwrap_or(&error.code);
    let hint = error.hint.as_deref().filter(|hint| !hint.is_empty());
    let hint = hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
    format!("error: {} ({code}){hint}", error.message)
}

const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
const SCHEMA: &str = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
const HELP: &str = "commands: .tables  .schema  .position  .help  .quit";
