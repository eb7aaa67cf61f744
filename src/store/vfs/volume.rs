//! A disk's names and files: what both [`super::MemoryDisk`] and the VFS act on.

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use super::chance::Chance;
use super::fault::{Failure, FaultOn, Gate};
use super::ffi::Registration;
use super::file::{Contents, File, Space};
use super::handle::Handle;

/// Lives as long as anyone has the disk or a file of it open.
pub(super) struct Volume {
    pub(super) vfs: String,
    pub(super) loss: Loss,
    /// How often the power failed before.
    pub(super) failures: u64,
    pub(super) gate: Gate,
    pub(super) space: Arc<Space>,
    files: RwLock<BTreeMap<String, Arc<File>>>,
    _registration: Registration,
}

/// What a power loss does to sectors that were being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The power never goes.
    Never,
    /// They may be torn, but bytes that nobody wrote are as they were: "powersafe overwrite", on which
    /// SQLite relies on the system's disks unless told otherwise.
    Torn,
    /// They may be anything.
    Spoiled,
}

impl Loss {
    /// Whether files remember what of them is not synced.
    pub(super) fn forgets(self) -> bool {
        self != Loss::Never
    }
}

/// How SQLite wants a file opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Opening {
    pub(super) create: bool,
    pub(super) exclusive: bool,
    pub(super) read_only: bool,
    pub(super) delete_on_close: bool,
}

impl Volume {
    pub(super) fn new(loss: Loss, capacity: u64) -> Arc<Volume> {
        Volume::after(0, loss, capacity)
    }

    fn after(failures: u64, loss: Loss, capacity: u64) -> Arc<Volume> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let vfs = format!("syncline-memory-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Arc::new_cyclic(|this| Volume {
            _registration: Registration::new(&vfs, this.clone()),
            vfs,
            loss,
            failures,
            gate: Gate::new(),
            space: Arc::new(Space::new(capacity)),
            files: RwLock::default(),
        })
    }

    /// The file of this name.
    pub(super) fn file(&self, name: &str) -> Option<Arc<File>> {
        self.files.read().unwrap().get(name).cloned()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.files.read().unwrap().keys().cloned().collect()
    }

    /// Opens a file for SQLite; without a name, one that nobody else will ever find.
    pub(super) fn open(
        self: &Arc<Volume>,
        name: Option<&str>,
        opening: Opening,
    ) -> Result<Handle, Failure> {
        let file = match name {
            Some(name) => self.find_or_create(name, opening)?,
            None => self.new_file(Contents::empty(self.loss.forgets())),
        };
        if let (Some(name), true) = (name, opening.delete_on_close) {
            // As on POSIX: the name goes at once, the file when it is closed.
            self.remove(name)?;
        }
        Ok(Handle::new(self.clone(), file, name.unwrap_or_default(), opening.read_only))
    }

    fn find_or_create(&self, name: &str, opening: Opening) -> Result<Arc<File>, Failure> {
        match self.file(name) {
            Some(_) if opening.exclusive => return Err(Failure::Exists),
            Some(file) => return Ok(file),
            None if !opening.create => return Err(Failure::Missing),
            None => {}
        }
        let _passage = self.gate.change(None, name)?;
        let fresh = self.new_file(Contents::empty(self.loss.forgets()));
        // Another connection may have been faster: then theirs is the file.
        Ok(self.files.write().unwrap().entry(name.to_owned()).or_insert(fresh).clone())
    }

    fn new_file(&self, contents: Contents) -> Arc<File> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        File::new(NEXT.fetch_add(1, Ordering::Relaxed), contents, &self.space)
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), Failure> {
        if self.file(name).is_none() {
            return Err(Failure::Missing);
        }
        let _passage = self.gate.change(None, name)?;
        self.files.write().unwrap().remove(name).map(drop).ok_or(Failure::Missing)
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), Failure> {
        if self.file(from).is_none() {
            return Err(Failure::Missing);
        }
        let _passage = self.gate.change(None, from)?;
        let mut files = self.files.write().unwrap();
        let file = files.remove(from).ok_or(Failure::Missing)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    /// Writes, syncs, renames, syncs the directory: four changes, so that a crash can come between
    /// any two. After the third the new content is there, whatever the caller is told.
    pub(super) fn write_atomic(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let temporary = self.new_file(Contents::empty(self.loss.forgets()));
        {
            let _passage = self.gate.change(Some(FaultOn::Write), name)?;
            temporary.write(bytes, 0)?;
        }
        {
            let _passage = self.gate.change(Some(FaultOn::Sync), name)?;
            temporary.sync();
        }
        {
            let _passage = self.gate.change(None, name)?;
            self.files.write().unwrap().insert(name.to_owned(), temporary);
        }
        self.gate.change(None, name).map(drop)
    }

    /// Puts a file there by another hand: another object, synced, no questions asked.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) {
        let _shut = self.gate.shut();
        let file = self.new_file(Contents::synced(bytes, self.loss.forgets()));
        self.files.write().unwrap().insert(name.to_owned(), file);
    }

    /// The same, written into the object that is there.
    pub(super) fn copy_over(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let _shut = self.gate.shut();
        let file = self.file(name).ok_or(Failure::Missing)?;
        file.set_len(bytes.len() as u64)?;
        file.write(bytes, 0)?;
        file.sync();
        Ok(())
    }

    /// Freezes this disk, and makes one of what each file leaves behind.
    pub(super) fn crash(&self, mut chance: Option<Chance>) -> Arc<Volume> {
        let shut = self.gate.shut();
        self.gate.freeze(&shut);
        let failures = self.failures + u64::from(chance.is_some());
        let capacity = self.space.capacity.load(Ordering::Relaxed);
        let after = Volume::after(failures, self.loss, capacity);
        for (name, file) in self.files.read().unwrap().iter() {
            let contents = match &mut chance {
                Some(chance) => file.survivor(self.loss, chance),
                None => file.copy(),
            };
            let file = File::new(file.object, contents, &after.space);
            after.files.write().unwrap().insert(name.clone(), file);
        }
        after
    }
}

/// The one spelling of a path: absolute, without `.` and `..`.
pub(super) fn name_of(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    format!("/{}", parts.join("/"))
}
