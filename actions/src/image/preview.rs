//! The beginning of an image, without a disk: the first stages of the engine run until there is one
//! buffer, and end.

use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::ahead::BUFFERS_AHEAD;
use super::buffer::Pool;
use super::chunks::{ChunkReader, Piece};
use super::decode::{self, Announced, Limit};
use super::digest::{Expected, Verifier};
use super::pipeline::{QUEUE, pump};
use super::progress::Counters;
use super::stages::{Halt, Shared, Stages};
use super::table::HEAD;
use super::unpack::decode_all;
use super::{Error, Result, Source};
use crate::{Sink, Stop};

/// What the beginning of an image tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preview {
    /// The usual name of the format in which it is served.
    pub(crate) format: &'static str,
    /// How long it is at least, where its format tells. Bytes.
    pub(crate) at_least: Option<u64>,
    /// Its first MiB, or all of it.
    pub(crate) head: Vec<u8>,
}

/// Reads the beginning of an image. `stop` is the one that the source got; it is cancelled, since
/// nothing more is to come from there.
pub(crate) fn preview(
    source: Box<dyn Source + '_>,
    stop: &Stop,
    sink: &dyn Sink,
) -> Result<Preview> {
    let shared = Shared { stop, sink, counters: Counters::default(), failure: Mutex::new(None) };
    let total = source.total();
    // What it is held against is for the caller to say.
    let limit = Limit { disk: "a disk".into(), size: u64::MAX };
    // One more for what waits to become a full buffer, so that the unit whose turn it is gets one.
    let pool = Pool::new(BUFFERS_AHEAD + 1);
    let (alive, all_ended) = channel::<()>();
    thread::scope(|scope| {
        let stages = Stages { scope, shared: &shared, alive };
        let (send, chunks) = sync_channel(QUEUE);
        let mut source = source;
        let shared = &shared;
        let unverified = Verifier::new(Expected::default(), "bytes as served");
        stages.start("source", move || pump(shared, &mut *source, unverified, &send))?;
        let (tell, told) = channel();
        let (send, buffers) = channel();
        let (beside, limit) = (stages.clone(), &limit);
        stages.start("decode", move || {
            let mut input = ChunkReader::new(chunks);
            let announced = decode::announce(&mut input, total, limit);
            if input.is_broken() {
                return Err(Halt::Neighbour);
            }
            // Nobody waits for it after a failure elsewhere.
            let _ = tell.send(announced?);
            decode_all(&beside, input, total, limit, pool, send)
        })?;
        let mut head = None;
        for piece in buffers {
            match piece {
                Piece::Data(buffer) if buffer.filled().is_empty() => {}
                Piece::Data(buffer) => {
                    let bytes = buffer.filled();
                    head = Some(bytes[..bytes.len().min(HEAD)].to_vec());
                    break;
                }
                Piece::End => break,
            }
        }
        if head.is_some() {
            stop.cancel.cancel();
        }
        drop(stages);
        // Only then has whoever failed said so.
        let _ = all_ended.recv();
        let failure = shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (head, failure, told.recv()) {
            (Some(head), _, Ok(Announced { format, at_least })) => {
                Ok(Preview { format: format.name(), at_least, head })
            }
            (_, Some(error), _) => Err(error),
            (None, None, Ok(_)) => Err(Error::Empty),
            (_, None, Err(_)) => Err(Error::Vanished { stage: "decode" }),
        }
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::context::Deaf;

    /// Bytes, of which there are never more than so many, and then an endless wait for more.
    struct Endless<'a>(Vec<Bytes>, &'a Stop);

    impl Source for Endless<'_> {
        fn next(&mut self) -> Result<Option<Bytes>> {
            loop {
                if let Some(chunk) = self.0.pop() {
                    return Ok(Some(chunk));
                }
                self.1.check()?;
                thread::yield_now();
            }
        }
        fn total(&self) -> Option<u64> {
            None
        }
    }

    struct Whole(Option<Bytes>);

    impl Source for Whole {
        fn next(&mut self) -> Result<Option<Bytes>> {
            Ok(self.0.take().filter(|bytes| !bytes.is_empty()))
        }
        fn total(&self) -> Option<u64> {
            self.0.as_ref().map(|bytes| bytes.len() as u64)
        }
    }

    fn see(bytes: Vec<u8>) -> Result<Preview> {
        preview(Box::new(Whole(Some(bytes.into()))), &Stop::default(), &Deaf)
    }

    #[test]
    fn the_beginning_is_enough() {
        let content: Vec<u8> = (0..9_u32 << 20).map(|at| (at / 7) as u8).collect();
        let compressed = zstd::encode_all(&content[..], 1).unwrap();
        // What is missing is at the end, which is never asked for.
        let stop = Stop::default();
        let chunks = compressed[..compressed.len() - 9].chunks(1000).rev();
        let chunks = chunks.map(Bytes::copy_from_slice).collect();
        let found = preview(Box::new(Endless(chunks, &stop)), &stop, &Deaf).unwrap();
        assert_eq!(found.format, "zstd");
        assert!(found.head == content[..HEAD]);
        assert!(stop.cancel.is_cancelled());
    }

    #[test]
    fn a_short_image_is_read_whole() {
        let found = see(vec![7; 1024]).unwrap();
        let expected = Preview { format: "raw", at_least: Some(1024), head: vec![7; 1024] };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_run_would_refuse_is_refused() {
        assert!(matches!(see(Vec::new()).unwrap_err(), Error::Empty));
        let error = see(b"<!DOCTYPE html>".repeat(512)).unwrap_err();
        assert!(matches!(error, Error::Format { format: "an HTML page" }), "{error}");
        let error = see(b"\x28\xb5\x2f\xfdnonsense".to_vec()).unwrap_err();
        assert!(matches!(error, Error::Decode { format: "zstd", .. }), "{error}");
    }
}
