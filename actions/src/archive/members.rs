//! What is in a tar archive: POSIX ustar and pax, and GNU's own format with its long names and sparse
//! files ("Basic Tar Format" of GNU tar's manual, "Storing Sparse Files"; IEEE 1003.1, `pax`).
//!
//! Headers are read by the `tar` crate. What is around them is our own: the crate splits pax records
//! at every line break, which a file capability may hold, and takes an archive without an end for
//! whole.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

/// Everything in an archive is in blocks of so many bytes.
const BLOCK: usize = 512;

/// How much in front of one member, names and pax records, is believed; bytes.
const LONGEST: u64 = 1 << 20;

/// How many ranges a sparse file may have.
const MOST_EXTENTS: usize = 1 << 20;

/// Digits of the largest number of 64 bits.
const DIGITS: usize = 20;

/// A name for the whole archive, in GNU's format (`tar --label`).
const VOLUME_LABEL: u8 = b'V';

/// Prefix of pax records that hold extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// Something in an archive.
#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970, and nanoseconds.
    pub(super) mtime: (i64, u32),
    /// Names and values.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What something in an archive is.
#[derive(Debug, Default)]
pub(super) enum Kind {
    /// A file of so many bytes, of which these ranges (offset, length) are in the archive.
    File {
        size: u64,
        extents: Vec<(u64, u64)>,
    },
    #[default]
    Directory,
    /// A symbolic link to this.
    Symlink(Vec<u8>),
    /// Another name of what has this one.
    Hardlink(Vec<u8>),
    /// A device with these numbers, major and minor.
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// Why no more can be read.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is no archive, or a damaged one.
    Malformed(String),
    /// It cannot be read.
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Result<T> = std::result::Result<T, Trouble>;

fn malformed<T>(what: impl Into<String>) -> Result<T> {
    Err(Trouble::Malformed(what.into()))
}

/// The members of an archive, and the bytes of the one that was read last.
pub(super) struct Members<'r> {
    reader: &'r mut dyn Read,
    /// Where the next block is.
    offset: u64,
    /// Bytes of the member that have not been read.
    left: u64,
    /// Bytes behind them, to the next block.
    padding: u64,
}

/// What stands in front of a member's header.
#[derive(Default)]
struct Extra {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: Sparse,
}

/// How pax records describe a sparse file.
#[derive(Default)]
struct Sparse {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Offsets and lengths, one after the other.
    numbers: Vec<u64>,
    /// Whether the map is at the start of the file's bytes.
    in_data: bool,
}

impl<'r> Members<'r> {
    pub(super) fn new(reader: &'r mut dyn Read) -> Self {
        Self { reader, offset: 0, left: 0, padding: 0 }
    }

    /// The next member; none at the archive's end mark.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        let mut extra = Extra::default();
        let mut described = 0_u64;
        loop {
            self.skip()?;
            let block = self.block()?;
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            self.check(header)?;
            let size = self.size(header)?;
            let kind = header.entry_type();
            if kind.is_pax_local_extensions() || kind.is_gnu_longname() || kind.is_gnu_longlink() {
                described = described.saturating_add(size);
                if described > LONGEST {
                    return malformed(format!(
                        "the names and records of one member have {described} bytes; expected no \
                         more than {LONGEST}"
                    ));
                }
            }
            match kind {
                EntryType::XHeader => self.records(size, &mut extra)?,
                EntryType::GNULongName => extra.name = Some(self.text(size)?),
                EntryType::GNULongLink => extra.link = Some(self.text(size)?),
                // Comments, such as `git archive` makes them.
                EntryType::XGlobalHeader => self.begin(size)?,
                kind if kind.as_byte() == VOLUME_LABEL => {
                    self.begin(size)?;
                    (extra, described) = (Extra::default(), 0);
                }
                _ => return self.member(header, extra).map(Some),
            }
        }
    }

    /// The next bytes of the member, which has so many: fewer are an error.
    pub(super) fn read_exact(&mut self, into: &mut [u8]) -> Result<()> {
        if into.len() as u64 > self.left {
            return malformed(format!("a file has fewer bytes than said, near {}", self.offset));
        }
        self.fill(into)?;
        self.left -= into.len() as u64;
        Ok(())
    }

    fn member(&mut self, header: &Header, extra: Extra) -> Result<Member> {
        let stored = match extra.size {
            Some(size) => size,
            None => self.size(header)?,
        };
        let own_name = || header.path_bytes().into_owned();
        let mut name = extra.sparse.name.clone().or(extra.name).unwrap_or_else(own_name);
        let own_link = || header.link_name_bytes().unwrap_or_default().into_owned();
        let link = extra.link.unwrap_or_else(own_link);
        let number = |pax: Option<u64>, own: io::Result<u64>, what| {
            let number = pax.map_or_else(|| self.number(own, what), Ok)?;
            match u32::try_from(number) {
                Ok(number) => Ok(number),
                Err(_) => malformed(format!("{what} {number} is out of range")),
            }
        };
        let device = || -> Result<(u32, u32)> {
            let major = header.device_major().map(|number| u64::from(number.unwrap_or(0)));
            let minor = header.device_minor().map(|number| u64::from(number.unwrap_or(0)));
            Ok((number(None, major, "major")?, number(None, minor, "minor")?))
        };
        let fields = header.as_old();
        let uid = number(extra.uid, or_blank(&fields.uid, header.uid()), "uid")?;
        let gid = number(extra.gid, or_blank(&fields.gid, header.gid()), "gid")?;
        let mode = header.mode().map(u64::from);
        let mode = number(None, or_blank(&fields.mode, mode), "mode")?;
        let own_time = or_blank(&fields.mtime, header.mtime());
        let own_time = self.number(own_time, "mtime").map(|time| (time.cast_signed(), 0));
        let mtime = extra.mtime.map_or(own_time, Ok)?;
        let is_directory = name.ends_with(b"/");
        let kind = match header.entry_type() {
            EntryType::Directory => Kind::Directory,
            // As tar wrote directories before it had a type for them.
            EntryType::Regular if is_directory => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.begin(stored)?;
                self.file(header, stored, extra.sparse)?
            }
            EntryType::Symlink => Kind::Symlink(link),
            EntryType::Link => Kind::Hardlink(link),
            EntryType::Char => device().map(|(major, minor)| Kind::CharDevice(major, minor))?,
            EntryType::Block => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
            EntryType::Fifo => Kind::Fifo,
            other => {
                let name = String::from_utf8_lossy(&name);
                return malformed(format!("{name:?} is of a type that is not known, {other:?}"));
            }
        };
        if !matches!(kind, Kind::File { .. }) {
            // Some archivers give other members a size, of which some write the bytes too.
            let has_bytes = !matches!(kind, Kind::Hardlink(_) | Kind::Symlink(_));
            self.begin(if has_bytes { stored } else { 0 })?;
        }
        while name.ends_with(b"/") && name.len() > 1 {
            name.pop();
        }
        Ok(Member { name, kind, mode, uid, gid, mtime, xattrs: extra.xattrs })
    }

    /// A file's ranges, from wherever its format has them.
    fn file(&mut self, header: &Header, stored: u64, sparse: Sparse) -> Result<Kind> {
        let (size, numbers) = if header.entry_type() == EntryType::GNUSparse {
            self.gnu_sparse(header)?
        } else if sparse.in_data {
            let Some(size) = sparse.size else { return malformed("a sparse file has no size") };
            (size, self.map_in_data()?)
        } else if let Some(size) = sparse.size {
            (size, sparse.numbers)
        } else {
            (stored, vec![0, stored])
        };
        let extents: Vec<(u64, u64)> =
            numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let mut end = 0;
        for (offset, length) in &extents {
            let next = offset.checked_add(*length);
            match next {
                Some(next) if *offset >= end && next <= size => end = next,
                _ => return malformed("the map of a sparse file is out of order or too long"),
            }
        }
        let mapped: u64 = extents.iter().map(|(_, length)| length).sum();
        if mapped != self.left || numbers.len() % 2 != 0 {
            return malformed(format!(
                "a sparse file has {} bytes in the archive, and {mapped} by its map",
                self.left
            ));
        }
        Ok(Kind::File { size, extents })
    }

    /// The map in a header of GNU's own format, and in blocks that follow it.
    fn gnu_sparse(&mut self, header: &Header) -> Result<(u64, Vec<u64>)> {
        let Some(gnu) = header.as_gnu() else {
            return malformed("a sparse file has no header of GNU's format");
        };
        let size = self.number(gnu.real_size(), "size")?;
        let mut numbers = Vec::new();
        let add = |numbers: &mut Vec<u64>, block: &tar::GnuSparseHeader| -> io::Result<()> {
            if !block.is_empty() {
                numbers.extend([block.offset()?, block.length()?]);
            }
            Ok(())
        };
        gnu.sparse.iter().try_for_each(|block| add(&mut numbers, block))?;
        let mut more = gnu.is_extended();
        while more {
            if numbers.len() > 2 * MOST_EXTENTS {
                return malformed(format!("a sparse file has more than {MOST_EXTENTS} ranges"));
            }
            let mut block = GnuExtSparseHeader::new();
            // These blocks do not count as the file's.
            let bytes = self.block()?;
            block.as_mut_bytes().copy_from_slice(&bytes);
            block.sparse().iter().try_for_each(|block| add(&mut numbers, block))?;
            more = block.is_extended();
        }
        Ok((size, numbers))
    }

    /// The map in front of a file's bytes: decimal numbers, one on a line, the first their count.
    fn map_in_data(&mut self) -> Result<Vec<u64>> {
        const NO_LIST: &str = "the map of a sparse file is no list of numbers";
        let mut numbers = Vec::new();
        let mut digits = String::new();
        let mut block = [0; BLOCK];
        loop {
            self.read_exact(&mut block)?;
            for byte in block {
                if byte != b'\n' {
                    if digits.len() == DIGITS {
                        return malformed(NO_LIST);
                    }
                    digits.push(char::from(byte));
                    continue;
                }
                let Ok(number) = std::mem::take(&mut digits).parse::<u64>() else {
                    return malformed(NO_LIST);
                };
                numbers.push(number);
                if numbers[0] > MOST_EXTENTS as u64 {
                    return malformed(format!("a sparse file has more than {MOST_EXTENTS} ranges"));
                }
                if numbers.len() as u64 == 1 + 2 * numbers[0] {
                    numbers.remove(0);
                    return Ok(numbers);
                }
            }
        }
    }

    /// Reads pax records: `LENGTH KEY=VALUE\n`, LENGTH counting all of it.
    fn records(&mut self, size: u64, extra: &mut Extra) -> Result<()> {
        let bytes = self.bytes(size)?;
        let mut rest = &bytes[..];
        while let Some(space) = rest.iter().position(|byte| *byte == b' ') {
            let length =
                std::str::from_utf8(&rest[..space]).ok().and_then(|text| text.parse().ok());
            let record = length.and_then(|length: usize| rest.get(space + 1..length));
            let record = record.and_then(|record| record.strip_suffix(b"\n"));
            let Some((record, equals)) = record
                .and_then(|record| Some((record, record.iter().position(|byte| *byte == b'=')?)))
            else {
                return malformed("a pax record is not as long as it says, or has no `=`");
            };
            extra.record(&record[..equals], &record[equals + 1..])?;
            rest = &rest[length.unwrap_or(rest.len())..];
        }
        Ok(())
    }

    /// A name in GNU's format, which a zero ends.
    fn text(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut text = self.bytes(size)?;
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        text.truncate(end);
        Ok(text)
    }

    fn bytes(&mut self, size: u64) -> Result<Vec<u8>> {
        self.begin(size)?;
        let mut bytes = vec![0; size as usize];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Says that so many bytes of a member follow.
    fn begin(&mut self, size: u64) -> Result<()> {
        let Some(padded) = size.checked_next_multiple_of(BLOCK as u64) else {
            return malformed(format!("a member has {size} bytes"));
        };
        (self.left, self.padding) = (size, padded - size);
        Ok(())
    }

    /// Passes over what has not been read of a member.
    fn skip(&mut self) -> Result<()> {
        let mut behind = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        let mut bytes = [0; 8 * BLOCK];
        while behind > 0 {
            let step = behind.min(bytes.len() as u64);
            self.fill(&mut bytes[..step as usize])?;
            behind -= step;
        }
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<()> {
        match self.reader.read_exact(into) {
            Ok(()) => {
                self.offset += into.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let offset = self.offset;
                malformed(format!(
                    "it ends without its end mark behind offset {offset}: it was cut"
                ))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a header is one: the sum of its bytes, with the sum's own as spaces, is in it.
    fn check(&self, header: &Header) -> Result<()> {
        const SUM: std::ops::Range<usize> = 148..156;
        let bytes = header.as_bytes().iter().enumerate();
        let sum: u32 =
            bytes.map(|(at, b)| u32::from(if SUM.contains(&at) { b' ' } else { *b })).sum();
        match header.cksum() {
            Ok(expected) if expected == sum => Ok(()),
            _ => malformed(format!(
                "no header of a file is at offset {}",
                self.offset - BLOCK as u64
            )),
        }
    }

    /// A member's size by its own header, which some leave blank where there are no bytes.
    fn size(&self, header: &Header) -> Result<u64> {
        self.number(or_blank(&header.as_old().size, header.entry_size()), "size")
    }

    fn number(&self, number: io::Result<u64>, what: &str) -> Result<u64> {
        number.or_else(|_| {
            malformed(format!("a header's {what} is no number, before {}", self.offset))
        })
    }
}

impl Extra {
    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let number = || {
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            number.map_or_else(
                || malformed(format!("pax record {} is no number", String::from_utf8_lossy(key))),
                Ok,
            )
        };
        match key {
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(number()?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.numbers.push(number()?),
            b"GNU.sparse.major" => self.sparse.in_data = number()? == 1,
            b"GNU.sparse.map" => {
                for text in String::from_utf8_lossy(value).split(',').filter(|it| !it.is_empty()) {
                    let Ok(number) = text.parse() else {
                        return malformed("the map of a sparse file is no list of numbers");
                    };
                    self.sparse.numbers.push(number);
                }
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// A number of a header, which is 0 if its field is left blank.
fn or_blank(field: &[u8], number: io::Result<u64>) -> io::Result<u64> {
    match field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        true => Ok(0),
        false => number,
    }
}

/// Seconds, with or without a fraction and a sign.
fn time(value: &[u8]) -> Result<(i64, u32)> {
    let text = String::from_utf8_lossy(value);
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    match (whole.parse::<i64>(), digits.parse::<u32>()) {
        (Ok(seconds), Ok(0)) => Ok((seconds, 0)),
        (Ok(seconds), Ok(nanoseconds)) if !whole.starts_with('-') => Ok((seconds, nanoseconds)),
        (Ok(seconds), Ok(nanoseconds)) => {
            Ok((seconds.saturating_sub(1), 1_000_000_000 - nanoseconds))
        }
        _ => malformed(format!("pax record mtime {text:?} is no time")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(bytes: &[u8]) -> Result<usize> {
        let mut reader = bytes;
        let mut members = Members::new(&mut reader);
        let mut count = 0;
        while members.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for name in ["a", &"long/".repeat(40)] {
            let mut header = Header::new_gnu();
            header.set_size(700);
            builder.append_data(&mut header, name, &[7; 700][..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn an_archive_cut_anywhere_before_its_end_mark_is_malformed() {
        let whole = archive();
        assert_eq!(drain(&whole).unwrap(), 2);
        let end_mark = whole.len() - 2 * BLOCK;
        assert_eq!(drain(&whole[..end_mark + BLOCK]).unwrap(), 2, "one block is mark enough");
        for cut in (0..end_mark + BLOCK).step_by(64) {
            let Err(Trouble::Malformed(cause)) = drain(&whole[..cut]) else { panic!("{cut}") };
            assert!(cause.contains("it was cut"), "{cut}: {cause}");
        }
    }

    #[test]
    fn what_is_no_archive_is_told_by_its_place() {
        let Err(Trouble::Malformed(cause)) = drain(&[7; 1024]) else { panic!() };
        assert_eq!(cause, "no header of a file is at offset 0");
    }

    #[test]
    fn times_have_fractions_and_may_be_before_1970() {
        assert_eq!(time(b"12.5").unwrap(), (12, 500_000_000));
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert_eq!(time(b"-1").unwrap(), (-1, 0));
        assert_eq!(time(b"-9223372036854775808.5").unwrap(), (i64::MIN, 500_000_000));
        assert!(time(b"noon").is_err());
    }

    /// A header with as many bytes behind it as it says.
    fn member(kind: EntryType, name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        let padding = vec![0; bytes.len().next_multiple_of(BLOCK) - bytes.len()];
        [header.as_bytes(), bytes, &padding].concat()
    }

    fn record(key: &str, value: &str) -> Vec<u8> {
        let rest = format!(" {key}={value}\n");
        let digits = |length: usize| length.to_string().len();
        let mut length = rest.len() + 1;
        while length != rest.len() + digits(length) {
            length = rest.len() + digits(length);
        }
        format!("{length}{rest}").into_bytes()
    }

    fn cause(mut reader: impl Read) -> String {
        let mut members = Members::new(&mut reader);
        loop {
            match members.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("expected an archive that is refused"),
                Err(Trouble::Malformed(cause)) => return cause,
                Err(Trouble::Io(error)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn what_stands_in_front_of_a_member_is_bounded_however_it_is_cut_up() {
        let attribute = record("SCHILY.xattr.user.a", &"x".repeat(600 << 10));
        let half = member(EntryType::XHeader, "x", &attribute);
        let name = member(EntryType::GNULongName, "l", &[b'n'; 600 << 10]);
        let file = member(EntryType::Regular, "file", b"");
        let end = [0; BLOCK];
        for parts in [[&half[..], &half], [&half, &name], [&name, &name]] {
            let cause = cause(&[parts[0], parts[1], &file, &end].concat()[..]);
            assert!(cause.contains("the names and records of one member have"), "{cause}");
        }
        // That is of each member, not of all.
        let two = [&half[..], &file, &half, &file, &end].concat();
        assert_eq!(drain(&two).unwrap(), 2);
    }

    #[test]
    fn the_map_of_a_sparse_file_is_bounded_in_both_of_its_formats() {
        let sparse = [record("GNU.sparse.major", "1"), record("GNU.sparse.realsize", "9")].concat();
        let header = member(EntryType::XHeader, "x", &sparse);
        for (map, says) in [
            (vec![b'1'; 1 << 20], "no list of numbers"),
            ([&b"1048577\n"[..], &[b'0'; 1 << 20]].concat(), "more than 1048576 ranges"),
        ] {
            let file = member(EntryType::Regular, "file", &map);
            let cause = cause(&[&header[..], &file].concat()[..]);
            assert!(cause.contains(says), "{cause}");
        }

        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(0);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.isextended = [1];
        gnu.realsize = *b"00000000011\0";
        header.set_cksum();
        let mut block = GnuExtSparseHeader::new();
        for extent in &mut block.sparse {
            (extent.offset, extent.numbytes) = (*b"00000000001\0", *b"00000000001\0");
        }
        block.isextended = [1];
        // As many blocks as ranges, which is far more than are looked at.
        let blocks = Repeat { block: *block.as_bytes(), left: MOST_EXTENTS * BLOCK };
        let cause = cause(header.as_bytes().chain(blocks));
        assert!(cause.contains("more than 1048576 ranges"), "{cause}");
    }

    /// The same block over and over.
    struct Repeat {
        block: [u8; BLOCK],
        left: usize,
    }

    impl Read for Repeat {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let at = (BLOCK - self.left % BLOCK) % BLOCK;
            let step = into.len().min(BLOCK - at).min(self.left);
            into[..step].copy_from_slice(&self.block[at..at + step]);
            self.left -= step;
            Ok(step)
        }
    }

    #[test]
    fn a_label_of_the_whole_archive_is_passed_over_with_its_blank_size() {
        let mut label = Header::new_gnu();
        label.set_path("label").unwrap();
        label.set_entry_type(EntryType::new(VOLUME_LABEL));
        label.as_old_mut().size = [0; 12];
        label.set_cksum();
        assert_eq!(drain(&[label.as_bytes(), &archive()[..]].concat()).unwrap(), 2);
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(at in 0..4096_usize, with in any::<u8>()) {
            let mut bytes = archive();
            let at = at % bytes.len();
            bytes[at] = with;
            let _ = drain(&bytes);
        }

        #[test]
        fn no_records_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "[0-9]{0,2} [a-zA-Z.]{0,9}=[0-9.,\n]{0,9}\n") {
            for records in [&bytes[..], text.as_bytes()] {
                let mut reader = [records, &[0; 2 * BLOCK]].concat();
                let mut reader = &mut &reader.split_off(0)[..];
                let mut members = Members::new(&mut reader);
                let _ = members.records(records.len() as u64, &mut Extra::default());
            }
        }
    }
}
