//! The one row that every write benchmark inserts, whoever inserts it.

use std::sync::Arc;

use syncline::change::Value;
use syncline::engine::{Database, DatabaseOptions, Outcome, Program, RequestOptions, Session};
use syncline::engine::{Statement, StepOutcome};

use crate::Result;
use crate::block::block_on;

/// The table.
pub const CREATE: &str =
    "CREATE TABLE bench (id INTEGER PRIMARY KEY, client INTEGER NOT NULL, body TEXT NOT NULL)";

/// The statement.
pub const INSERT: &str = "INSERT INTO bench (client, body) VALUES (?, ?)";

/// The text of a row: 100 bytes, as a small order or event has.
pub const BODY: &str = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod \
                        tempor incididunt ut labore.";

/// One session that inserts the row.
pub struct Writer {
    session: Session,
    insert: Arc<str>,
    client: i64,
    options: RequestOptions,
}

impl Writer {
    /// A client of `db`.
    pub fn new(db: &Database, client: i64) -> Self {
        let options = RequestOptions::default();
        Writer { session: db.session(), insert: INSERT.into(), client, options }
    }

    /// Lets the inserts run on the thread that asks for them.
    pub fn blocking(self) -> Self {
        Writer { session: self.session.blocking(), ..self }
    }

    /// Inserts one row in a transaction of its own; its id.
    pub async fn insert(&mut self) -> Result<i64> {
        let arguments = [Value::Integer(self.client), Value::Text(BODY.into())];
        let mut statement = Statement::new(self.insert.clone(), arguments);
        statement.want_rows = false;
        let outcome = self.session.run(Program::single(statement), &self.options).await?;
        inserted(outcome)
    }
}

/// The id that an outcome of one insert gave.
fn inserted(outcome: Outcome) -> Result<i64> {
    match outcome.steps.into_iter().next() {
        Some(StepOutcome::Done(result)) => Ok(result.last_insert_rowid.ok_or("no rowid")?),
        Some(StepOutcome::Failed(error)) => Err(error.into()),
        _ => Err("the insert did not run".into()),
    }
}

/// Opens a writer with every default and creates the table.
pub fn open_writer(dir: &std::path::Path) -> Result<Database> {
    let db = Database::open(DatabaseOptions::writer(dir.join("main.db")))?;
    execute(&db, CREATE)?;
    Ok(db)
}

/// Runs one statement.
pub fn execute(db: &Database, sql: &str) -> Result<()> {
    let program = Program::single(Statement::new(sql, []));
    let outcome = block_on(db.session().run(program, &RequestOptions::default()))?;
    match outcome.steps.into_iter().next() {
        Some(StepOutcome::Failed(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Commits `count` rows, one a transaction, as fast as 256 clients can.
pub fn fill(db: &Database, count: usize) -> Result<()> {
    let clients = 256.min(count.max(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for client in 0..clients {
            let mut writer = Writer::new(db, client as i64);
            let share = count / clients + usize::from(client < count % clients);
            tasks.spawn(async move {
                for _ in 0..share {
                    writer.insert().await?;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    })
}

/// Commits `count` rows, `size` in each transaction.
pub fn fill_by(db: &Database, count: usize, size: usize) -> Result<()> {
    let insert = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {size}) \
         INSERT INTO bench (client, body) SELECT i % 256, '{BODY}' FROM n"
    );
    (0..count / size).try_for_each(|_| execute(db, &insert))
}
