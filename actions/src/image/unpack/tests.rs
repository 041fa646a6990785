//! The decode stage as a whole, with every format; what is special to a format is with its file.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use proptest::sample::Index;

use super::super::ahead::{BUFFERS_AHEAD, SERVED_AHEAD};
use super::super::chunks::tests::reader;
use super::super::progress::Counters;
use super::super::stages::Shared;
use super::super::{Error, Result};
use super::*;
use crate::Stop;
use crate::context::Deaf;

/// The longest magic there is, bytes: what is damaged there is of no format that is known.
const MAGIC: usize = 6;

/// Runs the stage, and gives what comes of it to a reader, who may take his time.
fn run(input: ChunkReader, mut take: impl FnMut(&[u8])) -> Result<()> {
    let stop = Stop::default();
    let counters = Counters::default();
    let shared = Shared { stop: &stop, sink: &Deaf, counters, failure: Mutex::new(None) };
    let limit = Limit { disk: "/dev/test".into(), size: 1 << 40 };
    // One more for what waits to become a full buffer.
    let pool = Pool::new(BUFFERS_AHEAD + 1);
    let (alive, _all_ended) = channel();
    let mut ended = false;
    thread::scope(|scope| {
        let stages = Stages { scope, shared: &shared, alive };
        let (send, buffers) = channel();
        let (beside, limit) = (stages.clone(), &limit);
        let decode = move || decode_all(&beside, input, None, limit, pool, send);
        stages.start("decode", decode).unwrap();
        for piece in buffers {
            match piece {
                Piece::Data(buffer) => take(buffer.filled()),
                Piece::End => ended = true,
            }
        }
    });
    match shared.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None if ended => Ok(()),
        None => Err(Error::Vanished { stage: "decode" }),
    }
}

/// What bytes as served become that come in chunks of a size.
pub(in crate::image) fn unpack(bytes: &[u8], chunk: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    run(reader(bytes, chunk), |decoded| all.extend_from_slice(decoded))?;
    Ok(all)
}

/// Bytes that compress, but not to nothing.
pub(in crate::image) fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i / 7) ^ (i >> 11)) as u8).collect()
}

/// Checks that a stream of several parts, of which these are the ends and what is decoded up to
/// there, is refused if it is cut anywhere else, and never becomes anything else.
pub(in crate::image) fn assert_cuts_are_found(bytes: &[u8], parts: &[(usize, usize)]) {
    let whole = unpack(bytes, 1 << 20).unwrap();
    for cut in MAGIC..bytes.len() {
        match (unpack(&bytes[..cut], 8 << 10), parts.iter().find(|(end, _)| *end == cut)) {
            (Ok(decoded), Some((_, length))) => {
                assert!(decoded == whole[..*length], "cut at {cut}");
            }
            (Err(error), None) => assert!(!matches!(error, Error::Vanished { .. }), "cut at {cut}"),
            (Ok(_), None) => panic!("cut at {cut} of {}", bytes.len()),
            (Err(error), Some(_)) => panic!("cut between parts at {cut}: {error}"),
        }
    }
}

/// Flips a bit, after which a stream is refused, or says nothing else than before.
pub(in crate::image) fn assert_flip_is_found(
    mut bytes: Vec<u8>,
    content: &[u8],
    at: Index,
    bit: u8,
) {
    let at = MAGIC + at.index(bytes.len() - MAGIC);
    bytes[at] ^= 1 << bit;
    match unpack(&bytes, 64 << 10) {
        Ok(decoded) => assert!(decoded == content, "bit {bit} of byte {at}"),
        Err(error) => assert!(!matches!(error, Error::Vanished { .. }), "bit {bit} of byte {at}"),
    }
}

const FORMATS: [Format; 5] = [Format::Raw, Format::Gzip, Format::Xz, Format::Zstd, Format::Bzip2];

fn encode(format: Format, content: &[u8]) -> Vec<u8> {
    match format {
        Format::Raw => content.to_vec(),
        Format::Lz4 => unreachable!("has tests of its own"),
        Format::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        Format::Xz => liblzma::encode_all(content, 1).unwrap(),
        Format::Zstd => ::zstd::stream::encode_all(content, 1).unwrap(),
        Format::Bzip2 => {
            let level = bzip2::Compression::fast();
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
    }
}

#[test]
fn every_format_is_decoded_from_chunks_of_any_size() {
    let content = content(5 << 20);
    for format in FORMATS {
        let bytes = encode(format, &content);
        let least = if format == Format::Raw { 1000 } else { 1 };
        for chunk in [least, 777, 1 << 20] {
            assert!(unpack(&bytes, chunk).unwrap() == content, "{format:?} in chunks of {chunk}");
        }
    }
}

#[test]
fn concatenated_streams_are_one_image() {
    let content = content(300_032);
    for format in FORMATS {
        let bytes = encode(format, &content).repeat(2);
        assert!(unpack(&bytes, 4096).unwrap() == content.repeat(2), "{format:?}");
    }
}

#[test]
fn a_stream_cut_anywhere_is_an_error() {
    for format in &FORMATS[1..] {
        let bytes = encode(*format, &content(3000));
        for cut in 7..bytes.len() {
            let error = unpack(&bytes[..cut], 512).unwrap_err();
            assert!(matches!(error, Error::Decode { .. }), "{format:?} cut at {cut}: {error}");
        }
    }
}

#[test]
fn bytes_behind_the_image_are_an_error() {
    for format in &FORMATS[1..] {
        for garbage in [&b"garbage"[..], b"x", &[0; 5]] {
            let mut bytes = encode(*format, &content(3000));
            bytes.extend(garbage);
            assert!(unpack(&bytes, 512).is_err(), "{format:?} with {garbage:?}");
        }
    }
}

#[test]
fn an_image_in_the_wrong_container_is_refused() {
    let mut qcow = b"QFI\xfb".to_vec();
    qcow.resize(5120, 1);
    for format in [Format::Raw, Format::Gzip] {
        let error = unpack(&encode(format, &qcow), 512).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error}");
    }
}

/// Counts the bytes of it that are alive.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::SeqCst);
    }
}

#[test]
fn a_slow_disk_holds_the_source_up() {
    const CHUNK: usize = 256 << 10;
    let content: Vec<u8> = (0..48_u64 << 20).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    let mut frames = Vec::new();
    for part in content.chunks(9 << 20) {
        frames.extend(::zstd::stream::encode_all(part, -5).unwrap());
    }
    for served in [&content, &frames] {
        let alive = Arc::new(AtomicUsize::new(0));
        let (send, chunks) = sync_channel(1);
        thread::scope(|scope| {
            let most = scope.spawn(|| {
                let (send, mut most) = (send, 0);
                for chunk in served.chunks(CHUNK) {
                    let now = alive.fetch_add(chunk.len(), Ordering::SeqCst) + chunk.len();
                    most = most.max(now);
                    let counted = Counted(chunk.to_vec(), Arc::clone(&alive));
                    send.send(Piece::Data(Bytes::from_owner(counted))).unwrap();
                }
                send.send(Piece::End).unwrap();
                most
            });
            let mut length = 0;
            let slowly = |decoded: &[u8]| {
                thread::sleep(Duration::from_millis(20));
                length += decoded.len();
            };
            run(ChunkReader::new(chunks), slowly).unwrap();
            assert_eq!(length, content.len());
            // Beside what may be ahead: in the hands of the source, on the way, and one waiting.
            let most = most.join().unwrap();
            assert!(most <= SERVED_AHEAD + 3 * CHUNK, "{most} bytes at once");
        });
    }
}
