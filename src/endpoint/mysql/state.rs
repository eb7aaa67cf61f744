//! The state that `sync` keeps beside the rows.
//!
//! Any CREATE TABLE commits what is open, so that the table is made before the transaction of its first entry.

use super::declared::Dialect;
use super::session::Session;
use crate::error::Result;

type Entry = (String, Option<String>);

/// Makes the table if there is something to keep and none is there.
pub(super) fn prepare(session: &mut Session, entries: &[Entry]) -> Result<()> {
    if entries.is_empty() || is_there(session)? {
        return Ok(());
    }
    let server = session.server();
    let exact = Dialect::of(server.is_maria, server.version).exact;
    session.run(&format!(
        "CREATE TABLE IF NOT EXISTS _syncline_sync (name VARCHAR(255) PRIMARY KEY, value LONGTEXT NOT NULL) \
         ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {exact}"
    ))
}

fn is_there(session: &mut Session) -> Result<bool> {
    let sql = "SELECT 1 FROM information_schema.tables \
        WHERE table_schema = DATABASE() AND table_name = '_syncline_sync'";
    Ok(!session.texts(sql, &[])?.is_empty())
}

/// Keeps entries, within the transaction that is open.
pub(super) fn keep(session: &mut Session, entries: &[Entry]) -> Result<()> {
    for (name, value) in entries {
        session.execute("DELETE FROM _syncline_sync WHERE name = ?", vec![name.into()])?;
        if let Some(value) = value {
            let sql = "INSERT INTO _syncline_sync VALUES (?, ?)";
            session.execute(sql, vec![name.into(), value.into()])?;
        }
    }
    Ok(())
}

/// The entries whose names begin so.
pub(super) fn entries(session: &mut Session, prefix: &str) -> Result<Vec<(String, String)>> {
    if !is_there(session)? {
        return Ok(Vec::new());
    }
    let sql =
        "SELECT name, value FROM _syncline_sync WHERE LEFT(name, CHAR_LENGTH(?)) = ? ORDER BY name";
    let entries = session.texts(sql, &[prefix, prefix])?.into_iter();
    Ok(entries
        .map(|line| match <[_; 2]>::try_from(line) {
            Ok([name, value]) => (name.unwrap_or_default(), value.unwrap_or_default()),
            Err(_) => unreachable!("two columns were selected"),
        })
        .collect())
}
