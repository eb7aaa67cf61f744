//! Runs clients' statements on a connection: prepared once, guarded, within limits.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::ffi;

use super::guard::{Facts, Guard};
use super::raw::{Db, Stmt};
use super::statement::{Arguments, Description, ResultColumn, Statement, StatementResult};
use super::text;
use crate::change::{Value, ValueRef};
use crate::error::{Error, Kind, Result};

/// How many prepared statements a connection keeps.
const KEPT: usize = 256;
/// Virtual machine steps between two looks at the time.
const STEPS: c_int = 4000;

/// What one statement may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// When it begins.
    pub began: Instant,
    /// How long it may run; none for as long as it likes.
    pub time: Option<Duration>,
    /// Rows it may return.
    pub rows: usize,
    /// Bytes it may return.
    pub bytes: usize,
}

/// Stops a statement at its deadline.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    at: Cell<Option<Instant>>,
}

unsafe extern "C" fn on_progress(context: *mut c_void) -> c_int {
    // SAFETY: the context is the boxed Deadline of this connection.
    let deadline = unsafe { &*context.cast::<Deadline>() };
    let passed = deadline.at.get().is_some_and(|at| Instant::now() >= at);
    c_int::from(passed)
}

impl Deadline {
    /// Hooks it to a connection; it must be kept as long as the connection is open.
    pub fn install(db: Db) -> Box<Deadline> {
        let deadline = Box::new(Deadline::default());
        let context = ptr::from_ref(deadline.as_ref()).cast_mut().cast();
        // SAFETY: the box does not move, and its owner drops it after closing the connection.
        unsafe { ffi::sqlite3_progress_handler(db.0, STEPS, Some(on_progress), context) };
        deadline
    }

    /// From now on; none lifts it.
    pub fn set(&self, at: Option<Instant>) {
        self.at.set(at);
    }

    /// Moves it: so long the statement did not run, but was waited with.
    pub fn extend(&self, by: Duration) {
        self.at.set(self.at.get().map(|at| at + by));
    }
}

/// A row of a library read.
pub struct Row<'a>(&'a Stmt);

impl Row<'_> {
    /// A column's value; fails on text that is not UTF-8.
    pub fn get(&self, column: usize) -> Result<ValueRef<'_>> {
        self.0.value(column)
    }

    /// How many columns it has.
    pub fn columns(&self) -> usize {
        self.0.columns()
    }

    /// What those are.
    pub fn headings(&self) -> Vec<ResultColumn> {
        columns(self.0)
    }
}

/// A client's statement, prepared.
pub(crate) struct Prepared {
    stmt: Stmt,
    pub facts: Facts,
    pub readonly: bool,
    used: u64,
}

/// The prepared statements of one connection.
pub(crate) struct Client {
    statements: HashMap<Arc<str>, Prepared>,
    guard: Guard,
    db: Db,
    uses: u64,
}

impl Client {
    /// For a connection with its guard.
    pub fn new(db: Db, guard: Guard) -> Client {
        Client { statements: HashMap::new(), guard, db, uses: 0 }
    }

    /// The statement, prepared before or now.
    pub fn prepared(&mut self, sql: &Arc<str>) -> Result<&mut Prepared> {
        self.uses += 1;
        self.make_room();
        let prepared = match self.statements.entry(sql.clone()) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(place) => place.insert(prepare(self.db, &self.guard, sql)?),
        };
        prepared.used = self.uses;
        Ok(prepared)
    }

    /// Forgets every statement: the schema is another, and so may be what a statement does.
    /// (`DROP TABLE IF EXISTS t` does nothing, and SQLite asks nothing, until there is a `t`.)
    /// `counted` are the tables with AUTOINCREMENT.
    pub fn schema_is_new(&mut self, counted: Vec<String>) {
        self.statements.clear();
        self.guard.set_counted(counted);
    }

    fn make_room(&mut self) {
        if self.statements.len() > KEPT {
            let mut uses: Vec<u64> = self.statements.values().map(|p| p.used).collect();
            uses.sort_unstable();
            let middle = uses[uses.len() / 2];
            self.statements.retain(|_, p| p.used > middle);
        }
    }

    /// Runs a query and hands over each row as it comes.
    pub fn query(
        &mut self,
        sql: &str,
        arguments: &[Value],
        mut each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        if !self.statements.contains_key(sql) {
            self.prepared(&Arc::from(sql))?;
        }
        let guard = &self.guard;
        let prepared = self.statements.get_mut(sql).expect("just prepared");
        if !prepared.readonly {
            return Err(Error::invalid("SQLITE_READONLY", "a read handle cannot write")
                .hint("write through a session"));
        }
        let stmt = &mut prepared.stmt;
        if stmt.parameters() != arguments.len() {
            return Err(arguments_invalid(stmt.parameters(), arguments.len()));
        }
        for (i, value) in arguments.iter().enumerate() {
            stmt.bind(i + 1, value.as_ref())?;
        }
        guard.enter();
        let ran = loop {
            match stmt.step() {
                Ok(true) => {
                    if let Err(error) = each(&Row(stmt)) {
                        break Err(error);
                    }
                }
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        stmt.reset();
        guard.leave().map_or(ran, Err)
    }

    /// What is known of a statement without running it.
    pub fn describe(&mut self, sql: &Arc<str>) -> Result<Description> {
        let prepared = self.prepared(sql)?;
        let stmt = &prepared.stmt;
        Ok(Description {
            parameters: (1..=stmt.parameters()).map(|i| stmt.parameter_name(i)).collect(),
            columns: columns(stmt),
            is_explain: stmt.is_explain(),
            is_readonly: prepared.readonly,
        })
    }

    /// Runs a statement to its end and collects its rows, as many as the budget has room for.
    pub fn run(
        &mut self,
        statement: &Statement,
        budget: &Budget,
        deadline: &Deadline,
    ) -> Result<StatementResult> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let result = self.run_each(statement, budget, deadline, &mut |row| {
            let row = to_owned(row)?;
            bytes += row.iter().map(size).sum::<usize>();
            if bytes > budget.bytes || rows.len() >= budget.rows {
                return Err(too_much());
            }
            rows.push(row);
            Ok(())
        })?;
        Ok(StatementResult { rows, ..result })
    }

    /// Runs a statement to its end and hands over each row that is wanted; its time alone is limited.
    pub fn run_each(
        &mut self,
        statement: &Statement,
        budget: &Budget,
        deadline: &Deadline,
        each: &mut dyn FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<StatementResult> {
        let (db, guard) = (self.db, self.guard.clone());
        let prepared = self.prepared(&statement.sql)?;
        let total = db.total_changes();
        guard.enter();
        deadline.set(budget.time.map(|time| budget.began + time));
        let ran = bind(&mut prepared.stmt, &statement.arguments)
            .and_then(|()| walk(&mut prepared.stmt, statement.want_rows, each));
        deadline.set(None);
        prepared.stmt.reset();
        let refusal = guard.leave();
        let columns = match (ran, refusal) {
            (_, Some(refusal)) => return Err(refusal),
            (ran, None) => ran?,
        };
        let affected = if db.total_changes() == total { 0 } else { db.changes() };
        Ok(StatementResult {
            columns,
            rows: Vec::new(),
            affected,
            last_insert_rowid: prepared.facts.inserts.then(|| db.last_insert_rowid()),
            duration: budget.began.elapsed(),
        })
    }
}

fn prepare(db: Db, guard: &Guard, sql: &str) -> Result<Prepared> {
    if text::begins_with(sql, &["VACUUM"]) {
        return Err(Error::new(Kind::Forbidden, "BLOCKED", "VACUUM is not open to clients").hint(
            "it renumbers the rows of tables without a key; back up and restore to shrink a file",
        ));
    }
    let visible = text::hide_internals(sql);
    let ((stmt, tail), facts) = guard.check(|| {
        Stmt::prepare(db, &visible, true).map_err(|error| match error.code() {
            "SQLITE_ERROR" => {
                Error::invalid("SQL_PARSE_ERROR", error.message()).with_extended("SQLITE_ERROR")
            }
            _ => error,
        })
    })?;
    let Some(stmt) = stmt else {
        return Err(Error::invalid("SQL_NO_STATEMENT", "the SQL holds no statement"));
    };
    if !text::split(&visible[tail..]).is_empty() {
        return Err(Error::invalid("SQL_MANY_STATEMENTS", "the SQL holds more than one statement")
            .hint("send one at a time, a batch, or a sequence"));
    }
    Ok(Prepared { readonly: stmt.is_readonly(), stmt, facts, used: 0 })
}

fn columns(stmt: &Stmt) -> Vec<ResultColumn> {
    (0..stmt.columns())
        .map(|i| ResultColumn { name: stmt.column_name(i), decltype: stmt.column_decltype(i) })
        .collect()
}

fn walk(
    stmt: &mut Stmt,
    want_rows: bool,
    each: &mut dyn FnMut(&Row<'_>) -> Result<()>,
) -> Result<Vec<ResultColumn>> {
    while stmt.step()? {
        if want_rows {
            each(&Row(stmt))?;
        }
    }
    Ok(columns(stmt))
}

fn to_owned(row: &Row<'_>) -> Result<Vec<Value>> {
    (0..row.columns()).map(|i| row.get(i).map(ValueRef::to_owned)).collect()
}

fn too_much() -> Error {
    Error::invalid("RESPONSE_TOO_LARGE", "the statement returns too much at once")
        .hint("add a LIMIT and page by key, or raise limits.response")
}

/// About what a value takes in an answer.
fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len() + 8,
        Value::Blob(blob) => blob.len() * 4 / 3 + 8,
        _ => 16,
    }
}

/// Binds a client's arguments; every parameter must have its own and every argument its parameter.
fn bind(stmt: &mut Stmt, arguments: &Arguments) -> Result<()> {
    let parameters = stmt.parameters();
    match arguments {
        Arguments::None if parameters == 0 => Ok(()),
        Arguments::None => Err(arguments_invalid(parameters, 0)),
        Arguments::Positional(values) if values.len() != parameters => {
            Err(arguments_invalid(parameters, values.len()))
        }
        Arguments::Positional(values) => {
            for (i, value) in values.iter().enumerate() {
                stmt.bind(i + 1, value.as_ref())?;
            }
            Ok(())
        }
        Arguments::Named(values) => bind_named(stmt, values),
    }
}

fn bind_named(stmt: &mut Stmt, values: &[(String, Value)]) -> Result<()> {
    let bare = |name: &str| name.trim_start_matches([':', '@', '$', '?']).to_owned();
    for i in 1..=stmt.parameters() {
        let Some(name) = stmt.parameter_name(i) else {
            return Err(Error::invalid(
                "ARGS_INVALID",
                "a nameless parameter needs positional arguments",
            ));
        };
        let value = values.iter().find(|(given, _)| *given == name || bare(given) == bare(&name));
        let Some((_, value)) = value else {
            return Err(Error::invalid(
                "ARGS_INVALID",
                format!("the parameter {name} has no argument"),
            ));
        };
        stmt.bind(i, value.as_ref())?;
    }
    Ok(())
}

fn arguments_invalid(parameters: usize, given: usize) -> Error {
    Error::invalid(
        "ARGS_INVALID",
        format!("the statement has {parameters} parameters; {given} arguments were given"),
    )
}
