//! The firmware's variables in the file that QEMU shows OVMF as flash.
//!
//! Layout (EDK II, `MdePkg/Include/Pi/PiFirmwareVolume.h` and
//! `MdeModulePkg/Include/Guid/VariableFormat.h`): a firmware volume header that gives its own
//! length, a store header, then variables one after another on 4-byte boundaries, free space of
//! all ones. A variable that is changed is marked as deleted and added anew at the end.
//!
//! The lab writes it to say what a machine knows before it is first switched on, and reads it to
//! see from outside what the agent made of it.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

/// Boot variables' namespace, `EFI_GLOBAL_VARIABLE`, as stored.
pub const GLOBAL: [u8; 16] =
    guid(0x8be4_df61, 0x93ca, 0x11d2, *b"\xaa\x0d\x00\xe0\x98\x03\x2b\x8c");
/// The signature databases' namespace, `EFI_IMAGE_SECURITY_DATABASE_GUID`, as stored.
pub const IMAGE_SECURITY: [u8; 16] =
    guid(0xd719_b2cb, 0x3d3a, 0x4596, *b"\xa3\xbc\xda\xd0\x0e\x67\x65\x6f");
/// `gEfiAuthenticatedVariableGuid`: the only store format that OVMF uses.
const STORE: [u8; 16] = guid(0xaaf3_2c78, 0x947b, 0x439a, *b"\xa1\x80\x2e\x14\x4e\xc3\x77\x92");
/// Optional data by which OVMF knows an entry that it made itself.
const AUTO_CREATED: [u8; 16] =
    guid(0x8108_ac4e, 0x9f11, 0x4d59, *b"\x85\x0e\xe2\x1a\x52\x2c\x59\xb2");

/// Kept over a power cut, seen by firmware and system: what boot variables are.
const BOOT_ATTRIBUTES: u32 = 0x7;
/// `HeaderLength` of the volume header.
const VOLUME_HEADER_LENGTH: usize = 0x30;
const STORE_HEADER: usize = 28;
const VARIABLE_HEADER: usize = 60;
const VARIABLE_START: [u8; 2] = [0xaa, 0x55];
const STATE_ADDED: u8 = 0x3f;
/// Added, and about to be replaced: what a power cut leaves in the middle of a change.
const STATE_REPLACING: u8 = 0x3e;

/// The variable store in a flash image.
#[derive(Debug, Clone)]
pub struct Nvram {
    flash: Vec<u8>,
    variables: Range<usize>,
}

impl Nvram {
    /// Reads a flash image, as Debian's `OVMF_VARS_4M.fd` is one.
    pub fn parse(flash: Vec<u8>) -> Result<Self> {
        let store = usize::from(u16_at(&flash, VOLUME_HEADER_LENGTH)?);
        let signature = flash.get(store..store + 16).context("the flash image is cut short")?;
        ensure!(signature == STORE, "the flash image holds no authenticated variable store");
        let size = u32_at(&flash, store + 16)? as usize;
        ensure!(store + size <= flash.len(), "the variable store is larger than the flash image");
        Ok(Self { flash, variables: store + STORE_HEADER..store + size })
    }

    /// The flash image.
    pub fn bytes(&self) -> &[u8] {
        &self.flash
    }

    /// Data of a variable of the [`GLOBAL`] namespace.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_of(&GLOBAL, name)
    }

    /// Data of a variable of any namespace.
    pub fn get_of(&self, vendor: &[u8; 16], name: &str) -> Option<&[u8]> {
        let wanted = utf16(name);
        let mut found = None;
        let mut at = self.variables.start;
        while let Some(variable) = self.variable_at(at) {
            let live = matches!(variable.state, STATE_ADDED | STATE_REPLACING);
            if live && variable.vendor == *vendor && variable.name == wanted {
                found = Some(variable.data);
            }
            at = variable.end;
        }
        found
    }

    /// Adds a variable of the [`GLOBAL`] namespace that is not there yet.
    pub fn add(&mut self, name: &str, data: &[u8]) -> Result<()> {
        ensure!(self.get(name).is_none(), "the variable {name} is already there");
        let mut at = self.variables.start;
        while let Some(variable) = self.variable_at(at) {
            at = variable.end;
        }
        let name = utf16(name);
        let mut variable = vec![0; VARIABLE_HEADER];
        variable[..2].copy_from_slice(&VARIABLE_START);
        variable[2] = STATE_ADDED;
        variable[4..8].copy_from_slice(&BOOT_ATTRIBUTES.to_le_bytes());
        variable[36..40].copy_from_slice(&u32::try_from(name.len())?.to_le_bytes());
        variable[40..44].copy_from_slice(&u32::try_from(data.len())?.to_le_bytes());
        variable[44..60].copy_from_slice(&GLOBAL);
        variable.extend_from_slice(&name);
        variable.extend_from_slice(data);
        let end = at + variable.len();
        if end > self.variables.end {
            bail!("the variable store is full");
        }
        self.flash[at..end].copy_from_slice(&variable);
        Ok(())
    }

    /// `BootOrder`: the numbers of the entries, first to last.
    pub fn boot_order(&self) -> Vec<u16> {
        let order = self.get("BootOrder").unwrap_or_default();
        order.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
    }

    /// Whether a boot entry is active and of the kind that firmware boots from, which its menus
    /// are not (`LOAD_OPTION_ACTIVE`, `LOAD_OPTION_CATEGORY`).
    pub fn is_bootable(&self, number: u16) -> bool {
        const ACTIVE: u32 = 0x1;
        const CATEGORY: u32 = 0x1f00;
        let option = self.get(&format!("Boot{number:04X}")).unwrap_or_default();
        u32_at(option, 0).is_ok_and(|attributes| attributes & (ACTIVE | CATEGORY) == ACTIVE)
    }

    /// Description of a boot entry.
    pub fn description(&self, number: u16) -> Option<String> {
        let option = self.get(&format!("Boot{number:04X}"))?;
        let units =
            option.get(6..)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        Some(char::decode_utf16(units.take_while(|unit| *unit != 0)).flatten().collect())
    }

    fn variable_at(&self, at: usize) -> Option<Variable<'_>> {
        let store = &self.flash[..self.variables.end];
        let header = store.get(at..at + VARIABLE_HEADER)?;
        if header[..2] != VARIABLE_START {
            return None;
        }
        let name = at + VARIABLE_HEADER;
        let data = name + u32_at(header, 36).ok()? as usize;
        let end = data + u32_at(header, 40).ok()? as usize;
        Some(Variable {
            state: header[2],
            vendor: header[44..60].try_into().ok()?,
            name: store.get(name..data)?,
            data: store.get(data..end)?,
            end: end.next_multiple_of(4),
        })
    }
}

struct Variable<'a> {
    state: u8,
    vendor: [u8; 16],
    name: &'a [u8],
    data: &'a [u8],
    end: usize,
}

/// A boot entry for PXE over IPv4 by a network card, as OVMF itself would make it: the card is
/// device `slot` on the root bus and has the address `mac`.
pub fn network_entry(slot: u8, mac: [u8; 6]) -> Vec<u8> {
    let mut path = Vec::new();
    // PciRoot(0): ACPI device path with the compressed EISA id PNP0A03.
    node(&mut path, [2, 1], &[0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0]);
    // Pci(slot, 0): function, then device.
    node(&mut path, [1, 1], &[0, slot]);
    // MAC(mac, 1): the address is padded to 32 bytes, then the interface type, Ethernet.
    let mut address = [0; 33];
    address[..6].copy_from_slice(&mac);
    address[32] = 1;
    node(&mut path, [3, 11], &address);
    // IPv4 with everything from DHCP: all zeros.
    node(&mut path, [3, 12], &[0; 23]);
    node(&mut path, [0x7f, 0xff], &[]);

    let text: String = mac.iter().map(|byte| format!("{byte:02X}")).collect();
    let mut option = 1u32.to_le_bytes().to_vec(); // LOAD_OPTION_ACTIVE
    option.extend_from_slice(&(path.len() as u16).to_le_bytes());
    option.extend_from_slice(&utf16(&format!("UEFI PXEv4 (MAC:{text})")));
    option.extend_from_slice(&path);
    option.extend_from_slice(&AUTO_CREATED);
    option
}

/// Adds a device path node of a type and subtype.
fn node(path: &mut Vec<u8>, kind: [u8; 2], data: &[u8]) {
    path.extend_from_slice(&kind);
    path.extend_from_slice(&(4 + data.len() as u16).to_le_bytes());
    path.extend_from_slice(data);
}

/// Text as firmware has it: UCS-2 with a NUL at its end.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let field = bytes.get(at..at + 2).context("the flash image is cut short")?;
    Ok(u16::from_le_bytes(field.try_into()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let field = bytes.get(at..at + 4).context("the flash image is cut short")?;
    Ok(u32::from_le_bytes(field.try_into()?))
}

/// A GUID as firmware stores it: the first three fields little endian.
const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> [u8; 16] {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty store of 4 KiB behind a volume header of 72 bytes.
    fn empty() -> Vec<u8> {
        let mut flash = vec![0xff; 72 + 4096];
        flash[..72].fill(0);
        flash[VOLUME_HEADER_LENGTH] = 72;
        flash[72..88].copy_from_slice(&STORE);
        flash[88..92].copy_from_slice(&4096u32.to_le_bytes());
        flash
    }

    #[test]
    fn variables_are_read_back() {
        let mut nvram = Nvram::parse(empty()).unwrap();
        assert_eq!(nvram.get("Boot0001"), None);
        nvram.add("Boot0001", b"odd").unwrap();
        nvram.add("BootOrder", &[1, 0, 0x0b, 0]).unwrap();
        let again = Nvram::parse(nvram.bytes().to_vec()).unwrap();
        assert_eq!(again.get("Boot0001"), Some(&b"odd"[..]));
        assert_eq!(again.boot_order(), [1, 11]);
        assert!(nvram.add("Boot0001", b"").is_err());
    }

    #[test]
    fn a_deleted_variable_is_gone() {
        let mut nvram = Nvram::parse(empty()).unwrap();
        nvram.add("Timeout", &[0, 0]).unwrap();
        let state = nvram.variables.start + 2;
        nvram.flash[state] &= 0xfd;
        assert_eq!(nvram.get("Timeout"), None);
        nvram.add("Timeout", &[5, 0]).unwrap();
        assert_eq!(nvram.get("Timeout"), Some(&[5, 0][..]));
    }

    #[test]
    fn a_full_or_foreign_store_is_refused() {
        let mut nvram = Nvram::parse(empty()).unwrap();
        assert!(nvram.add("Big", &[0; 5000]).is_err());
        assert!(Nvram::parse(vec![0; 4096]).is_err());
        assert!(Nvram::parse(vec![]).is_err());
        assert!(Nvram::parse(empty()[..1000].to_vec()).is_err());
    }

    /// Bytes that OVMF 2022.11 itself stored for a card in slot 3.
    #[test]
    fn the_network_entry_is_the_firmwares_own() {
        let ours = network_entry(3, [0x52, 0x54, 0x00, 0x4e, 0x49, 0x42]);
        let ovmfs = concat!(
            "0100000056005500450046004900200050005800450076003400200028004d00410043003a0035003200",
            "35003400300030003400450034003900340032002900000002010c00d041030a00000000010106000003",
            "030b25005254004e4942000000000000000000000000000000000000000000000000000001030c1b0000",
            "000000000000000000000000000000000000000000007fff04004eac0881119f594d850ee21a522c59b2",
        );
        assert_eq!(hex::encode(&ours), ovmfs);
        let mut nvram = Nvram::parse(empty()).unwrap();
        nvram.add("Boot0001", &ours).unwrap();
        assert_eq!(nvram.description(1).as_deref(), Some("UEFI PXEv4 (MAC:5254004E4942)"));
    }
}
