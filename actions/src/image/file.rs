//! An image that is a file on this machine.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use super::{Error, Result, Source};

/// How much is read at once: large enough for a disk, small enough to keep the queues short.
const CHUNK: usize = 256 * 1024;

/// An image that is a file on this machine.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    path: PathBuf,
    length: u64,
    offset: u64,
}

impl FileSource {
    /// Opens the file. Its length is taken now, and has to hold until the end.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |doing| move |cause| Error::File { doing, path: path.to_owned(), cause };
        let file = File::open(path).map_err(failed("opening"))?;
        let metadata = file.metadata().map_err(failed("looking at"))?;
        if metadata.is_dir() {
            return Err(failed("opening")(std::io::ErrorKind::IsADirectory.into()));
        }
        Ok(Self { file, path: path.to_owned(), length: metadata.len(), offset: 0 })
    }
}

impl Source for FileSource {
    fn next(&mut self) -> Result<Option<Bytes>> {
        let mut chunk = BytesMut::zeroed(CHUNK);
        let read = self.file.read(&mut chunk).map_err(|cause| Error::File {
            doing: "reading",
            path: self.path.clone(),
            cause,
        })?;
        self.offset += read as u64;
        let grown = self.offset > self.length;
        let cut = read == 0 && self.offset < self.length;
        if grown || cut {
            let (expected, found) = (self.length, self.offset);
            return Err(Error::FileChanged { path: self.path.clone(), expected, found });
        }
        chunk.truncate(read);
        Ok((read > 0).then(|| chunk.freeze()))
    }

    fn total(&self) -> Option<u64> {
        Some(self.length)
    }

    fn peek(&self, offset: u64, length: u64) -> Option<Bytes> {
        let mut bytes = BytesMut::zeroed(usize::try_from(length).ok()?);
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(source: &mut FileSource) -> Result<usize> {
        let mut length = 0;
        while let Some(chunk) = source.next()? {
            length += chunk.len();
        }
        Ok(length)
    }

    #[test]
    fn a_file_is_read_to_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; CHUNK + 5]).unwrap();
        let mut source = FileSource::open(file.path()).unwrap();
        assert_eq!(source.total(), Some(CHUNK as u64 + 5));
        assert_eq!(drain(&mut source).unwrap(), CHUNK + 5);
    }

    #[test]
    fn a_file_that_is_cut_while_it_is_read_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(3 * CHUNK as u64).unwrap();
        let mut source = FileSource::open(file.path()).unwrap();
        source.next().unwrap();
        file.as_file().set_len(2 * CHUNK as u64).unwrap();
        let error = drain(&mut source).unwrap_err();
        assert!(matches!(error, Error::FileChanged { found, .. } if found == 2 * CHUNK as u64));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = FileSource::open(Path::new("/nowhere/image.img")).unwrap_err().to_string();
        assert!(error.starts_with("opening /nowhere/image.img: No such file"), "{error}");
    }
}
