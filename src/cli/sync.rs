//! `sync`: makes one database equal to another, once, again and again, or as a service for several.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value as Json, json};
use tokio::signal::unix::SignalKind;

use super::compared::{
    Opened, Progress, Selected, cost, duration, number, open_both, refused, traffic,
};
use super::exit::{Exit, Failure, Outcome};
use super::output::{printable, say, say_line};
use super::service;
use super::shell::table;
use crate::config::units;
use crate::endpoint::Traffic;
use crate::endpoint::sqlite::Access;
use crate::error::{Error, Kind};
use crate::sync::{Event, MaxDelete, SyncOptions, SyncReport, TableReport, sync_once};

/// What a file says for itself: beside it these would have no effect.
const BESIDE_A_FILE: [&str; 18] = [
    "a",
    "b",
    "tables",
    "exclude",
    "filters",
    "columns",
    "follow",
    "every",
    "dry_run",
    "create",
    "versions",
    "overlap",
    "walk",
    "state",
    "max_delete",
    "yes",
    "limit_rate",
    "force_retry",
];

/// Arguments of `sync`.
#[derive(Debug, Args)]
pub struct Sync {
    /// The database that is right; it is only read. sqlite:PATH, a path, postgres://…, mysql://…, http(s)://….
    #[arg(
        value_name = "A",
        env = "SYNCLINE_A",
        hide_env_values = true,
        required_unless_present = "config"
    )]
    pub a: Option<String>,
    /// The database that is made equal to it.
    #[arg(
        value_name = "B",
        env = "SYNCLINE_B",
        hide_env_values = true,
        required_unless_present = "config"
    )]
    pub b: Option<String>,
    /// A file with [[sync]] tables, all of which are followed.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = BESIDE_A_FILE)]
    pub config: Option<PathBuf>,
    /// Which tables, and what of them.
    #[command(flatten)]
    pub selected: Selected,
    /// Goes on until it is stopped.
    #[arg(long)]
    pub follow: bool,
    /// The pause between two rounds.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub every: Duration,
    /// Writes nothing; says what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Makes tables that B lacks.
    #[arg(long)]
    pub create: bool,
    /// The column that grows with every change of a row, by table; may be given several times.
    #[arg(long = "version-column", value_name = "TABLE=COLUMN")]
    pub versions: Vec<String>,
    /// For so long a transaction may be open after it has taken a version (PostgreSQL tells by itself).
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10m")]
    pub overlap: Duration,
    /// Within this time a table with a version column is compared whole, a part in each round.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "24h")]
    pub walk: Duration,
    /// Keeps the position in this file, and makes no table in B for it.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Stops before more of a table than this is deleted: a number of rows, or a share.
    #[arg(long, value_name = "20%", default_value = "20%")]
    pub max_delete: MaxDelete,
    /// Deletes however many rows must go.
    #[arg(long)]
    pub yes: bool,
    /// Bytes of rows a second, such as 1MiB/s.
    #[arg(long, value_name = "SIZE/s", value_parser = rate)]
    pub limit_rate: Option<u64>,
    /// Tries held rows again although they have not changed.
    #[arg(long)]
    pub force_retry: bool,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

fn rate(text: &str) -> Result<u64, String> {
    let size = text.strip_suffix("/s").unwrap_or(text);
    units::size(size)
        .filter(|n| *n > 0)
        .ok_or_else(|| "write a size a second, such as 1MiB/s".into())
}

impl Sync {
    fn options(&self) -> crate::error::Result<SyncOptions> {
        Ok(SyncOptions {
            selection: self.selected.selection(&self.versions)?,
            dry_run: self.dry_run,
            create: self.create,
            overlap: self.overlap,
            max_delete: self.max_delete,
            yes: self.yes,
            limit_rate: self.limit_rate,
            force_retry: self.force_retry,
            walk_within: self.walk,
            state_file: self.state.clone(),
            ..SyncOptions::default()
        })
    }
}

/// Syncs.
pub fn run(arguments: &Sync) -> Outcome {
    let stop = stop_on_signals()?;
    let refuse = |error: Error| refused(error, arguments.json);
    if let Some(file) = &arguments.config {
        return service::run(file, arguments.json, &stop);
    }
    let (a, b) =
        (arguments.a.as_deref().unwrap_or_default(), arguments.b.as_deref().unwrap_or_default());
    let options = arguments.options().map_err(refuse)?;
    let job = Job { a, b, options, json: arguments.json };
    match arguments.follow {
        false => job.once(&stop).map_err(refuse),
        true => job.follow(arguments.every, &stop, passes),
    }
}

/// Ends after the batch that is being written; at the second signal, at once: a transaction that is not committed
/// leaves nothing.
pub fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let listen = tokio::signal::unix::signal;
            let (mut end, mut interrupt) =
                match (listen(SignalKind::terminate()), listen(SignalKind::interrupt())) {
                    (Ok(end), Ok(interrupt)) => (end, interrupt),
                    _ => return,
                };
            loop {
                tokio::select! {
                    _ = end.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if set.swap(true, Ordering::Relaxed) {
                    std::process::exit(Exit::No as i32);
                }
                eprintln!("\nstopping after this batch; once more to stop at once");
            }
        });
    })?;
    Ok(stop)
}

/// One sync: from where to where, and how.
pub struct Job<'j> {
    /// Where from.
    pub a: &'j str,
    /// Where to.
    pub b: &'j str,
    /// How.
    pub options: SyncOptions,
    /// Written as JSON lines.
    pub json: bool,
}

impl Job<'_> {
    fn open(&self) -> crate::error::Result<Opened> {
        let access = if self.options.dry_run { Access::Read } else { Access::Write };
        open_both(self.a, self.b, access, self.options.dry_run && self.options.create)
    }

    fn round(
        &self,
        opened: &mut Opened,
        progress: &mut Progress,
        stop: &AtomicBool,
    ) -> crate::error::Result<SyncReport> {
        let json = self.json;
        let mut show = |event: Event<'_>| match (json, &event) {
            (true, Event::Row { table, key, difference, .. }) => {
                // Who does not read single rows is told of it with the summary.
                drop(say_line(
                    json!({"type": "row", "table": table, "key": key_of(key), "difference": difference}),
                ));
            }
            (false, Event::Row { table, key, difference, .. }) => {
                progress.clear();
                let what = serde_json::to_value(difference).unwrap_or_default();
                let key: Vec<&str> = key.iter().map(|(_, value)| value.as_str()).collect();
                let (key, what) =
                    (printable(&key.join(", ")), words(what.as_str().unwrap_or_default()));
                drop(say_line(format_args!("{table} {key}: {what}")));
            }
            _ => progress.show(&event),
        };
        let report =
            sync_once(&mut (opened.0.as_mut(), opened.1.as_mut()), &self.options, stop, &mut show);
        progress.clear();
        report
    }

    fn once(&self, stop: &AtomicBool) -> crate::error::Result<Exit> {
        let mut opened = self.open()?;
        let mut progress = Progress::new(self.json);
        let report = self.round(&mut opened, &mut progress, stop)?;
        let traffic = traffic(&opened);
        match self.json {
            true => say(&lines(&report, &self.options, progress.began(), traffic))?,
            false => {
                say(&text(&report, &self.options))?;
                say_line(cost(progress.began(), traffic))?;
            }
        }
        Ok(if self.options.dry_run || report.done() { Exit::Yes } else { Exit::No })
    }

    /// Round after round, whatever happens: others go on, too.
    pub fn serve(&self, every: Duration, stop: &AtomicBool) -> Outcome {
        self.follow(every, stop, |_| true)
    }

    /// Round after round, as long as what fails passes: somebody who is away is waited for.
    fn follow(&self, every: Duration, stop: &AtomicBool, passes: fn(&Error) -> bool) -> Outcome {
        let mut opened: Option<Opened> = None;
        let mut last_error = String::new();
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            match self.follow_once(&mut opened, stop) {
                Ok(()) => last_error.clear(),
                Err(error) if error.code() == "INTERRUPTED" => break,
                Err(error) if passes(&error) => {
                    opened = None;
                    let said = error.to_string();
                    if said != last_error {
                        eprintln!(
                            "{} → {}: {error}; trying again every {}",
                            self.a_shown(),
                            self.b_shown(),
                            units::show_duration(every)
                        );
                    }
                    last_error = said;
                }
                Err(error) => return Err(error.into()),
            }
            while began.elapsed() < every && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50).min(every));
            }
        }
        Ok(Exit::Yes)
    }

    fn follow_once(
        &self,
        opened: &mut Option<Opened>,
        stop: &AtomicBool,
    ) -> crate::error::Result<()> {
        let mut ends = match opened.take() {
            Some(ends) => ends,
            None => self.open()?,
        };
        let mut progress = Progress::new(true);
        let report = self.round(&mut ends, &mut progress, stop)?;
        let wrote = |table: &&TableReport| {
            let applied = table.applied;
            applied.inserted + applied.updated + applied.deleted > 0
        };
        let tables: Vec<&TableReport> = report.tables.iter().filter(wrote).collect();
        if self.json {
            tables.iter().try_for_each(|table| say_line(table_line(table)))?;
        } else {
            for table in tables {
                let (a, b) = (self.a_shown(), self.b_shown());
                say_line(format_args!("{a} → {b}: {}", sentence(table)))?;
            }
        }
        *opened = Some(ends);
        Ok(())
    }

    fn a_shown(&self) -> String {
        without_secrets(self.a)
    }

    fn b_shown(&self) -> String {
        without_secrets(self.b)
    }
}

fn key_of(key: &[(String, String)]) -> Json {
    Json::Object(key.iter().map(|(name, value)| (name.clone(), json!(value))).collect())
}

fn words(difference: &str) -> &str {
    match difference {
        "only_in_a" => "would be inserted",
        "only_in_b" => "would be deleted",
        _ => "would be written",
    }
}

/// An address without what stands between `//` and `@`.
fn without_secrets(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => address.to_owned(),
    }
}

/// Whether it may be otherwise the next time.
fn passes(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::Retry | Kind::Unknown | Kind::Behind)
}

fn sentence(table: &TableReport) -> String {
    let applied = table.applied;
    let parts = [
        (applied.inserted, "inserted"),
        (applied.updated, "updated"),
        (applied.deleted, "deleted"),
    ];
    let mut parts: Vec<String> = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{} {what}", number(*n)))
        .collect();
    if !table.held.is_empty() {
        parts.push(format!("{} held", table.held.len()));
    }
    format!(
        "{}: {}",
        table.table,
        if parts.is_empty() { "nothing to do".into() } else { parts.join(", ") }
    )
}

fn table_line(table: &TableReport) -> Json {
    let mut line = json!({
        "type": "table", "table": table.table,
        "only_in_a": table.found.only_in_a, "only_in_b": table.found.only_in_b, "changed": table.found.changed,
        "inserted": table.applied.inserted, "updated": table.applied.updated, "deleted": table.applied.deleted,
        "held": table.held.len(), "equal": table.totals.map(|totals| totals.equal()),
    });
    if let (Some(totals), Some(line)) = (table.totals, line.as_object_mut()) {
        line.insert("rows_a".into(), json!(totals.rows[0]));
        line.insert("rows_b".into(), json!(totals.rows[1]));
        line.insert("digest_a".into(), json!(totals.digests[0].to_string()));
        line.insert("digest_b".into(), json!(totals.digests[1].to_string()));
    }
    line
}

fn lines(report: &SyncReport, options: &SyncOptions, began: Instant, traffic: Traffic) -> String {
    let mut lines: Vec<Json> = Vec::new();
    for table in &report.tables {
        lines.push(table_line(table));
        lines.extend(table.held.iter().map(|held| {
            json!({"type": "held", "table": held.table, "key": held.shown, "code": held.code, "reason": held.reason})
        }));
    }
    let sum = |of: fn(&TableReport) -> u64| report.tables.iter().map(of).sum::<u64>();
    lines.push(json!({
        "type": "summary", "done": report.done(), "dry_run": options.dry_run,
        "equal": report.tables.iter().all(TableReport::proved),
        "inserted": sum(|t| t.applied.inserted), "updated": sum(|t| t.applied.updated),
        "deleted": sum(|t| t.applied.deleted), "held": sum(|t| t.held.len() as u64),
        "rounds": report.rounds, "seconds": began.elapsed().as_secs_f64(),
        "bytes": traffic.bytes, "round_trips": traffic.round_trips,
    }));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn text(report: &SyncReport, options: &SyncOptions) -> String {
    let row = |table: &TableReport| {
        let proof = match table.totals {
            Some(totals) if totals.equal() => "equal",
            Some(_) => "differs",
            None => "in part",
        };
        let (found, applied) = (table.found, table.applied);
        let counts = match options.dry_run {
            true => [found.only_in_a, found.changed, found.only_in_b],
            false => [applied.inserted, applied.updated, applied.deleted],
        };
        let counts = [counts.map(number).to_vec(), vec![table.held.len().to_string()]].concat();
        [vec![table.table.clone()], counts, vec![proof.into()]].concat()
    };
    let rows: Vec<Vec<String>> = report.tables.iter().map(row).collect();
    let headings = match options.dry_run {
        true => ["TABLE", "TO INSERT", "TO UPDATE", "TO DELETE", "HELD", "COMPARED"],
        false => ["TABLE", "INSERTED", "UPDATED", "DELETED", "HELD", "COMPARED"],
    };
    let mut out = if rows.is_empty() { String::new() } else { table::align(&headings, &rows) };
    for held in report.tables.iter().flat_map(|table| &table.held) {
        let (key, reason) = (printable(&held.shown), printable(&held.reason));
        out += &format!("held: {} {key}: {reason} ({})\n", held.table, held.code);
    }
    out + &verdict(report, options)
}

fn verdict(report: &SyncReport, options: &SyncOptions) -> String {
    let held: usize = report.tables.iter().map(|table| table.held.len()).sum();
    let proved = report.tables.iter().all(TableReport::proved);
    let rows: u64 = report.tables.iter().filter_map(|table| Some(table.totals?.rows[0])).sum();
    match () {
        () if options.dry_run => "nothing was written\n".into(),
        () if held > 0 => format!(
            "{held} rows are held; all else arrived. They are tried again when they change, or with --force-retry\n"
        ),
        () if proved => format!(
            "B equals A: {} tables, {} rows, every row by its hash\n",
            report.tables.len(),
            number(rows)
        ),
        () if report.done() => {
            "what is new has arrived, and what was compared is equal; `diff` compares all of it\n"
                .into()
        }
        () => format!(
            "B is not what was written to it, after {} rounds: somebody else writes there, or a trigger or a rule makes \
             other rows of these; `diff` shows which\n",
            report.rounds
        ),
    }
}
