//! The file that a qcow2 image is: on this machine or over HTTP, read in any order.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{CHUNK, wrong};
use crate::Stop;
use crate::image::digest::Verifier;
use crate::image::fetch::RandomAccess;
use crate::image::{Error, Expected, Fetch, Result};

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
    stop: Stop,
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
                // Only by a validator is what is read later the version whose digest was taken. A
                // digest of the disk itself proves whatever comes.
                let proven_by_digest = fetch.proven_by_digest && expected.is_empty();
                let access = Fetch { proven_by_digest, ..*fetch }.open_random()?;
                let length = access.total();
                (Kind::Http(Box::new(access)), length)
            }
        };
        let mut file = Self { kind, length, stop: stop.clone() };
        if !expected.is_empty() {
            file.prove(expected)?;
        }
        Ok(file)
    }

    fn prove(&mut self, expected: Expected) -> Result<()> {
        let mut verifier = Verifier::new(expected, "bytes as served");
        let mut bytes = vec![0; CHUNK as usize];
        let mut offset = 0;
        while offset < self.length {
            self.check()?;
            let step = CHUNK.min(self.length - offset);
            let here = &mut bytes[..step as usize];
            self.read_ahead(offset, here, "the next part")?;
            verifier.update(here);
            offset += step;
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
        self.within(offset, into.len() as u64, what)?;
        match &mut self.kind {
            Kind::Local(file, path) => read_at(file, path, offset, into),
            Kind::Http(access) => access.read(offset, into),
        }
    }

    /// The same, for what is most likely followed by what comes behind it.
    pub(super) fn read_ahead(&mut self, offset: u64, into: &mut [u8], what: &str) -> Result<()> {
        self.within(offset, into.len() as u64, what)?;
        match &mut self.kind {
            Kind::Local(file, path) => read_at(file, path, offset, into),
            Kind::Http(access) => access.read_ahead(offset, into),
        }
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
