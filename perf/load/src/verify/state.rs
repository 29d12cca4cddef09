//! The state file: what a later run must know about the writes of this one.
//!
//! A header of 64 bytes, then notes of 24 bytes, appended: *planned* before a write is submitted, *written* or *failed*
//! when it has ended. A planned write with no end may have happened. Each note ends in a CRC32C; the first that is
//! wrong ends the file (a note that a killed process wrote half). Little-endian.
//!
//! | header | bytes | | note | bytes |
//! |---|---|---|---|---|
//! | magic | 8 | | place | 8 |
//! | run | 8 | | sequence number | 8 |
//! | bytes of the bdev | 8 | | kind: 1 planned, 2 written, 3 failed | 4 |
//! | bytes of an IO | 4 | | CRC32C of what is before | 4 |
//! | bytes of a block | 4 | | | |
//! | zero | 28 | | | |
//! | CRC32C of what is before | 4 | | | |

use super::ledger::{Ledger, Seq, UNWRITTEN};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"rmrstat1";
const HEADER: usize = 64;
const NOTE: usize = 24;

/// What the places are cut from; a state file is for one shape only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) bdev_bytes: u64,
    pub(super) io_bytes: u32,
    pub(super) block_bytes: u32,
}

impl Shape {
    fn places(self) -> u64 {
        self.bdev_bytes / u64::from(self.io_bytes)
    }

    fn blocks(self) -> u32 {
        self.io_bytes / self.block_bytes
    }
}

/// Why a state file cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    /// The file system said so.
    #[error("state file {path:?} (--state): {error}", path = .0, error = .1)]
    Io(PathBuf, std::io::Error),
    /// Not a state file.
    #[error(
        "{0:?} (--state) is not a state file of rmr-perf: give another name, or remove it to start afresh"
    )]
    Foreign(PathBuf),
    /// For another shape.
    #[error(
        "state file {path:?} (--state) is for a bdev of {} bytes, IO of {} and blocks of {}; this run has {}, {} and {}: give the same -o, or another state file",
        kept.bdev_bytes, kept.io_bytes, kept.block_bytes, now.bdev_bytes, now.io_bytes, now.block_bytes
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// What it was made for.
        kept: Shape,
        /// What this run has.
        now: Shape,
    },
}

/// What a note says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The write is about to be submitted.
    Planned = 1,
    /// It was acknowledged.
    Written = 2,
    /// It failed.
    Failed = 3,
}

/// An open state file. Notes gather in memory until [`StateFile::flush`].
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    file: File,
    pending: Vec<u8>,
}

/// Opens the state file, or starts one, and gives back what is known and the number of the run.
pub(super) fn open(
    path: &Path,
    shape: Shape,
    fresh_run: u64,
) -> Result<(StateFile, Ledger, u64), StateError> {
    let failed = |error| StateError::Io(path.to_owned(), error);
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes).map_err(failed)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(failed(error)),
    };
    let mut ledger = Ledger::new(shape.places(), shape.blocks());
    let mut run = fresh_run;
    if !bytes.is_empty() {
        let (kept, its_run) = read_header(&bytes).ok_or_else(|| StateError::Foreign(path.to_owned()))?;
        if kept != shape {
            return Err(StateError::Shape { path: path.to_owned(), kept, now: shape });
        }
        run = its_run;
        replay(&bytes[HEADER..], &mut ledger);
    }
    let file = rewrite(path, shape, run, &ledger).map_err(failed)?;
    Ok((StateFile { path: path.to_owned(), file, pending: Vec::new() }, ledger, run))
}

impl StateFile {
    /// Notes something; it is in the file after the next [`StateFile::flush`].
    pub(super) fn note(&mut self, kind: Kind, place: u64, seq: Seq) {
        self.pending.extend(note(kind, place, seq));
    }

    /// Writes what was noted. A write may be submitted only after its note is here.
    pub(super) fn flush(&mut self) -> Result<(), StateError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.pending);
        self.pending.clear();
        written.map_err(|error| StateError::Io(self.path.clone(), error))
    }
}

/// A file that says what the ledger says, in place of the old one, whole or not at all.
fn rewrite(path: &Path, shape: Shape, run: u64, ledger: &Ledger) -> std::io::Result<File> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&fresh)?;
    let mut bytes = header(shape, run);
    for place in (0..ledger.places()).filter(|place| ledger.is_known(*place)) {
        if ledger.acked(place) != UNWRITTEN {
            bytes.extend(note(Kind::Written, place, ledger.acked(place)));
        }
        for seq in ledger.doubtful(place) {
            bytes.extend(note(Kind::Failed, place, seq));
        }
    }
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    Ok(file)
}

fn replay(notes: &[u8], ledger: &mut Ledger) {
    let mut planned: HashMap<u64, Seq> = HashMap::new();
    for bytes in notes.chunks_exact(NOTE) {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let (place, seq, kind) =
            (word(0), word(8), u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]));
        if crc(&bytes[..20]).to_le_bytes() != bytes[20..] || place >= ledger.places() {
            break;
        }
        if kind == Kind::Planned as u32 {
            planned.insert(place, seq);
            continue;
        }
        planned.remove(&place);
        if kind == Kind::Written as u32 {
            ledger.wrote(place, seq);
        } else {
            ledger.may_have_written(place, seq);
        }
    }
    for (place, seq) in planned {
        ledger.may_have_written(place, seq);
    }
}

fn note(kind: Kind, place: u64, seq: Seq) -> [u8; NOTE] {
    let mut bytes = [0; NOTE];
    bytes[..8].copy_from_slice(&place.to_le_bytes());
    bytes[8..16].copy_from_slice(&seq.to_le_bytes());
    bytes[16..20].copy_from_slice(&(kind as u32).to_le_bytes());
    let crc = crc(&bytes[..20]);
    bytes[20..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn header(shape: Shape, run: u64) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&run.to_le_bytes());
    bytes[16..24].copy_from_slice(&shape.bdev_bytes.to_le_bytes());
    bytes[24..28].copy_from_slice(&shape.io_bytes.to_le_bytes());
    bytes[28..32].copy_from_slice(&shape.block_bytes.to_le_bytes());
    let crc = crc(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_header(bytes: &[u8]) -> Option<(Shape, u64)> {
    let header = bytes.get(..HEADER)?;
    if header[..8] != MAGIC || crc(&header[..60]).to_le_bytes() != header[60..] {
        return None;
    }
    let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let short = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    Some((Shape { bdev_bytes: long(16), io_bytes: short(24), block_bytes: short(28) }, long(8)))
}

fn crc(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { bdev_bytes: 40_960, io_bytes: 4096, block_bytes: 512 };

    fn open_at(path: &Path) -> (StateFile, Ledger, u64) {
        open(path, SHAPE, 99).expect("a state file")
    }

    #[test]
    fn what_was_noted_is_known_after_the_process_is_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("state");
        let (mut state, _, run) = open_at(&path);
        for (kind, place, seq) in [
            (Kind::Planned, 3, 1),
            (Kind::Written, 3, 1),
            (Kind::Planned, 4, 2),
            (Kind::Failed, 4, 2),
            (Kind::Planned, 3, 3),
        ] {
            state.note(kind, place, seq);
        }
        state.flush().expect("written");
        state.note(Kind::Planned, 7, 4);
        drop(state);
        // Twice: what is rewritten says the same.
        for _ in 0..2 {
            let (_, mut ledger, again) = open_at(&path);
            assert_eq!(again, run);
            assert_eq!((ledger.acked(3), ledger.doubtful(3)), (1, vec![3]), "its end was never seen");
            assert_eq!((ledger.acked(4), ledger.doubtful(4)), (UNWRITTEN, vec![2]));
            assert!(!ledger.is_known(7), "it was never submitted");
            assert_eq!(ledger.next_seq(), 4);
        }
    }

    #[test]
    fn a_note_that_was_cut_short_ends_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("state");
        let (mut state, ..) = open_at(&path);
        (1..=3).for_each(|seq| state.note(Kind::Written, seq, seq));
        state.flush().expect("written");
        let whole = std::fs::read(&path).expect("bytes");
        for cut in [whole.len() - 1, whole.len() - NOTE + 1] {
            std::fs::write(&path, &whole[..cut]).expect("written");
            let (_, ledger, _) = open_at(&path);
            assert!(ledger.is_known(1) && ledger.is_known(2) && !ledger.is_known(3));
        }
    }

    #[test]
    fn a_file_of_another_shape_or_of_somebody_else_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("state");
        drop(open_at(&path));
        let other = Shape { io_bytes: 8192, ..SHAPE };
        let error = open(&path, other, 1).expect_err("another shape").to_string();
        assert!(error.contains("4096") && error.contains("8192"), "{error}");
        std::fs::write(&path, "my diary").expect("written");
        let error = open(&path, SHAPE, 1).expect_err("not a state file").to_string();
        assert!(error.contains("not a state file"), "{error}");
        assert_eq!(std::fs::read(&path).expect("bytes"), b"my diary");
    }
}
