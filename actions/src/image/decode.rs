//! Which format the bytes as served have, what they tell of the image, and the decoders of what is a
//! stream of its own.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use super::chunks::ChunkReader;
use super::cut::Outcome;
use super::format::{Format, HEAD, no_disk_image};
use super::workers::Basin;
use super::write::check_whole;
use super::{Error, Result, lz4};

/// The most memory that decoding xz may take, bytes. `xz -9` takes 65 MiB.
pub(super) const XZ_MEMORY: u64 = 192 << 20;

/// How much an image may need, checked before its first byte is written.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) disk: PathBuf,
    pub(super) size: u64,
}

/// What the first bytes tell of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) format: Format,
    /// Bytes that the image has at least, where the format tells.
    pub(super) at_least: Option<u64>,
}

/// Looks at the first bytes of a stream. `total`: its length as served, where known.
pub(super) fn announce(
    input: &mut ChunkReader,
    total: Option<u64>,
    limit: &Limit,
) -> Result<Announced> {
    let detected = Format::detect(input).and_then(|format| {
        let at_least = match format {
            Format::Raw => total,
            // Other frames may follow, with more.
            Format::Lz4 => lz4::Header::peek(input.peek(HEAD)?).and_then(|h| h.content_size),
            Format::Zstd => zstd_content_size(input.peek(HEAD)?),
            Format::Gzip | Format::Xz | Format::Bzip2 => None,
        };
        Ok(Announced { format, at_least })
    });
    let announced = detected.map_err(|error| broken(Format::Raw, input.consumed(), &error))?;
    // What it is says more than its length does.
    if announced.format == Format::Raw {
        let head = input.peek(HEAD).map_err(|error| broken(Format::Raw, 0, &error))?;
        inspect(head)?;
        total.map_or(Ok(()), check_whole)?;
    }
    match announced.at_least {
        Some(needed) if needed > limit.size => Err(Error::TooSmall {
            disk: limit.disk.clone(),
            size: limit.size,
            needed,
            at_least: announced.format != Format::Raw,
        }),
        _ => Ok(announced),
    }
}

/// Decodes what is a stream of its own into as many buffers as it takes.
pub(super) fn decode(input: &mut ChunkReader, format: Format, basin: &Basin<'_>) -> Outcome<()> {
    let mut reader = reader(input, format)?;
    let mut first = [0];
    // A buffer is not taken before there is something to put into it.
    while read_full(&mut reader, &mut first)? > 0 {
        let mut buffer = basin.take()?;
        let whole = buffer.whole();
        whole[..first.len()].copy_from_slice(&first);
        let read = read_full(&mut reader, &mut whole[first.len()..]);
        buffer.set_filled(first.len() + read?);
        basin.put(buffer)?;
    }
    Ok(())
}

/// The decoder of a format, save lz4; see [`lz4::decode`].
fn reader(input: &mut ChunkReader, format: Format) -> io::Result<Box<dyn Read + '_>> {
    Ok(match format {
        Format::Raw | Format::Lz4 => Box::new(input),
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

/// Fills a slice; less than whole only at the end.
fn read_full(reader: &mut dyn Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match reader.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Refuses an image whose first bytes are something that is known to be no disk image.
pub(super) fn inspect(first: &[u8]) -> Result<()> {
    match no_disk_image(first) {
        Some(format) => Err(Error::Format { format }),
        None => Ok(()),
    }
}

/// Checks that nothing follows what has been decoded to its end. `before`: bytes of the image as
/// served in front of it.
pub(super) fn expect_end(input: &mut ChunkReader, format: Format, before: u64) -> Result<()> {
    let offset = before + input.consumed();
    match input.fill_buf() {
        Ok([]) => Ok(()),
        Ok(_) => Err(Error::TrailingBytes { format: format.name(), offset }),
        Err(error) => Err(broken(format, offset, &error)),
    }
}

/// An error of a decoder, as one of ours.
pub(super) fn broken(format: Format, offset: u64, error: &io::Error) -> Error {
    let cause = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends in the middle: it was cut short".to_owned(),
        _ => error.to_string(),
    };
    Error::Decode { format: format.name(), offset, cause }
}

fn zstd_content_size(head: &[u8]) -> Option<u64> {
    zstd::zstd_safe::get_frame_content_size(head).ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::chunks::tests::reader as chunks;
    use super::*;

    #[test]
    fn a_size_in_the_header_is_held_against_the_disk() {
        let limit = Limit { disk: "/dev/test".into(), size: 1000 };
        let content = vec![7; 300_032];
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_pledged_src_size(Some(300_032)).unwrap();
        encoder.include_contentsize(true).unwrap();
        encoder.write_all(&content).unwrap();
        for bytes in [encoder.finish().unwrap(), content] {
            let total = Some(bytes.len() as u64);
            let error = announce(&mut chunks(&bytes, 100), total, &limit).unwrap_err();
            assert!(matches!(error, Error::TooSmall { needed: 300_032, .. }), "{error}");
        }
    }
}
