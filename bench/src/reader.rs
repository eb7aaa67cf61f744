//! A reader that notes when it saw what: in a process of its own, or beside the writer.
//!
//! Its process speaks lines: it prints `ready` once it has its first copy; told `until VERSION` it
//! prints `reached NANOS` once it is there; at the end of its input it prints each thing it saw,
//! with the monotonic clock's reading (which all processes of a machine share), and its position.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use syncline::change::Value;
use syncline::engine::{
    BackingPlace, Database, DatabaseOptions, FullMode, Program, RequestOptions, Session, Statement,
    StepOutcome, WorkingCopy,
};
use syncline::store::postgres::PostgresPlace;

use crate::block::block_on;
use crate::node::Process;
use crate::{Result, Settings};

/// What to follow.
#[derive(clap::Args)]
pub struct Args {
    /// The backing file, or the URL of one on PostgreSQL.
    #[arg(long)]
    backing: OsString,
    /// The reader's data directory.
    #[arg(long)]
    data_dir: PathBuf,
    /// Where its copy lies.
    #[arg(long)]
    copy: Copy,
    /// Note the highest id that SQL sees instead of the version.
    #[arg(long)]
    sql: bool,
    /// Copy everything anew every so many seconds.
    #[arg(long)]
    rebuild_every: Option<u64>,
}

/// Where a reader's copy lies.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq)]
pub enum Copy {
    /// In memory.
    Memory,
    /// In a file of its own.
    Disk,
}

impl Copy {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Copy::Memory => "memory",
            Copy::Disk => "disk",
        }
    }
}

/// The monotonic clock.
pub fn now_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing, and this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// At `nanos`, everything up to `seen` was visible.
#[derive(Clone, std::marker::Copy)]
pub struct Sight {
    /// The monotonic clock's reading.
    pub nanos: u64,
    /// A version, or an id.
    pub seen: u64,
}

/// A backing database: a file, or one on PostgreSQL.
pub fn place(backing: impl AsRef<OsStr>) -> Result<BackingPlace> {
    let backing = backing.as_ref();
    Ok(match backing.to_str().filter(|url| url.starts_with("postgres://")) {
        Some(url) => BackingPlace::Server(Arc::new(PostgresPlace::read(url)?)),
        None => BackingPlace::File(backing.into()),
    })
}

/// Opens a reader.
pub fn open(backing: impl AsRef<OsStr>, data_dir: &Path, copy: Copy) -> Result<Database> {
    Ok(Database::open(options(place(backing)?, data_dir, copy))?)
}

fn options(backing: BackingPlace, data_dir: &Path, copy: Copy) -> DatabaseOptions {
    let mut options = DatabaseOptions::reader("", data_dir);
    options.backing = backing;
    options.node = "reader".into();
    options.working_copy = match copy {
        Copy::Memory => WorkingCopy::Memory,
        Copy::Disk => WorkingCopy::Disk,
    };
    options
}

/// Notes everything that becomes visible, for as long as the database lives.
pub fn observe(db: &Database, sql: bool, mut each: impl FnMut(Sight) + Send + 'static) {
    let mut watch = db.watch();
    let mut session = db.session();
    std::thread::spawn(move || {
        loop {
            let version = watch.borrow_and_update().version.0;
            let seen = if sql { highest_id(&mut session).unwrap_or(0) } else { version };
            each(Sight { nanos: now_nanos(), seen });
            if block_on(watch.changed()).is_err() {
                return;
            }
        }
    });
}

fn highest_id(session: &mut Session) -> Result<u64> {
    let query = Program::single(Statement::new("SELECT max(id) FROM bench", []));
    let outcome = block_on(session.run(query, &RequestOptions::default()))?;
    match outcome.steps.into_iter().next() {
        Some(StepOutcome::Done(result)) => match result.rows[0][0] {
            Value::Integer(id) => Ok(id as u64),
            _ => Ok(0),
        },
        Some(StepOutcome::Failed(error)) => Err(error.into()),
        _ => Err("the query did not run".into()),
    }
}

/// The `reader` command.
pub fn run(args: &Args) -> Result<()> {
    let mut options = options(place(&args.backing)?, &args.data_dir, args.copy);
    if let Some(seconds) = args.rebuild_every {
        options.full = FullMode::Always;
        options.full_every = Duration::from_secs(seconds);
    }
    let db = Database::open(options)?;
    let shared = Arc::new(Mutex::new((Vec::<Sight>::new(), u64::MAX)));
    let noting = shared.clone();
    observe(&db, args.sql, move |sight| {
        let mut noted = noting.lock().expect("no one panics with it");
        noted.0.push(sight);
        announce(&mut noted);
    });
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line?;
        if line == "rebuilt" {
            println!("rebuilt {}", times_rebuilt(&db));
        } else if let Some(target) = line.strip_prefix("until ").and_then(|v| v.parse().ok()) {
            let mut noted = shared.lock().expect("no one panics with it");
            noted.1 = target;
            announce(&mut noted);
        }
    }
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    for sight in &shared.lock().expect("no one panics with it").0 {
        writeln!(output, "{} {}", sight.nanos, sight.seen)?;
    }
    let position = db.position();
    writeln!(output, "at {position} {}", position.digest)?;
    output.flush()?;
    db.close();
    Ok(())
}

/// How often everything was copied anew, since the first time.
fn times_rebuilt(db: &Database) -> u64 {
    db.status().healed[3]
}

/// Says once that the target was reached.
fn announce(noted: &mut (Vec<Sight>, u64)) {
    if let Some(sight) = noted.0.last().filter(|sight| sight.seen >= noted.1) {
        println!("reached {}", sight.nanos);
        noted.1 = u64::MAX;
    }
}

/// A reader in a process of its own.
pub struct Follower {
    /// Its process.
    pub process: Process,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    /// Starts it; returns once it has its first copy.
    pub fn start(
        settings: &Settings,
        backing: impl AsRef<OsStr>,
        data_dir: &Path,
        copy: Copy,
        flags: &[&str],
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["reader", "--copy", copy.as_str(), "--backing"]).arg(backing.as_ref());
        command.arg("--data-dir").arg(data_dir).args(flags);
        if let Some(dir) = &settings.dir {
            command.arg("--dir").arg(dir);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else { unreachable!("both are piped") };
        let output = BufReader::new(output).lines();
        let mut follower = Follower { process: Process(child), input, output };
        follower.expect("ready")?;
        Ok(follower)
    }

    /// The next line, without its first word, which must be `word`.
    fn expect(&mut self, word: &str) -> Result<String> {
        let line = self.output.next().ok_or("the reader stopped")??;
        match line.strip_prefix(word) {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => Err(format!("the reader said {line:?}, not {word:?}").into()),
        }
    }

    /// Asks it to say when it has reached `version`.
    pub fn aim(&mut self, version: u64) -> Result<()> {
        Ok(writeln!(self.input, "until {version}")?)
    }

    /// When it reached what was aimed at.
    pub fn reached(&mut self) -> Result<u64> {
        Ok(self.expect("reached")?.parse()?)
    }

    /// Waits until it has copied everything anew, twice from now on: the first of them may be under way.
    pub fn rebuilt(&mut self) -> Result<()> {
        let first = self.times_rebuilt()?;
        while self.times_rebuilt()? < first + 2 {
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn times_rebuilt(&mut self) -> Result<u64> {
        writeln!(self.input, "rebuilt")?;
        Ok(self.expect("rebuilt")?.parse()?)
    }

    /// Ends it: everything it saw, and its position with the digest.
    pub fn finish(self) -> Result<(Vec<Sight>, String)> {
        let Follower { mut process, input, output } = self;
        drop(input);
        let (mut sights, mut position) = (Vec::new(), String::new());
        for line in output {
            let line = line?;
            match line.split_once(' ') {
                Some(("at", at)) => position = at.to_owned(),
                Some((nanos, seen)) => {
                    sights.push(Sight { nanos: nanos.parse()?, seen: seen.parse()? });
                }
                None => return Err(format!("the reader said {line:?}").into()),
            }
        }
        process.0.wait()?;
        Ok((sights, position))
    }
}

/// A position as the reader's process prints it.
pub fn position_text(db: &Database) -> String {
    let position = db.position();
    format!("{position} {}", position.digest)
}

/// Waits until `seen` of the last sight is at least `target`.
pub fn wait_until(sights: &Mutex<Vec<Sight>>, target: u64, within: Duration) -> Result<()> {
    let deadline = now_nanos() + within.as_nanos() as u64;
    loop {
        let last = sights.lock().expect("no one panics with it").last().map_or(0, |s| s.seen);
        if last >= target {
            return Ok(());
        }
        if now_nanos() > deadline {
            return Err(format!("the reader is at {last}, not at {target}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
