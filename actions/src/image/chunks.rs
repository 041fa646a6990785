//! The chunks that a source delivers, as one reader for the decoders: without a copy, except where
//! a few bytes have to be looked at across chunks.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::Receiver;

use bytes::{Buf, Bytes, BytesMut};

/// What goes from one stage to the next. A channel that closes without `End` means that the stage
/// before has failed.
#[derive(Debug)]
pub(crate) enum Piece<T> {
    Data(T),
    End,
}

#[derive(Debug)]
pub(crate) struct ChunkReader {
    chunks: Receiver<Piece<Bytes>>,
    current: Bytes,
    consumed: u64,
    ended: bool,
    broken: bool,
}

impl ChunkReader {
    pub(crate) fn new(chunks: Receiver<Piece<Bytes>>) -> Self {
        Self { chunks, current: Bytes::new(), consumed: 0, ended: false, broken: false }
    }

    /// Bytes taken so far.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Whether the stage before has failed: then no error of a decoder means anything.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Takes the rest, and tells whether the stage before has failed.
    pub(crate) fn ends_broken(&mut self) -> bool {
        while let Ok(Some(_)) = self.receive() {}
        self.broken
    }

    /// The next bytes without taking them: at least `length`, fewer only at the end.
    pub(super) fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        while self.current.len() < length {
            let Some(next) = self.receive()? else { break };
            let mut joined = BytesMut::with_capacity(self.current.len() + next.len());
            joined.extend_from_slice(&self.current);
            joined.extend_from_slice(&next);
            self.current = joined.freeze();
        }
        Ok(&self.current)
    }

    /// Takes `length` bytes, in as many parts as they came; fewer are an error.
    pub(super) fn take_parts(&mut self, mut length: usize) -> io::Result<Vec<Bytes>> {
        let mut parts = Vec::new();
        while length > 0 {
            let here = self.fill_buf()?.len().min(length);
            if here == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            parts.push(self.current.split_to(here));
            self.consumed += here as u64;
            length -= here;
        }
        Ok(parts)
    }

    /// Takes what has come, or waits for more: at most so many bytes, and none only at the end.
    pub(super) fn take_some(&mut self, most: usize) -> io::Result<Bytes> {
        let length = self.fill_buf()?.len().min(most);
        self.consumed += length as u64;
        Ok(self.current.split_to(length))
    }

    /// Takes `length` bytes without looking at them; fewer are an error.
    pub(super) fn skip(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            let here = self.fill_buf()?.len();
            if here == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = here.min(usize::try_from(length).unwrap_or(usize::MAX));
            self.consume(step);
            length -= step as u64;
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        match self.chunks.recv() {
            Ok(Piece::Data(chunk)) => Ok(Some(chunk)),
            Ok(Piece::End) => {
                self.ended = true;
                Ok(None)
            }
            Err(_) => {
                self.broken = true;
                Err(io::Error::new(io::ErrorKind::BrokenPipe, "the stage before has failed"))
            }
        }
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.receive()? {
                Some(chunk) => self.current = chunk,
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
        self.consumed += amount as u64;
    }
}

impl Read for ChunkReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let here = self.fill_buf()?;
        let length = here.len().min(into.len());
        into[..length].copy_from_slice(&here[..length]);
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// A reader over chunks of `size` bytes.
    pub(in crate::image) fn reader(bytes: &[u8], size: usize) -> ChunkReader {
        let (send, receive) = channel();
        for chunk in bytes.chunks(size) {
            send.send(Piece::Data(Bytes::copy_from_slice(chunk))).unwrap();
        }
        send.send(Piece::End).unwrap();
        ChunkReader::new(receive)
    }

    #[test]
    fn peeking_joins_chunks_and_takes_nothing() {
        let mut input = reader(b"abcdefgh", 3);
        assert_eq!(input.peek(5).unwrap(), b"abcdef");
        assert_eq!(input.consumed(), 0);
        assert_eq!(input.take_parts(4).unwrap(), [Bytes::from_static(b"abcd")]);
        assert_eq!(input.peek(100).unwrap(), b"efgh");
        let mut rest = String::new();
        input.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), input.consumed()), ("efgh", 8));
        assert_eq!(input.take_parts(1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(input.skip(1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(!input.is_broken());
    }

    #[test]
    fn a_channel_that_closes_without_an_end_is_no_end() {
        let (send, receive) = channel();
        send.send(Piece::Data(Bytes::from_static(b"abc"))).unwrap();
        drop(send);
        let mut input = ChunkReader::new(receive);
        assert!(input.read_to_end(&mut Vec::new()).is_err());
        assert!(input.is_broken());
    }
}
