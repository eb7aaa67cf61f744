//! What client SQL may do, decided when a statement is prepared.
//!
//! SQLite asks an authorizer about everything a statement will touch. It answers here, and on the way
//! it learns what kind of statement this is: which is more certain than reading the text.

use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::codes::from_rusqlite;
use crate::error::{Error, Kind, Result};

/// What a statement turned out to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    /// Makes a schema object.
    pub creates: bool,
    /// Alters a table.
    pub alters: bool,
    /// Drops a schema object.
    pub drops: bool,
    /// Inserts at its top level.
    pub inserts: bool,
    /// Inserts where AUTOINCREMENT counts. (It counts rows that OR IGNORE passes over, too: no hook
    /// would tell.)
    pub counts: bool,
    /// Writes `sqlite_sequence` by name.
    pub sequence: bool,
    /// Is a PRAGMA.
    pub pragma: bool,
}

impl Facts {
    /// Whether it changes the schema.
    pub fn is_schema(self) -> bool {
        self.creates || self.alters || self.drops
    }
}

/// PRAGMAs that read, and those that set something of the stream or of the database header.
const PRAGMAS: &[&str] = &[
    "application_id",
    "case_sensitive_like",
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "defer_foreign_keys",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "journal_mode",
    "module_list",
    "optimize",
    "page_count",
    "page_size",
    "pragma_list",
    "quick_check",
    "recursive_triggers",
    "schema_version",
    "synchronous",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
    "busy_timeout",
    "cache_size",
    "legacy_alter_table",
];

/// … and those among them that may be read but not set, or would change other streams.
const READ_ONLY_PRAGMAS: &[&str] = &[
    "encoding",
    "schema_version",
    "synchronous",
    "page_size",
    "data_version",
    "freelist_count",
    "page_count",
    "legacy_alter_table",
    "cache_size",
    "journal_mode",
];

/// The modules of which clients may make virtual tables: each keeps its content in ordinary tables, or
/// shows another's. (sqlite_dbpage and dbstat would show pages of ours.)
const MODULES: &[&str] =
    &["fts5", "fts5vocab", "fts4", "fts4aux", "fts3", "rtree", "rtree_i32", "geopoly"];

/// The columns of ours that the views `syncline_tables` and `syncline_held` read. Anyone may: SQLite
/// names the view that reads, but a WITH clause can take any view's name.
const SHOWN: &[(&str, &[&str])] = &[
    ("_syncline_state", &["name", "rows", "digest"]),
    ("_syncline_held", &["id", "at", "reason", "bytes"]),
];

fn is_listed(list: &[&str], name: &str) -> bool {
    list.iter().any(|listed| listed.eq_ignore_ascii_case(name))
}

fn is_shown(table: &str, column: &str) -> bool {
    let shown = SHOWN.iter().find(|(name, _)| *name == table);
    shown.is_some_and(|(_, columns)| column.is_empty() || columns.contains(&column))
}

/// Lets a connection read what is open to clients, and nothing else: for statements of our own that hold names
/// and conditions of theirs.
pub(crate) fn only_reads(connection: &mut Connection) -> Result<()> {
    use AuthAction::*;
    let answer = |context: AuthContext<'_>| match context.action {
        Transaction { .. } => Authorization::Allow,
        // Nothing of ours is shown: the views that show some are not there.
        Read { table_name, .. } => State::default().touched(table_name),
        Select | Recursive | Function { .. } | Pragma { .. } => State::default().answer(&context),
        _ => Authorization::Deny,
    };
    connection.authorizer(Some(answer)).map_err(from_rusqlite)
}

/// Refuses a name that is ours: of a schema object, or of a savepoint (a group has savepoints of its own,
/// and a client's of the same name would hide them).
pub(crate) fn check_name(name: &str) -> Result<()> {
    let starts =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix));
    if starts("_syncline_") || starts("syncline_") {
        let message = format!("the name {name} is Syncline's own");
        return Err(Error::new(Kind::Forbidden, "BLOCKED", message)
            .hint("choose a name that does not begin with syncline_"));
    }
    Ok(())
}

#[derive(Debug, Default)]
struct State {
    /// The statement being prepared is a client's.
    client: bool,
    /// It is prepared for the first time, by the client; when it runs, the modules of virtual tables
    /// prepare statements of their own.
    preparing: bool,
    facts: Facts,
    refusal: Option<Error>,
    /// The tables with AUTOINCREMENT.
    counted: Vec<String>,
}

/// The authorizer of one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guard(Arc<Mutex<State>>);

impl Guard {
    /// Installs it; it lets everything pass until [`check`](Self::check).
    pub fn install(connection: &mut Connection) -> Result<Guard> {
        let guard = Guard::default();
        let state = guard.0.clone();
        let answer = move |context: AuthContext<'_>| {
            let mut state = state.lock().unwrap_or_else(|e| e.into_inner());
            if state.client { state.answer(&context) } else { Authorization::Allow }
        };
        connection.authorizer(Some(answer)).map_err(from_rusqlite)?;
        Ok(guard)
    }

    /// Prepares a client's statement: gives what it does, or why it may not.
    pub fn check<T>(&self, prepare: impl FnOnce() -> Result<T>) -> Result<(T, Facts)> {
        self.lock().begin(true);
        let prepared = prepare();
        let (facts, refusal) = self.lock().end();
        match (prepared, refusal) {
            (_, Some(refusal)) => Err(refusal),
            (Err(error), None) => Err(error),
            (Ok(prepared), None) => Ok((prepared, facts)),
        }
    }

    /// Runs a prepared client statement: SQLite may have to prepare it again.
    pub fn enter(&self) {
        self.lock().begin(false);
    }

    /// Ends what [`enter`](Self::enter) began; gives the refusal, if preparing again met one.
    pub fn leave(&self) -> Option<Error> {
        self.lock().end().1
    }

    /// From now on inserts into these tables count.
    pub fn set_counted(&self, tables: Vec<String>) {
        self.lock().counted = tables;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl State {
    fn begin(&mut self, preparing: bool) {
        (self.client, self.preparing) = (true, preparing);
        (self.facts, self.refusal) = (Facts::default(), None);
    }

    fn end(&mut self) -> (Facts, Option<Error>) {
        self.client = false;
        (self.facts, self.refusal.take())
    }

    fn refuse(&mut self, message: impl Into<String>, hint: &str) -> Authorization {
        let error = Error::new(Kind::Forbidden, "BLOCKED", message).hint(hint);
        self.refusal.get_or_insert(error);
        Authorization::Deny
    }

    fn refuse_control(&mut self) -> Authorization {
        self.refuse(
            "transactions are begun and ended by statements of their own",
            "send BEGIN, COMMIT, ROLLBACK, SAVEPOINT and RELEASE alone, with nothing before them",
        )
    }

    fn named(&mut self, name: &str) -> Authorization {
        match check_name(name) {
            Ok(()) => Authorization::Allow,
            Err(refusal) => {
                self.refusal.get_or_insert(refusal);
                Authorization::Deny
            }
        }
    }

    fn touched(&mut self, table: &str) -> Authorization {
        let is = |name: &str| table.eq_ignore_ascii_case(name);
        if table.get(..10).is_some_and(|p| p.eq_ignore_ascii_case("_syncline_"))
            || is("sqlite_dbpage")
            || is("dbstat")
        {
            let hint =
                "see syncline_tables, syncline_held and the HTTP endpoints for what can be read";
            return self.refuse(format!("{table} is not open to clients"), hint);
        }
        Authorization::Allow
    }

    fn answer(&mut self, context: &AuthContext<'_>) -> Authorization {
        use AuthAction::*;
        const TEMP: &str = "make an ordinary table, or keep the rows in the client";
        let makes = matches!(
            context.action,
            CreateTable { .. } | CreateView { .. } | CreateVtable { .. } | CreateTrigger { .. }
        );
        // `CREATE TABLE temp.t` is no CreateTempTable.
        if makes && context.database_name == Some("temp") {
            return self.refuse("TEMP objects are not replicated", TEMP);
        }
        match context.action {
            Attach { .. } | Detach { .. } => self.refuse(
                "ATTACH and DETACH are not open to clients",
                "ask for another database by its path in the URL",
            ),
            CreateTempIndex { .. }
            | CreateTempTable { .. }
            | CreateTempTrigger { .. }
            | CreateTempView { .. } => self.refuse("TEMP objects are not replicated", TEMP),
            Function { function_name } if function_name.eq_ignore_ascii_case("load_extension") => {
                self.refuse("extensions cannot be loaded", "ask the operator")
            }
            Pragma { pragma_name, pragma_value } => self.pragma(pragma_name, pragma_value),
            DropTempIndex { .. }
            | DropTempTable { .. }
            | DropTempTrigger { .. }
            | DropTempView { .. } => self.refuse("the views syncline_* are Syncline's own", TEMP),
            // Recognised by whoever calls, and carried out unguarded. In a spelling that was not, it
            // would end the transaction of everybody in the group.
            Transaction { .. } => self.refuse_control(),
            Savepoint { .. } if self.preparing => self.refuse_control(),
            CreateVtable { module_name, .. } if !is_listed(MODULES, module_name) => self.refuse(
                format!("virtual tables of the module {module_name} are not open to clients"),
                "there are fts5, fts4, fts3, rtree and geopoly",
            ),
            CreateTable { table_name: name }
            | CreateView { view_name: name }
            | CreateVtable { table_name: name, .. } => {
                self.facts.creates = true;
                self.named(name)
            }
            CreateTrigger { trigger_name: name, table_name: on }
            | CreateIndex { index_name: name, table_name: on } => {
                self.facts.creates = true;
                match self.touched(on) {
                    Authorization::Allow => self.named(name),
                    refused => refused,
                }
            }
            AlterTable { table_name, .. } => {
                self.facts.alters = true;
                self.touched(table_name)
            }
            DropTable { table_name: name }
            | DropView { view_name: name }
            | DropVtable { table_name: name, .. }
            | DropTrigger { trigger_name: name, .. }
            | DropIndex { index_name: name, .. } => {
                self.facts.drops = true;
                self.touched(name)
            }
            Insert { table_name } => {
                self.facts.inserts |= context.accessor.is_none();
                self.facts.sequence |= table_name.eq_ignore_ascii_case("sqlite_sequence");
                self.facts.counts |= self.counted.iter().any(|table| table == table_name);
                self.touched(table_name)
            }
            Update { table_name, .. } | Delete { table_name } => {
                self.facts.sequence |= table_name.eq_ignore_ascii_case("sqlite_sequence");
                self.touched(table_name)
            }
            Read { table_name, column_name } if is_shown(table_name, column_name) => {
                Authorization::Allow
            }
            Read { table_name, .. } => self.touched(table_name),
            _ => Authorization::Allow,
        }
    }

    fn pragma(&mut self, name: &str, value: Option<&str>) -> Authorization {
        self.facts.pragma = true;
        let listed = |list: &[&str]| is_listed(list, name);
        // Also from within `pragma_table_info('…')` and its like.
        let about = value.unwrap_or_default().to_ascii_lowercase();
        if about.starts_with("_syncline_") || about.starts_with("sqlite_autoindex__syncline_") {
            return self.touched("_syncline_");
        }
        if !listed(PRAGMAS) {
            return self.refuse(
                format!("PRAGMA {name} is not open to clients"),
                "docs/reference lists the PRAGMAs that are",
            );
        }
        // Many libraries ask for the mode that it has.
        let kept = name.eq_ignore_ascii_case("journal_mode") && about == "wal";
        if value.is_some() && !kept && listed(READ_ONLY_PRAGMAS) {
            return self.refuse(
                format!("PRAGMA {name} can be read but not set"),
                "the node sets it for every stream",
            );
        }
        Authorization::Allow
    }
}
