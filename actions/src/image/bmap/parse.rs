//! The XML of a block map, read from front to back and believed when its own checksum and its own
//! sums agree.
//!
//! The format is told by the comments that `bmaptool create` writes into every map, and by its
//! change log: ranges have `sha1` attributes since 1.2 and the map itself has `BmapFileSHA1` since
//! 1.3; 2.0, also known as 1.4 by a mistake, has `chksum`, `BmapFileChecksum` and `ChecksumType`.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{Algorithm, BlockMap, MAP_MAX, MapError, Mapped};

type Result<T> = std::result::Result<T, MapError>;

const ROOT: &str = "bmap";
const RANGES: &str = "BlockMap";
const RANGE: &str = "Range";
const CHECKSUM_TYPE: &str = "ChecksumType";

/// The elements below the root whose text counts. Others are passed over, for a format's minor
/// versions may add some.
const ELEMENTS: [&str; 7] = [
    "ImageSize",
    "BlockSize",
    "BlocksCount",
    "MappedBlocksCount",
    CHECKSUM_TYPE,
    "BmapFileSHA1",
    "BmapFileChecksum",
];

/// What a version of the format calls its checksums.
#[derive(Debug, Clone, Copy)]
struct Format {
    /// The element with the map's own, and whether it has to be there.
    own: (&'static str, bool),
    /// The attribute with a range's.
    of_range: &'static str,
    /// Whether the map says how it hashes; otherwise it is SHA-1.
    names_type: bool,
}

impl Format {
    fn of(version: &str) -> Result<Self> {
        let old = |required| Self {
            own: ("BmapFileSHA1", required),
            of_range: "sha1",
            names_type: false,
        };
        match version {
            "1.2" => Ok(old(false)),
            "1.3" => Ok(old(true)),
            "1.4" | "2.0" => {
                Ok(Self { own: ("BmapFileChecksum", true), of_range: "chksum", names_type: true })
            }
            other => Err(MapError::Version { found: other.to_owned() }),
        }
    }
}

pub(super) fn parse(place: &str, bytes: &[u8]) -> Result<BlockMap> {
    if bytes.len() > MAP_MAX {
        return Err(MapError::Foreign { found: format!("more than {MAP_MAX} bytes") });
    }
    let not_text = |_| MapError::Foreign { found: "bytes that are no UTF-8".into() };
    let text = std::str::from_utf8(bytes).map_err(not_text)?;
    Document::read(text)?.map(place, text)
}

/// The first and the last block of a range, and its checksum.
type Blocks = (u64, u64, Option<Box<[u8]>>);

/// What a map says, word for word.
struct Document {
    format: Format,
    /// The texts of `ELEMENTS`.
    texts: [Option<String>; ELEMENTS.len()],
    ranges: Vec<Blocks>,
}

impl Document {
    fn read(text: &str) -> Result<Self> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        let mut document: Option<Self> = None;
        // The elements that are open, and what is known of the innermost two.
        let (mut depth, mut element, mut inside) = (0_u64, String::new(), String::new());
        let mut digest = None;
        loop {
            let event = reader.read_event();
            let at = reader.error_position().max(reader.buffer_position());
            let broken = |cause: String| match document {
                Some(_) => MapError::Xml { at, cause },
                None => MapError::Foreign { found: format!("something else ({cause})") },
            };
            match event.map_err(|error| broken(error.to_string()))? {
                Event::Start(start) => {
                    depth += 1;
                    inside.clear();
                    match (depth, &document) {
                        (1, None) => document = Some(Self::of_root(&start)?),
                        (1, Some(_)) => {
                            return Err(broken("expected one root, found another".into()));
                        }
                        (2, _) => start.name().0.clone_into(&mut element),
                        (3, Some(document)) if is_range(&element, &start) => {
                            digest = document.digest(&start)?;
                        }
                        _ => {}
                    }
                }
                Event::Text(part) if depth > 1 => inside.push_str(&part),
                Event::GeneralRef(_) if depth > 1 => {
                    return Err(broken("expected no entity, found one".into()));
                }
                Event::End(end) => {
                    match (depth, &mut document) {
                        (2, Some(document)) => document.keep(&element, &inside)?,
                        (3, Some(document)) if element == RANGES && end.name().0 == RANGE => {
                            let (first, last) = blocks(&inside)?;
                            document.ranges.push((first, last, digest.take()));
                        }
                        _ => {}
                    }
                    inside.clear();
                    depth -= 1;
                }
                Event::Eof if depth > 0 => return Err(broken("it ends early".into())),
                Event::Eof => {
                    return document
                        .ok_or_else(|| MapError::Foreign { found: "no element at all".into() });
                }
                _ => {}
            }
        }
    }

    fn of_root(root: &BytesStart<'_>) -> Result<Self> {
        let name = root.name().0;
        if name != ROOT {
            return Err(MapError::Foreign { found: format!("a root named {}", excerpt(name)) });
        }
        let version = attribute(root, "version")?.unwrap_or_default();
        let format = Format::of(&excerpt(&version))?;
        Ok(Self { format, texts: Default::default(), ranges: Vec::new() })
    }

    /// Keeps the text of an element below the root, if it counts.
    fn keep(&mut self, element: &str, text: &str) -> Result<()> {
        let Some(index) = ELEMENTS.iter().position(|known| *known == element) else {
            return Ok(());
        };
        match self.texts[index].replace(text.trim().to_owned()) {
            None => Ok(()),
            Some(_) => Err(wrong(ELEMENTS[index], "expected one, found two")),
        }
    }

    /// The checksum of a range, if it has one.
    fn digest(&self, range: &BytesStart<'_>) -> Result<Option<Box<[u8]>>> {
        let name = self.format.of_range;
        let Some(text) = attribute(range, name)? else { return Ok(None) };
        let no_hex = |_| {
            wrong(RANGE, format!("{name}: expected hexadecimal digits, found {}", excerpt(&text)))
        };
        hex::decode(text.trim()).map(|bytes| Some(bytes.into())).map_err(no_hex)
    }

    fn text(&self, element: &'static str) -> Option<&str> {
        let index = ELEMENTS.iter().position(|known| *known == element)?;
        self.texts[index].as_deref()
    }

    fn required(&self, element: &'static str) -> Result<&str> {
        self.text(element).ok_or_else(|| wrong(element, "it is missing"))
    }

    fn number(&self, element: &'static str) -> Result<u64> {
        number(element, self.required(element)?)
    }

    /// The map, if all that it says agrees. `text` is all of it.
    fn map(self, place: &str, text: &str) -> Result<BlockMap> {
        let algorithm = self.algorithm()?;
        self.check_own(algorithm, text)?;
        let (image_size, block_size) = (self.number("ImageSize")?, self.number("BlockSize")?);
        if image_size == 0 || block_size == 0 {
            return Err(wrong("ImageSize and BlockSize", "expected more than 0, found 0"));
        }
        agree("BlocksCount", image_size.div_ceil(block_size), self.number("BlocksCount")?)?;
        let sums = (image_size, block_size, self.number("MappedBlocksCount")?);
        let mapped = mapped(self.ranges, algorithm, sums)?;
        let algorithm = mapped.iter().any(|mapped| mapped.digest.is_some()).then_some(algorithm);
        Ok(BlockMap { place: place.to_owned(), image_size, block_size, algorithm, mapped })
    }

    fn algorithm(&self) -> Result<Algorithm> {
        if !self.format.names_type {
            return Ok(Algorithm::Sha1);
        }
        let name = self.required(CHECKSUM_TYPE)?;
        let known = |known: &Algorithm| known.name().eq_ignore_ascii_case(name);
        let unknown = || MapError::ChecksumType { found: excerpt(name) };
        Algorithm::ALL.into_iter().find(known).ok_or_else(unknown)
    }

    /// Checks the map's own checksum, which is taken with zeros in its own place.
    fn check_own(&self, algorithm: Algorithm, text: &str) -> Result<()> {
        let (element, is_required) = self.format.own;
        let own = match self.text(element) {
            None if !is_required => return Ok(()),
            None => return Err(wrong(element, "it is missing")),
            Some(own) => own,
        };
        let mut hasher = algorithm.hasher();
        if own.len() != 2 * hasher.output_size() || !own.bytes().all(|b| b.is_ascii_hexdigit()) {
            let found = excerpt(own);
            let digits = 2 * hasher.output_size();
            return Err(wrong(element, format!("expected {digits} hex digits, found {found}")));
        }
        // Nothing else in the file is the digest of the file.
        let (before, after) = text.split_once(own).unwrap_or((text, ""));
        for part in [before, &"0".repeat(own.len()), after] {
            hasher.update(part.as_bytes());
        }
        let (algorithm, found) = (algorithm.name(), hex::encode(hasher.finalize()));
        if found.eq_ignore_ascii_case(own) {
            return Ok(());
        }
        Err(MapError::Changed { algorithm, expected: own.to_owned(), found })
    }
}

/// The ranges as bytes, if they are in order, within the image and as many as the map says.
fn mapped(
    ranges: Vec<Blocks>,
    algorithm: Algorithm,
    (image_size, block_size, count): (u64, u64, u64),
) -> Result<Vec<Mapped>> {
    let (blocks, digits) = (image_size.div_ceil(block_size), algorithm.hasher().output_size());
    let (mut mapped, mut next, mut sum) = (Vec::with_capacity(ranges.len()), 0, 0_u64);
    for (first, last, digest) in ranges {
        let bad = |why: String| Err(wrong(RANGE, format!("{first}-{last}: {why}")));
        if first > last || first < next {
            return bad(format!("expected a range in order, and from block {next} on"));
        }
        if last >= blocks {
            return bad(format!("expected blocks before {blocks}, where the image ends"));
        }
        if let Some(found) = digest.as_ref().map(|digest| digest.len())
            && found != digits
        {
            let name = algorithm.name();
            return bad(format!("expected {digits} bytes of {name}, found {found}"));
        }
        next = last + 1;
        sum += next - first;
        let range = first * block_size..next.saturating_mul(block_size).min(image_size);
        mapped.push(Mapped { range, digest });
    }
    agree("MappedBlocksCount", sum, count)?;
    Ok(mapped)
}

fn is_range(element: &str, start: &BytesStart<'_>) -> bool {
    element == RANGES && start.name().0 == RANGE
}

/// An attribute's value, as it is written.
fn attribute(start: &BytesStart<'_>, name: &str) -> Result<Option<String>> {
    let mut found = None;
    // That no other one is there twice is nobody's concern, and dear to find out.
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(|error| wrong(RANGE, error.to_string()))?;
        if attribute.key.0 == name && found.replace(attribute.value.into_owned()).is_some() {
            return Err(wrong(RANGE, format!("expected {name} once, found it twice")));
        }
    }
    Ok(found)
}

/// The first and the last block of a range: `FIRST-LAST`, or `BLOCK` alone.
fn blocks(text: &str) -> Result<(u64, u64)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Ok((number(RANGE, first.trim())?, number(RANGE, last.trim())?))
}

/// `u64::from_str` takes a sign, a map has none.
fn number(element: &'static str, text: &str) -> Result<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok());
    let no_number = || wrong(element, format!("expected a number, found {:?}", excerpt(text)));
    digits.flatten().ok_or_else(no_number)
}

fn agree(element: &'static str, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(wrong(element, format!("expected {expected} by all else in the map, found {found}")))
}

fn wrong(element: &'static str, cause: impl Into<String>) -> MapError {
    MapError::Element { element, cause: cause.into() }
}

/// What an error quotes of text that may be anything.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 40;
    let shown: String = text.chars().take(LONGEST).filter(|c| !c.is_control()).collect();
    if shown.len() < text.len() { shown + "…" } else { shown }
}
