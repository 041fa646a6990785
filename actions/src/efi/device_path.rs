//! EFI device paths: where a loader is, node by node (UEFI §10.3).
//!
//! Only what decisions need is understood; every node, known or not, keeps its bytes.

use uuid::Uuid;

use super::{Malformed, utf16};

const HEADER_SIZE: usize = 4;

const MESSAGING: u8 = 0x03;
const MEDIA: u8 = 0x04;
const END: u8 = 0x7f;

const END_ENTIRE: u8 = 0xff;
const HARD_DRIVE: u8 = 0x01;
const FILE_PATH: u8 = 0x04;
/// USB, USB Class and USB WWID.
const USB: [u8; 3] = [0x05, 0x0f, 0x10];
/// MAC Address, IPv4, IPv6 and URI.
const NETWORK: [u8; 4] = [0x0b, 0x0c, 0x0d, 0x18];

/// Bytes of a Hard Drive node after its header.
const HARD_DRIVE_SIZE: usize = 38;
/// Both "partition format" and "signature type" of a GPT partition.
const GPT: u8 = 0x02;

/// A device path of one instance or several, without the node that ends it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DevicePath {
    /// The nodes, from the bus to the file.
    pub nodes: Vec<Node>,
}

/// One node of a device path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Type: hardware, ACPI, messaging, media, BIOS boot.
    pub kind: u8,
    /// Sub-type, whose meaning depends on the type.
    pub subtype: u8,
    /// The bytes after the header.
    pub data: Vec<u8>,
}

/// A partition of a GPT disk, as a Hard Drive node names it (UEFI §10.3.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HardDrive {
    /// Number in the partition table, from 1.
    pub number: u32,
    /// First logical block.
    pub start: u64,
    /// Length in logical blocks.
    pub size: u64,
    /// The partition's own GUID.
    pub guid: Uuid,
}

impl DevicePath {
    /// The short form that firmware finds on any bus: partition, then file.
    ///
    /// `file` has backslashes and starts with one.
    pub fn to_file(partition: HardDrive, file: &str) -> Self {
        let data = utf16::to_bytes(file.encode_utf16());
        Self { nodes: vec![partition.into(), Node { kind: MEDIA, subtype: FILE_PATH, data }] }
    }

    /// Reads a path up to and with its end node; what follows is the second value.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut nodes = Vec::new();
        let mut rest = bytes;
        loop {
            let offset = bytes.len() - rest.len();
            let malformed =
                |expected, found| Malformed { what: "device path node", offset, expected, found };
            let Some(([kind, subtype, low, high], after)) = rest.split_first_chunk::<HEADER_SIZE>()
            else {
                return Err(malformed("a header of 4 bytes", rest.len()));
            };
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            let Some(data_length) = length.checked_sub(HEADER_SIZE) else {
                return Err(malformed("a length of at least 4", length));
            };
            let Some((data, after)) = after.split_at_checked(data_length) else {
                return Err(malformed("as many bytes as its length says", rest.len()));
            };
            if *kind == END && *subtype == END_ENTIRE {
                if data_length != 0 {
                    return Err(malformed("an end node of 4 bytes", length));
                }
                return Ok((Self { nodes }, after));
            }
            nodes.push(Node { kind: *kind, subtype: *subtype, data: data.to_owned() });
            rest = after;
        }
    }

    /// The path's bytes with the end node.
    ///
    /// # Panics
    ///
    /// If a node is longer than its 16-bit length can say; no parsed node is.
    pub fn to_bytes(&self) -> Vec<u8> {
        let end = Node { kind: END, subtype: END_ENTIRE, data: Vec::new() };
        let mut bytes = Vec::new();
        for node in self.nodes.iter().chain([&end]) {
            let length = u16::try_from(HEADER_SIZE + node.data.len()).expect("a node fits 16 bits");
            bytes.extend([node.kind, node.subtype]);
            bytes.extend(length.to_le_bytes());
            bytes.extend(&node.data);
        }
        bytes
    }

    /// The GPT partition that the path leads to, if it leads to one.
    pub fn partition(&self) -> Option<HardDrive> {
        self.nodes.iter().find_map(Node::partition)
    }

    /// The file that the path leads to, from the root of its filesystem, with backslashes.
    pub fn file(&self) -> Option<String> {
        let mut parts = self.nodes.iter().filter(|n| (n.kind, n.subtype) == (MEDIA, FILE_PATH));
        let mut file = utf16::to_string_lossy(utf16::units(&parts.next()?.data));
        // One path may be spread over several nodes, with or without a separator at the seams.
        for part in parts {
            let part = utf16::to_string_lossy(utf16::units(&part.data));
            file = format!("{}\\{}", file.trim_end_matches('\\'), part.trim_start_matches('\\'));
        }
        Some(file)
    }

    /// Whether the firmware would load from the network. A network disk (iSCSI with a partition)
    /// is a disk.
    pub fn is_network(&self) -> bool {
        self.has_messaging(&NETWORK) && self.nodes.iter().all(|node| node.kind != MEDIA)
    }

    /// Whether the path says that its device can come and go: over USB or a network.
    pub fn is_detachable(&self) -> bool {
        self.has_messaging(&USB) || self.has_messaging(&NETWORK)
    }

    fn has_messaging(&self, subtypes: &[u8]) -> bool {
        self.nodes.iter().any(|n| n.kind == MESSAGING && subtypes.contains(&n.subtype))
    }
}

impl Node {
    /// The GPT partition that this node names, if it is a Hard Drive node of GPT.
    pub fn partition(&self) -> Option<HardDrive> {
        if (self.kind, self.subtype) != (MEDIA, HARD_DRIVE) || self.data.len() != HARD_DRIVE_SIZE {
            return None;
        }
        let (number, rest) = self.data.split_first_chunk::<4>()?;
        let (start, rest) = rest.split_first_chunk::<8>()?;
        let (size, rest) = rest.split_first_chunk::<8>()?;
        let (guid, formats) = rest.split_first_chunk::<16>()?;
        (formats == [GPT, GPT]).then(|| HardDrive {
            number: u32::from_le_bytes(*number),
            start: u64::from_le_bytes(*start),
            size: u64::from_le_bytes(*size),
            guid: Uuid::from_bytes_le(*guid),
        })
    }
}

impl From<HardDrive> for Node {
    fn from(partition: HardDrive) -> Self {
        let mut data = Vec::with_capacity(HARD_DRIVE_SIZE);
        data.extend(partition.number.to_le_bytes());
        data.extend(partition.start.to_le_bytes());
        data.extend(partition.size.to_le_bytes());
        data.extend(partition.guid.to_bytes_le());
        data.extend([GPT, GPT]);
        Self { kind: MEDIA, subtype: HARD_DRIVE, data }
    }
}
