//! What is served, decoded, as one reader: for what is streamed, but is no disk image.
//!
//! ```text
//! source ──> digest of the bytes as served ──> decoder, told by magic ──> digest ──> reader
//! ```
//!
//! All on the thread of whoever reads. What the reader leaves is read to the end all the same, so
//! that nothing passes whose checksums, length and digests are not right.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, Read};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use lz4_flex::frame::FrameDecoder;
use nibs_job::Progress;

use super::decode::{XZ_MEMORY, broken};
use super::digest::Verifier;
use super::format::{Format, HEAD, is_skippable};
use super::{Error, Expected, Source};
use crate::{Sink, Stop};

/// How often progress is told.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// How much is read at once of what nobody wants.
const REST: usize = 64 << 10;

/// Has `work` read what a source serves, decoded, and fails if anything about it is not right, also
/// behind what was read. The first reason is told: an error of `work` only if reading went well.
pub(crate) fn unpack<T, E: From<Error>>(
    source: Box<dyn Source + '_>,
    (served, whole): (Expected, Expected),
    stop: &Stop,
    sink: &dyn Sink,
    work: impl FnOnce(&mut dyn Read) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let state = State::default();
    let mut input = Served {
        source,
        verifier: Verifier::new(served, "bytes as served"),
        chunk: Bytes::new(),
        ended: false,
        stop,
        state: &state,
    };
    let format = input.format().map_err(|error| state.first(&error, Format::Raw))?;
    let total_in = input.source.total();
    let decoder = decoder(&mut input, format).map_err(|error| state.first(&error, format))?;
    let mut decoded = Decoded {
        decoder,
        verifier: Verifier::new(whole, "unpacked bytes"),
        format,
        state: &state,
        bytes_out: 0,
        total_in,
        reported: Instant::now(),
        sink,
    };
    let worked = work(&mut decoded);
    if let Some(error) = state.failure.take() {
        return Err(error.into());
    }
    let value = worked?;
    let mut rest = [0; REST];
    while decoded.read(&mut rest).map_err(|error| state.first(&error, format))? > 0 {}
    decoded.report();
    let verifier = decoded.into_verifier();
    let offset = state.taken.get();
    let follows = input.fill_buf().map_err(|error| state.first(&error, format))?;
    if !follows.is_empty() {
        return Err(Error::TrailingBytes { format: format.name(), offset }.into());
    }
    input.verifier.finish()?;
    verifier.finish()?;
    Ok(value)
}

/// What is known on both sides of the decoder.
#[derive(Default)]
struct State {
    /// Bytes that the decoder has taken.
    taken: Cell<u64>,
    /// What ended reading, in more words than an I/O error has.
    failure: RefCell<Option<Error>>,
}

impl State {
    /// The first reason why reading ended, which this error may only follow from.
    fn first(&self, error: &io::Error, format: Format) -> Error {
        let earlier = self.failure.borrow_mut().take();
        earlier.unwrap_or_else(|| broken(format, self.taken.get(), error))
    }

    fn fail(&self, error: impl Into<Error>) -> io::Error {
        self.failure.borrow_mut().get_or_insert(error.into());
        io::Error::other("the source has failed")
    }
}

/// A source as a reader.
struct Served<'a> {
    source: Box<dyn Source + 'a>,
    verifier: Verifier,
    chunk: Bytes,
    ended: bool,
    stop: &'a Stop,
    state: &'a State,
}

impl Served<'_> {
    /// What follows, without taking it: at least `length` bytes, fewer only at the end.
    fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        while self.chunk.len() < length && !self.ended {
            let next = self.receive()?;
            let mut joined = BytesMut::with_capacity(self.chunk.len() + next.len());
            joined.extend_from_slice(&self.chunk);
            joined.extend_from_slice(&next);
            self.chunk = joined.freeze();
        }
        Ok(&self.chunk)
    }

    /// The format of what follows, past frames that are to be skipped.
    fn format(&mut self) -> io::Result<Format> {
        while let [magic @ .., a, b, c, d] = self.peek(8)?.get(..8).unwrap_or_default()
            && is_skippable([magic[0], magic[1], magic[2], magic[3]])
        {
            let length = u64::from(u32::from_le_bytes([*a, *b, *c, *d])) + 8;
            if io::copy(&mut self.take(length), &mut io::sink())? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Format::of(self.peek(HEAD)?))
    }

    fn receive(&mut self) -> io::Result<Bytes> {
        self.stop.check().map_err(|error| self.state.fail(error))?;
        let next = self.source.next().map_err(|error| self.state.fail(error))?;
        self.ended = next.is_none();
        let bytes = next.unwrap_or_default();
        self.verifier.update(&bytes);
        Ok(bytes)
    }
}

impl BufRead for Served<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.chunk.is_empty() && !self.ended {
            self.chunk = self.receive()?;
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, amount: usize) {
        self.chunk.advance(amount);
        self.state.taken.set(self.state.taken.get() + amount as u64);
    }
}

impl Read for Served<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let here = self.fill_buf()?;
        let length = here.len().min(into.len());
        into[..length].copy_from_slice(&here[..length]);
        self.consume(length);
        Ok(length)
    }
}

fn decoder<'r>(input: &'r mut Served<'_>, format: Format) -> io::Result<Box<dyn Read + 'r>> {
    Ok(match format {
        Format::Raw => Box::new(input),
        Format::Lz4 => Box::new(Lz4Frames(Some(FrameDecoder::new(input)))),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Format::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Format::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
    })
}

/// Frames of lz4, each with a decoder of its own: one that is used again panics at a frame with
/// blocks of another size (lz4_flex 0.14.0). None while one makes room for the next.
struct Lz4Frames<R: BufRead>(Option<FrameDecoder<R>>);

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.0 {
            let read = decoder.read(into)?;
            if read > 0 || into.is_empty() || decoder.get_mut().fill_buf()?.is_empty() {
                return Ok(read);
            }
            self.0 = self.0.take().map(|ended| FrameDecoder::new(ended.into_inner()));
        }
        Ok(0)
    }
}

/// What comes out of a decoder, counted and hashed.
struct Decoded<'a, 'r> {
    decoder: Box<dyn Read + 'r>,
    verifier: Verifier,
    format: Format,
    state: &'a State,
    bytes_out: u64,
    total_in: Option<u64>,
    reported: Instant,
    sink: &'a dyn Sink,
}

impl Decoded<'_, '_> {
    /// Lets the source go.
    fn into_verifier(self) -> Verifier {
        self.verifier
    }

    fn report(&self) {
        self.sink.progress(Progress {
            bytes_in: self.state.taken.get(),
            bytes_out: self.bytes_out,
            total_in: self.total_in,
            ..Progress::default()
        });
    }
}

impl Read for Decoded<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match self.decoder.read(into) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(self.state.fail(self.state.first(&error, self.format)));
            }
            read => read?,
        };
        self.verifier.update(&into[..read]);
        self.bytes_out += read as u64;
        if self.reported.elapsed() >= REPORT_EVERY {
            self.reported = Instant::now();
            self.report();
        }
        Ok(read)
    }
}
