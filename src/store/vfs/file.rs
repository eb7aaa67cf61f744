//! A file: its contents, what of them was synced, and what of the rest survives a power loss.
//!
//! Contents lie in chunks that are shared until written to, so that copying a file (a crash, a
//! snapshot) costs a pointer a chunk. A file that is told to forget keeps, beside them, an image of
//! every 512-byte sector from before each write since the last sync:
//!
//! ```text
//!   sector          0     1     2     3     4
//!   contents      [ S ] [ N ] [ N ] [ S ] [ N ]         S synced, N new
//!   before               S     S,M          -           M written in between, - did not exist
//!   after a crash [ S ] [S|N] [S|M|N|torn] [ S ] [-|N]  one coin a sector
//! ```
//!
//! The length of a file that grew is a coin of its own: as synced, as written, or in between. Cutting
//! a file short is one change of its inode, as file systems with a journal do it: after a crash all of
//! it happened, or the part that was cut off is back. SQLite relies on that where truncating the
//! journal is the commit.
//!
//! A torn sector is new up to some byte and old after it, or the other way around, or rubbish as a
//! whole: bytes that were synced, but share their sector with bytes that were not, are gone too (on a
//! disk that spoils; else it is new here and old there).
//!
//! A sync that succeeds drops the images. One that *fails* does what Linux does (`errseq_t`, since
//! 4.13): every handle that has the file open hears of it once, at its own next sync. But the pages are
//! taken for clean, so a sync after that one succeeds and says nothing about them. Only writing a
//! sector again makes it syncable.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};

use super::chance::Chance;
use super::fault::Failure;
use super::lock::Locks;
use super::shm::Shm;
use super::volume::Loss;

/// What is written or lost together.
pub(super) const SECTOR: usize = 512;
const CHUNK: usize = 16 * 1024;
/// Images kept of one sector between two syncs; beyond that those in the middle are let go.
const IMAGES: usize = 4;

type Chunk = [u8; CHUNK];
type Image = [u8; SECTOR];

/// What every chunk is before its first write.
static ZEROS: LazyLock<Arc<Chunk>> = LazyLock::new(|| Arc::new([0; CHUNK]));

/// A file object. It outlives its name for as long as someone has it open.
pub(super) struct File {
    pub(super) object: u64,
    pub(super) locks: Mutex<Locks>,
    pub(super) shm: Shm,
    contents: RwLock<Contents>,
    failed_syncs: AtomicU64,
    space: Arc<Space>,
}

impl File {
    /// A file with these contents. Space is taken without asking: see [`Space::reserve`].
    pub(super) fn new(object: u64, contents: Contents, space: &Arc<Space>) -> Arc<File> {
        space.used.fetch_add(contents.len, Ordering::Relaxed);
        Arc::new(File {
            object,
            locks: Mutex::default(),
            shm: Shm::default(),
            contents: RwLock::new(contents),
            failed_syncs: AtomicU64::new(0),
            space: space.clone(),
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.contents.read().unwrap().len
    }

    /// Fills `buffer` from `offset`, with zeros past the end, and says how much there was.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        self.contents.read().unwrap().read(buffer, offset)
    }

    pub(super) fn read_all(&self) -> Vec<u8> {
        let contents = self.contents.read().unwrap();
        let mut bytes = vec![0; contents.len as usize];
        contents.read(&mut bytes, 0);
        bytes
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Failure> {
        let mut contents = self.contents.write().unwrap();
        let end = offset.checked_add(bytes.len() as u64).ok_or(Failure::Full)?;
        self.space.reserve(end.saturating_sub(contents.len))?;
        contents.write(bytes, offset);
        Ok(())
    }

    pub(super) fn set_len(&self, len: u64) -> Result<(), Failure> {
        let mut contents = self.contents.write().unwrap();
        self.space.reserve(len.saturating_sub(contents.len))?;
        self.space.give_back(contents.len.saturating_sub(len));
        contents.set_len(len);
        Ok(())
    }

    pub(super) fn sync(&self) {
        self.contents.write().unwrap().sync();
    }

    pub(super) fn sync_failed(&self) {
        let mut contents = self.contents.write().unwrap();
        contents.sync_failed();
        // Counted before another handle can sync: it must not succeed unheard.
        self.failed_syncs.fetch_add(1, Ordering::SeqCst);
    }

    /// How many syncs of it have failed, through whichever handle.
    pub(super) fn failed_syncs(&self) -> u64 {
        self.failed_syncs.load(Ordering::SeqCst)
    }

    /// What is found of this file after a power loss now.
    pub(super) fn survivor(&self, loss: Loss, chance: &mut Chance) -> Contents {
        self.contents.read().unwrap().survivor(loss, chance)
    }

    /// What is found of this file after the death of the process now.
    pub(super) fn copy(&self) -> Contents {
        self.contents.read().unwrap().clone()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let contents = self.contents.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.space.give_back(contents.len);
    }
}

/// How much a disk holds, and how much it may. Files that are deleted but open still count.
pub(super) struct Space {
    used: AtomicU64,
    pub(super) capacity: AtomicU64,
}

impl Space {
    pub(super) fn new(capacity: u64) -> Space {
        Space { used: AtomicU64::new(0), capacity: AtomicU64::new(capacity) }
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `more` bytes, all or none.
    pub(super) fn reserve(&self, more: u64) -> Result<(), Failure> {
        if more == 0 {
            return Ok(());
        }
        let capacity = self.capacity.load(Ordering::Relaxed);
        let within = |used: u64| used.checked_add(more).filter(|total| *total <= capacity);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::Full),
        }
    }

    pub(super) fn give_back(&self, less: u64) {
        self.used.fetch_sub(less, Ordering::Relaxed);
    }
}

/// The bytes of a file. Those past `len` in the last chunk are zero, so that growing needs no
/// clearing.
#[derive(Clone)]
pub(super) struct Contents {
    chunks: Vec<Arc<Chunk>>,
    len: u64,
    /// `None` on a disk that never loses power.
    unsynced: Option<Unsynced>,
}

/// What would have to be undone to get back to the last sync.
#[derive(Clone, Default)]
struct Unsynced {
    len: u64,
    sectors: BTreeMap<u64, Sector>,
    /// The last cut, if not synced. A second one makes the first durable.
    cut: Option<Box<Cut>>,
}

/// A file as it was before it was cut short.
#[derive(Clone)]
struct Cut {
    /// The first sector that went as a whole.
    from: u64,
    /// With the unsynced sectors from there on only.
    before: Contents,
}

#[derive(Clone)]
struct Sector {
    /// Oldest first; the first is what is synced. Never empty, at most [`IMAGES`].
    before: Vec<Image>,
    /// A sync of it failed: later syncs pass it over.
    passed_over: bool,
}

impl Contents {
    /// An empty file, new and unsynced.
    pub(super) fn empty(forgets: bool) -> Contents {
        let unsynced = forgets.then(Unsynced::default);
        Contents { chunks: Vec::new(), len: 0, unsynced }
    }

    /// A file that is safely on disk.
    pub(super) fn synced(bytes: &[u8], forgets: bool) -> Contents {
        let mut contents = Contents::empty(false);
        contents.write(bytes, 0);
        contents.unsynced = forgets.then(Unsynced::default);
        contents.sync();
        contents
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let there = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let (found, past_end) = buffer.split_at_mut(there);
        let mut at = offset as usize;
        let mut rest = found;
        while !rest.is_empty() {
            let chunk = &self.chunks[at / CHUNK][at % CHUNK..];
            let (piece, next) = rest.split_at_mut(chunk.len().min(rest.len()));
            piece.copy_from_slice(&chunk[..piece.len()]);
            at += piece.len();
            rest = next;
        }
        past_end.fill(0);
        there
    }

    fn write(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        // Not the gap that a write past the end leaves: its zeros are nobody's writing.
        self.remember(offset, end);
        if end > self.len {
            self.resize_chunks(end);
            self.len = end;
        }
        let mut at = offset as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let chunk = &mut Arc::make_mut(&mut self.chunks[at / CHUNK])[at % CHUNK..];
            let (piece, next) = rest.split_at(chunk.len().min(rest.len()));
            chunk[..piece.len()].copy_from_slice(piece);
            at += piece.len();
            rest = next;
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.cut(len);
        }
        self.resize_chunks(len);
        let tail = (len % CHUNK as u64) as usize;
        if len < self.len && tail > 0 {
            Arc::make_mut(self.chunks.last_mut().expect("len > 0"))[tail..].fill(0);
        }
        self.len = len;
    }

    /// Keeps what is about to be cut off.
    fn cut(&mut self, len: u64) {
        let from = len.div_ceil(SECTOR as u64);
        // The sector that `len` divides stays, with zeros written behind the end.
        self.remember(len, (from * SECTOR as u64).min(self.len));
        let Some(mut unsynced) = self.unsynced.take() else { return };
        let gone = unsynced.sectors.split_off(&from);
        let tail = Unsynced { len: unsynced.len, sectors: gone, cut: None };
        let before = Contents { unsynced: Some(tail), chunks: self.chunks.clone(), len: self.len };
        unsynced.cut = Some(Box::new(Cut { from, before }));
        unsynced.len = unsynced.len.min(len);
        self.unsynced = Some(unsynced);
    }

    fn resize_chunks(&mut self, len: u64) {
        self.chunks.resize_with(len.div_ceil(CHUNK as u64) as usize, || ZEROS.clone());
    }

    fn image(&self, sector: u64) -> Image {
        let mut image = [0; SECTOR];
        self.read(&mut image, sector * SECTOR as u64);
        image
    }

    /// Keeps the sectors that hold the bytes from `start` to `end`, which are about to change.
    fn remember(&mut self, start: u64, end: u64) {
        let Some(mut unsynced) = self.unsynced.take() else { return };
        for index in start / SECTOR as u64..end.div_ceil(SECTOR as u64) {
            unsynced.remember(index, self.image(index));
        }
        self.unsynced = Some(unsynced);
    }

    fn sync(&mut self) {
        if let Some(unsynced) = &mut self.unsynced {
            unsynced.len = self.len;
            unsynced.sectors.retain(|_, sector| sector.passed_over);
            unsynced.cut = None;
        }
    }

    fn sync_failed(&mut self) {
        if let Some(unsynced) = &mut self.unsynced {
            unsynced.sectors.values_mut().for_each(|sector| sector.passed_over = true);
        }
    }

    fn survivor(&self, loss: Loss, chance: &mut Chance) -> Contents {
        if self.unsynced.is_none() {
            return self.clone();
        }
        let kept = Kept::draw(loss, chance);
        let mut after = self.survivor_of(kept, chance);
        after.unsynced = Some(Unsynced { len: after.len, ..Unsynced::default() });
        after
    }

    fn survivor_of(&self, kept: Kept, chance: &mut Chance) -> Contents {
        let mut after = Contents { chunks: self.chunks.clone(), len: self.len, unsynced: None };
        let Some(unsynced) = &self.unsynced else { return after };
        let mut len = kept.len(unsynced.len, self.len, chance);
        let mut lost_from = u64::MAX;
        if let Some(cut) = unsynced.cut.as_ref().filter(|_| !kept.keeps(chance)) {
            after = cut.before.survivor_of(kept, chance);
            (len, lost_from) = (after.len, cut.from);
        }
        for (&index, sector) in unsynced.sectors.range(..lost_from) {
            let image = sector.survivor(&self.image(index), kept, chance);
            after.write(&image, index * SECTOR as u64);
        }
        after.set_len(len);
        after
    }
}

/// How much of what was not synced a drive happened to have written: so many quarters. Each end has
/// a turn of its own, nothing at all and everything, where no coin is thrown.
#[derive(Clone, Copy)]
struct Kept(u64, Loss);

impl Kept {
    fn draw(loss: Loss, chance: &mut Chance) -> Kept {
        Kept(chance.below(5), loss)
    }

    fn keeps(self, chance: &mut Chance) -> bool {
        chance.below(4) < self.0
    }

    fn tears(self, chance: &mut Chance) -> bool {
        (1..4).contains(&self.0) && chance.below(8) == 0
    }

    /// Of a file that grew from `synced` to `now`.
    fn len(self, synced: u64, now: u64, chance: &mut Chance) -> u64 {
        match (self.0, chance.below(3)) {
            (0, _) => synced,
            (4, _) => now,
            (_, 0) => synced,
            (_, 1) => now,
            _ => synced + chance.below(now.saturating_sub(synced) + 1),
        }
    }
}

impl Unsynced {
    fn remember(&mut self, index: u64, image: Image) {
        let fresh = || Sector { before: Vec::with_capacity(1), passed_over: false };
        let sector = self.sectors.entry(index).or_insert_with(fresh);
        if sector.before.len() == IMAGES {
            sector.before.remove(1);
        }
        sector.before.push(image);
        sector.passed_over = false;
    }
}

impl Sector {
    fn survivor(&self, now: &Image, kept: Kept, chance: &mut Chance) -> Image {
        if kept.tears(chance) {
            torn(&self.before[0], now, kept.1, chance)
        } else if kept.keeps(chance) {
            *now
        } else if kept.0 == 0 {
            self.before[0]
        } else {
            self.before[chance.below(self.before.len() as u64) as usize]
        }
    }
}

fn torn(old: &Image, new: &Image, loss: Loss, chance: &mut Chance) -> Image {
    let seam = chance.below(SECTOR as u64) as usize;
    let (start, end) = match chance.below(4) {
        0 => (old, new),
        1 => (new, old),
        _ if loss == Loss::Spoiled => {
            return std::array::from_fn(|_| chance.below(256) as u8);
        }
        _ => return std::array::from_fn(|i| if chance.below(2) == 0 { old[i] } else { new[i] }),
    };
    let mut image = *start;
    image[seam..].copy_from_slice(&end[seam..]);
    image
}
