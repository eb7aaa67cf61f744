//! Verify: recount every stored row, and say which tables do not give their digest.
//!
//! Rows that someone changed behind Syncline's back are reported, never undone unasked. `adopt` makes
//! what is there a commit, so that every copy follows; `repair` writes back what the history says.

use std::time::Duration;

use super::backing::Backing;
use super::core::Core;
use super::database::{Database, wait};
use super::options::{BackingPlace, Role};
use super::shared::lock;
use super::status::State;
use crate::acknowledge::Level;
use crate::change::{DatabaseDigest, Position};
use crate::error::{Error, Result};
use crate::store::sqlite::Reader;
use crate::store::{ServerPlace, Standing};

/// What `verify` does about rows that do not give the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyMode {
    /// Report them.
    Report,
    /// Turn them into a commit.
    Adopt,
    /// Write the old ones back.
    Repair,
}

/// What `verify` found.
#[derive(Debug, Clone)]
pub struct VerifyReport {
    /// The position that was recounted.
    pub position: Position,
    /// Whether every table agreed.
    pub equal: bool,
    /// One line for each table that did not.
    pub findings: Vec<String>,
}

impl Database {
    /// Recounts every stored row and compares. Blocks on storage, long.
    pub fn verify(&self, mode: VerifyMode) -> Result<VerifyReport> {
        if self.serves_changed_rows() {
            return self.verify_changed_rows(mode);
        }
        let mut report = self.recount()?;
        if report.equal {
            self.recount_backing(&mut report)?;
            if !report.equal && mode != VerifyMode::Report {
                return self.mend_backing(mode, report.findings);
            }
        }
        if report.equal || mode == VerifyMode::Report {
            return Ok(report);
        }
        match (self.role(), mode) {
            (Role::Writer, _) => {
                let work = move |core: &mut Core| match mode {
                    VerifyMode::Adopt => core.adopt(),
                    _ => core.repair(),
                };
                wait(self.inbox()?.errand(work)?)?;
            }
            (Role::Reader, VerifyMode::Adopt) => {
                return Err(Error::invalid("NOT_WRITER", "only the writer can adopt rows")
                    .hint("run `syncline verify --repair` here: this reader's copy is made anew"));
            }
            (Role::Reader, _) => self.rebuild()?,
        }
        self.verify_after(report.findings)
    }

    /// Recounts after something was done about `findings`.
    pub(super) fn verify_after(&self, findings: Vec<String>) -> Result<VerifyReport> {
        let mut after = self.recount()?;
        self.recount_backing(&mut after)?;
        Ok(VerifyReport { findings, ..after })
    }

    fn rebuild(&self) -> Result<()> {
        let following = lock(&self.0.following);
        let closing = || Error::unavailable("CLOSING", "this node is shutting down");
        let following = following.as_ref().ok_or_else(closing)?;
        let answer = following.errand(|follower| follower.rebuild_now())?;
        wait(answer)
    }

    /// A writer whose copy is not the file that it writes also looks at that.
    fn recount_backing(&self, report: &mut VerifyReport) -> Result<()> {
        let options = self.options();
        let (is_ok, copy) = (self.shared().condition().state == State::Ok, self.shared().place()?);
        if self.role() == Role::Reader || !is_ok {
            return Ok(());
        }
        let there = match &options.backing {
            BackingPlace::File(path) => {
                if copy.path == *path && copy.disk.vfs() == options.disk.vfs() {
                    return Ok(());
                }
                compared(Reader::open(&options.disk, path)?.recount()?)
            }
            BackingPlace::Server(place) => recount_server(place.as_ref(), options.lease / 2)?,
        };
        report.equal = there.equal;
        report
            .findings
            .extend(there.findings.iter().map(|line| format!("in the backing database, {line}")));
        Ok(())
    }

    /// The copy is right, and the backing database is not: a server is given the copy's rows, or has its own
    /// made a commit.
    fn mend_backing(&self, mode: VerifyMode, findings: Vec<String>) -> Result<VerifyReport> {
        let mend = match (&self.options().backing, mode) {
            (BackingPlace::File(_), _) => return Err(only_the_backing(&findings)),
            (BackingPlace::Server(_), VerifyMode::Repair) => Core::write_over_the_server,
            (BackingPlace::Server(_), _) => Core::adopt,
        };
        wait(self.inbox()?.errand(mend)?)?;
        self.verify_after(findings)
    }

    fn recount(&self) -> Result<VerifyReport> {
        let report = compared(self.with_reader(|reader| reader.recount())?);
        if report.equal {
            let version = report.position.version;
            self.with_store(move |store| crate::store::Store::set_verified(store, version))?;
            self.shared().verified_at(version);
        }
        Ok(report)
    }
}

/// Recounts the rows of a server.
pub(super) fn recount_server(place: &dyn ServerPlace, limit: Duration) -> Result<VerifyReport> {
    let mut server = place.open(limit)?;
    Ok(compared((server.standing()?, server.digests()?, server.recount()?)))
}

/// What a recount came to: where it stands, what is claimed there, what was found.
fn compared(recount: (Standing, DatabaseDigest, DatabaseDigest)) -> VerifyReport {
    let (Standing { position, .. }, claimed, found) = recount;
    let findings = findings(&claimed, &found);
    let equal = findings.is_empty() && found.total() == position.digest;
    VerifyReport { position, equal, findings }
}

fn only_the_backing(findings: &[String]) -> Error {
    let message =
        format!("this copy is right, the backing database is not: {}", findings.join("; "));
    Error::diverged("BACKING_DIFFERS", message).hint(
        "start this node with working_copy = \"disk\", then `syncline verify --repair` or `--adopt`",
    )
}

fn findings(claimed: &DatabaseDigest, found: &DatabaseDigest) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, table) in claimed.tables() {
        match found.get(name) {
            Some(there) if there == table => {}
            Some(there) => lines.push(format!(
                "table {name}: {} rows with digest {}, its history gives {} rows with digest {}",
                there.rows, there.digest, table.rows, table.digest
            )),
            None => lines.push(format!("table {name}: it is gone")),
        }
    }
    for (name, _) in found.tables().filter(|(name, _)| claimed.get(name).is_none()) {
        lines.push(format!("table {name}: the history knows no such table"));
    }
    lines
}

impl Core {
    /// Makes the rows that are there a commit: each table that disagrees is dropped and made again with
    /// them, in the log alone. Of a server, its rows count.
    pub(super) fn adopt(&mut self) -> Result<()> {
        if let Backing::Server(_) = self.backing {
            return self.adopt_from_server();
        }
        self.begin(Level::Disk)?;
        self.store.begin_unit(false)?;
        let at = self.now();
        let adopted = self.store.restate_tables().and_then(|()| self.store.commit_unit(at, None));
        match adopted {
            Ok(_) => self.commit(Level::Disk).map(|_| ()),
            Err(error) => {
                self.store.rollback()?;
                Err(error)
            }
        }
    }

    /// Writes everything that this copy has over what a server has.
    fn write_over_the_server(&mut self) -> Result<()> {
        self.refuse_if_not_writing()?;
        self.be_settled()?;
        self.flush_now()?;
        let Backing::Server(server) = &mut self.backing else { return Ok(()) };
        server.replace(&mut self.store).map(drop)
    }

    /// Writes the rows back that the log gives, if it reaches back to the beginning.
    fn repair(&mut self) -> Result<()> {
        // Without clients' triggers and key actions: they would change what was not wrong.
        self.store.follow()?;
        let repaired = self.repair_inside();
        if repaired.is_err() {
            self.store.rollback()?;
        }
        self.store.serve_clients()?;
        repaired
    }

    fn repair_inside(&mut self) -> Result<()> {
        self.begin(Level::Disk)?;
        self.store.repair_tables()?;
        self.store.commit().map(|_| ())
    }
}
