//! Which format the bytes as served have, what they tell of the image, and the decoders of those
//! formats that are decoded from front to back.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use super::buffer::{BUFFER, Buffer};
use super::chunks::ChunkReader;
use super::format::{Format, HEAD, no_disk_image};
use super::write::check_whole;
use super::{Error, Result, lz4};

/// The most memory that decoding xz may take, bytes. `xz -9` takes 65 MiB.
const XZ_MEMORY: u64 = 192 << 20;

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
    if announced.format == Format::Raw {
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

/// The decoder of a format that is decoded from front to back; lz4 is not, see [`lz4`].
pub(super) fn reader(input: &mut ChunkReader, format: Format) -> io::Result<Box<dyn Read + '_>> {
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

/// Fills a buffer; less than whole only at the end of the image.
pub(super) fn fill(reader: &mut dyn Read, buffer: &mut Buffer) -> io::Result<()> {
    let whole = buffer.whole();
    let mut filled = 0;
    while filled < BUFFER {
        match reader.read(&mut whole[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.set_filled(filled);
    Ok(())
}

/// Refuses an image whose first bytes are something that is known to be no disk image.
pub(super) fn inspect(first: &[u8]) -> Result<()> {
    match no_disk_image(first) {
        Some(format) => Err(Error::Format { format }),
        None => Ok(()),
    }
}

/// Checks that nothing follows an image that has been decoded to its end.
pub(super) fn expect_end(input: &mut ChunkReader, format: Format) -> Result<()> {
    match input.fill_buf() {
        Ok([]) => Ok(()),
        Ok(_) => Err(Error::TrailingBytes { format: format.name(), offset: input.consumed() }),
        Err(error) => Err(broken(format, input.consumed(), &error)),
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

    const FORMATS: [Format; 5] =
        [Format::Raw, Format::Gzip, Format::Xz, Format::Zstd, Format::Bzip2];

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
            Format::Zstd => zstd::stream::encode_all(content, 1).unwrap(),
            Format::Bzip2 => {
                let level = bzip2::Compression::fast();
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn decode(bytes: &[u8], chunk: usize) -> Result<(Format, Vec<u8>)> {
        let mut input = chunks(bytes, chunk);
        let limit = Limit { disk: "/dev/test".into(), size: 1 << 30 };
        let format = announce(&mut input, Some(bytes.len() as u64), &limit)?.format;
        let (mut all, mut buffer) = (Vec::new(), Buffer::new());
        let mut decode = reader(&mut input, format).unwrap();
        let result = loop {
            if let Err(error) = fill(&mut decode, &mut buffer) {
                break Err(error);
            }
            if buffer.filled().is_empty() {
                break Ok(());
            }
            all.extend_from_slice(buffer.filled());
        };
        drop(decode);
        result.map_err(|error| broken(format, input.consumed(), &error))?;
        expect_end(&mut input, format)?;
        inspect(&all)?;
        Ok((format, all))
    }

    fn content() -> Vec<u8> {
        (0..300_032).map(|i| ((i / 5) ^ (i >> 9)) as u8).collect()
    }

    #[test]
    fn every_format_is_found_and_decoded_from_chunks_of_any_size() {
        let content = content();
        for format in FORMATS {
            let bytes = encode(format, &content);
            for chunk in [1, 777, 1 << 20] {
                let (found, decoded) = decode(&bytes, chunk).unwrap();
                assert_eq!(found, format);
                assert!(decoded == content, "{format:?} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn concatenated_streams_are_one_image() {
        let content = content();
        for format in FORMATS {
            let mut bytes = encode(format, &content);
            bytes.extend(encode(format, &content));
            assert_eq!(decode(&bytes, 4096).unwrap().1.len(), 2 * content.len(), "{format:?}");
        }
    }

    #[test]
    fn a_stream_cut_anywhere_is_an_error() {
        for format in &FORMATS[1..] {
            let bytes = encode(*format, &content()[..3000]);
            for cut in 7..bytes.len() {
                assert!(decode(&bytes[..cut], 512).is_err(), "{format:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn bytes_behind_the_image_are_an_error() {
        for format in &FORMATS[1..] {
            for garbage in [&b"garbage"[..], b"x", &[0; 5]] {
                let mut bytes = encode(*format, &content()[..3000]);
                bytes.extend(garbage);
                assert!(decode(&bytes, 512).is_err(), "{format:?} with {garbage:?}");
            }
        }
    }

    #[test]
    fn a_size_in_the_header_is_held_against_the_disk() {
        let limit = Limit { disk: "/dev/test".into(), size: 1000 };
        for format in [Format::Raw, Format::Zstd] {
            let mut bytes = encode(format, &content());
            if format == Format::Zstd {
                let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
                encoder.set_pledged_src_size(Some(300_032)).unwrap();
                encoder.include_contentsize(true).unwrap();
                encoder.write_all(&content()).unwrap();
                bytes = encoder.finish().unwrap();
            }
            let total = Some(bytes.len() as u64);
            let error = announce(&mut chunks(&bytes, 100), total, &limit).unwrap_err();
            assert!(matches!(error, Error::TooSmall { needed: 300_032, .. }), "{error}");
        }
    }

    #[test]
    fn an_image_in_the_wrong_container_is_refused() {
        let mut qcow = b"QFI\xfb".to_vec();
        qcow.resize(5120, 1);
        for format in [Format::Raw, Format::Gzip] {
            let error = decode(&encode(format, &qcow), 512).unwrap_err();
            assert!(matches!(error, Error::Format { .. }), "{error}");
        }
    }
}
