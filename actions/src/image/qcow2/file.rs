//! The file that a qcow2 image is: on this machine or over HTTP, read in any order.
//!
//! It is read by pieces, of which the last few are kept: what is wanted next is most often beside what
//! was wanted last, and begins where that ended. What has a digest is read to its end first, and every
//! piece is remembered by a digest of its own, which it has to have again when it is read later: that
//! a server calls both the same version proves nothing.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nibs_job::HexDigest;
use sha2::{Digest, Sha256};

use super::wrong;
use crate::Stop;
use crate::image::digest::Verifier;
use crate::image::fetch::RandomAccess;
use crate::image::{Error, Expected, Fetch, Result};

/// What is read at once, and how many such pieces are kept; bytes.
const PIECE: u64 = 256 << 10;
const KEPT: usize = 8;

/// Where the file is.
#[derive(Debug)]
pub(crate) enum Place {
    /// On this machine.
    Local(PathBuf),
    /// Over HTTP.
    Http(Box<Fetch>),
}

/// A file that is read in any order.
#[derive(Debug)]
pub(crate) struct Qcow2File {
    kind: Kind,
    length: u64,
    /// SHA-256 of each piece, once the file has been read to its end.
    digests: Vec<HexDigest<32>>,
    /// Numbers and bytes of the pieces that were used last, the latest of them at the end.
    kept: VecDeque<(u64, Bytes)>,
    stop: Stop,
}

/// How likely it is that what comes behind is wanted next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Elsewhere,
    Behind,
}

#[derive(Debug)]
enum Kind {
    Local(File, PathBuf),
    Http(Box<RandomAccess>),
}

impl Qcow2File {
    /// Opens the file, and reads all of it first if there are digests that it has to have.
    pub(crate) fn open(place: Place, expected: Expected, stop: &Stop) -> Result<Self> {
        let (kind, length) = match place {
            Place::Local(path) => {
                let failed = |cause| Error::File { doing: "opening", path: path.clone(), cause };
                let file = File::open(&path).map_err(failed)?;
                let length = file.metadata().map_err(failed)?.len();
                (Kind::Local(file, path), length)
            }
            Place::Http(fetch) => {
                let access = fetch.open_random()?;
                let length = access.total();
                (Kind::Http(Box::new(access)), length)
            }
        };
        let (digests, kept) = (Vec::new(), VecDeque::with_capacity(KEPT));
        let mut file = Self { kind, length, digests, kept, stop: stop.clone() };
        if !expected.is_empty() {
            file.prove(expected)?;
        }
        Ok(file)
    }

    fn prove(&mut self, expected: Expected) -> Result<()> {
        let mut verifier = Verifier::new(expected, "bytes as served");
        for number in 0..self.length.div_ceil(PIECE) {
            self.check()?;
            let piece = self.piece(number, Next::Behind)?;
            verifier.update(&piece);
            self.digests.push(HexDigest(Sha256::digest(&piece).into()));
        }
        verifier.finish()
    }

    /// Fails once the work has to end.
    pub(super) fn check(&self) -> Result<()> {
        Ok(self.stop.check()?)
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn place(&self) -> Option<String> {
        match &self.kind {
            Kind::Local(..) => None,
            Kind::Http(access) => Some(access.place()),
        }
    }

    /// A table of big-endian numbers.
    pub(super) fn table(&mut self, offset: u64, entries: u64, what: &str) -> Result<Vec<u64>> {
        let mut bytes = vec![0; entries as usize * size_of::<u64>()];
        self.read(offset, &mut bytes, what)?;
        let (numbers, _) = bytes.as_chunks();
        Ok(numbers.iter().map(|number| u64::from_be_bytes(*number)).collect())
    }

    /// Fills a slice; `what` is read there.
    pub(super) fn read(&mut self, offset: u64, into: &mut [u8], what: &str) -> Result<()> {
        self.fill(offset, into, what, Next::Elsewhere)
    }

    /// The same, for what is most likely followed by what comes behind it.
    pub(super) fn read_ahead(&mut self, offset: u64, into: &mut [u8], what: &str) -> Result<()> {
        self.fill(offset, into, what, Next::Behind)
    }

    fn fill(&mut self, mut at: u64, mut into: &mut [u8], what: &str, next: Next) -> Result<()> {
        self.within(at, into.len() as u64, what)?;
        while !into.is_empty() {
            let piece = self.piece(at / PIECE, next)?;
            let here = &piece[(at % PIECE) as usize..];
            let step = here.len().min(into.len());
            let (now, later) = into.split_at_mut(step);
            now.copy_from_slice(&here[..step]);
            (at, into) = (at + step as u64, later);
        }
        Ok(())
    }

    /// A piece that is within the file: one that was kept, or as it is read.
    fn piece(&mut self, number: u64, next: Next) -> Result<Bytes> {
        let place = self.kept.iter().position(|(kept, _)| *kept == number);
        if let Some(kept) = place.and_then(|place| self.kept.remove(place)) {
            self.kept.push_back(kept.clone());
            return Ok(kept.1);
        }
        let offset = number * PIECE;
        let mut bytes = vec![0; PIECE.min(self.length - offset) as usize];
        match (&mut self.kind, next) {
            (Kind::Local(file, path), _) => read_at(file, path, offset, &mut bytes)?,
            (Kind::Http(access), Next::Elsewhere) => access.read(offset, &mut bytes)?,
            (Kind::Http(access), Next::Behind) => access.read_ahead(offset, &mut bytes)?,
        }
        if let Some(expected) = self.digests.get(number as usize) {
            let found = HexDigest(Sha256::digest(&bytes).into());
            if found != *expected {
                let (algorithm, of) = ("sha256", "part of it that was read once more");
                let (expected, found) = (expected.to_string(), found.to_string());
                return Err(Error::Digest { algorithm, of, expected, found });
            }
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        let bytes = Bytes::from(bytes);
        self.kept.push_back((number, bytes.clone()));
        Ok(bytes)
    }

    fn within(&self, offset: u64, length: u64, what: &str) -> Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(wrong(format!(
                "{what} of {length} bytes is to be at {offset}, and the file has {} bytes: it was cut \
                 short, or is damaged",
                self.length
            ))),
        }
    }
}

fn read_at(file: &File, path: &Path, offset: u64, into: &mut [u8]) -> Result<()> {
    let failed = |cause| Error::File { doing: "reading", path: path.to_owned(), cause };
    file.read_exact_at(into, offset).map_err(failed)
}
