//! A source that has to have the length that verified metadata declares.

use bytes::Bytes;

use super::{Result, Source, TufError};

/// A source of exactly so many bytes: more or less is an error as soon as it shows.
pub(super) struct Declared {
    source: Box<dyn Source>,
    name: String,
    length: u64,
    offset: u64,
}

impl Declared {
    /// Fails if the source says at once that it has another length.
    pub(super) fn new(source: Box<dyn Source>, name: &str, length: u64) -> Result<Self> {
        let declared = Self { source, name: name.to_owned(), length, offset: 0 };
        match declared.source.total() {
            Some(found) if found != length => Err(declared.wrong(found.to_string())),
            _ => Ok(declared),
        }
    }

    fn wrong(&self, found: String) -> super::Error {
        TufError::Length { name: self.name.clone(), expected: self.length, found }.into()
    }
}

impl Source for Declared {
    fn next(&mut self) -> Result<Option<Bytes>> {
        let chunk = self.source.next()?;
        self.offset += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.offset > self.length {
            return Err(self.wrong("more".into()));
        }
        if chunk.is_none() && self.offset < self.length {
            return Err(self.wrong(self.offset.to_string()));
        }
        Ok(chunk)
    }

    fn total(&self) -> Option<u64> {
        Some(self.length)
    }

    fn peek(&self, offset: u64, length: u64) -> Option<Bytes> {
        self.source.peek(offset, length)
    }

    fn place(&self) -> Option<String> {
        self.source.place()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Chunks(Vec<&'static [u8]>, Option<u64>);

    impl Source for Chunks {
        fn next(&mut self) -> Result<Option<Bytes>> {
            Ok((!self.0.is_empty()).then(|| Bytes::from_static(self.0.remove(0))))
        }
        fn total(&self) -> Option<u64> {
            self.1
        }
    }

    fn read(chunks: Vec<&'static [u8]>, total: Option<u64>) -> Result<usize> {
        let mut source = Declared::new(Box::new(Chunks(chunks, total)), "a.img", 5)?;
        assert_eq!(source.total(), Some(5));
        let mut read = 0;
        while let Some(chunk) = source.next()? {
            read += chunk.len();
        }
        Ok(read)
    }

    #[test]
    fn the_declared_length_passes() {
        assert_eq!(read(vec![b"abc", b"de"], None).unwrap(), 5);
        assert_eq!(read(vec![b"abcde"], Some(5)).unwrap(), 5);
    }

    #[test]
    fn any_other_length_is_refused_with_both() {
        for (chunks, total, found) in [
            (vec![&b"abc"[..]], None, "found 3"),
            (vec![&b"abc"[..], b"def"], None, "found more"),
            (vec![], Some(7), "found 7"),
        ] {
            let error = read(chunks, total).unwrap_err().to_string();
            assert!(error.contains("a.img") && error.contains("expected 5 bytes"), "{error}");
            assert!(error.contains(found), "{error}");
        }
    }
}
