//! `EFI_LOAD_OPTION`, the content of a `Boot####` variable (UEFI §3.1.3).

use super::{DevicePath, HardDrive, Malformed, utf16};

/// `LOAD_OPTION_ACTIVE`: the boot manager tries it.
const ACTIVE: u32 = 1;

/// Attributes (4 bytes) and length of the path list (2 bytes).
const HEADER_SIZE: usize = 6;

/// One thing the firmware can boot. Parsing and writing keeps every byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOption {
    /// `LOAD_OPTION_*` bits.
    pub attributes: u32,
    /// What menus show, in UTF-16 code units without the terminator.
    pub description: Vec<u16>,
    /// Where the loader is.
    pub path: DevicePath,
    /// Further device paths, for whatever the loader wants with them.
    pub more_paths: Vec<u8>,
    /// What the firmware hands to the loader, such as its command line.
    pub optional_data: Vec<u8>,
}

impl LoadOption {
    /// An active option for the loader `file` (backslashes, from the root) on `partition`.
    pub fn new(label: &str, partition: HardDrive, file: &str, optional_data: Vec<u8>) -> Self {
        Self {
            attributes: ACTIVE,
            description: label.encode_utf16().collect(),
            path: DevicePath::to_file(partition, file),
            more_paths: Vec::new(),
            optional_data,
        }
    }

    /// Reads the data of a `Boot####` variable.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let malformed = |what, offset, expected, found| Malformed { what, offset, expected, found };
        let Some(([a, b, c, d, low, high], rest)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
            return Err(malformed("load option", 0, "a header of 6 bytes", bytes.len()));
        };
        let attributes = u32::from_le_bytes([*a, *b, *c, *d]);
        let list_length = usize::from(u16::from_le_bytes([*low, *high]));
        let description: Vec<u16> = utf16::units(rest).take_while(|unit| *unit != 0).collect();
        let Some(rest) = rest.get(2 * (description.len() + 1)..) else {
            return Err(malformed("description", HEADER_SIZE, "a terminator", rest.len()));
        };
        let offset = bytes.len() - rest.len();
        let Some((list, optional_data)) = rest.split_at_checked(list_length) else {
            let expected = "as many bytes as its length says";
            return Err(malformed("device path list", offset, expected, rest.len()));
        };
        let (path, more_paths) =
            DevicePath::parse(list).map_err(|e| Malformed { offset: offset + e.offset, ..e })?;
        Ok(Self {
            attributes,
            description,
            path,
            more_paths: more_paths.to_owned(),
            optional_data: optional_data.to_owned(),
        })
    }

    /// The data of the `Boot####` variable.
    ///
    /// # Panics
    ///
    /// If the paths are longer than 64 KiB; no parsed ones are.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut list = self.path.to_bytes();
        list.extend(&self.more_paths);
        let list_length = u16::try_from(list.len()).expect("device paths fit 16 bits");
        let mut bytes = self.attributes.to_le_bytes().to_vec();
        bytes.extend(list_length.to_le_bytes());
        bytes.extend(utf16::to_bytes(self.description.iter().copied()));
        bytes.extend(list);
        bytes.extend(&self.optional_data);
        bytes
    }

    /// What menus show.
    pub fn label(&self) -> String {
        utf16::to_string_lossy(self.description.iter().copied())
    }

    /// This option with `wanted`'s label, attributes and partition, and its own way to the device:
    /// firmware that writes out the bus in front of the partition would undo any other.
    pub fn aligned_with(&self, wanted: &Self) -> Self {
        let mut option = Self {
            attributes: wanted.attributes,
            description: wanted.description.clone(),
            ..self.clone()
        };
        if let Some(partition) = wanted.path.partition() {
            for node in &mut option.path.nodes {
                if node.partition().is_some() {
                    *node = partition.into();
                }
            }
        }
        option
    }
}
