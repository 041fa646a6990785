//! What a disk says it is: model, serial number and world wide name, and the names that udev's
//! rules (60-persistent-storage.rules) would make of them in `/dev/disk/by-id`.

use std::fs;
use std::path::Path;

use super::list::attribute;

/// SCSI pages of vital product data start with four bytes: type, page, length.
const VPD_HEADER: usize = 4;

/// Where the answer to ATA's IDENTIFY DEVICE is in page 89h, ATA information (SAT-4).
const IDENTIFY: usize = 60;

/// Where the model is in that answer (ACS-4, words 27 to 46).
const IDENTIFY_MODEL: std::ops::Range<usize> = 54..94;

/// What libata puts in front of an ATA disk's designator: vendor `ATA`, padded.
const ATA_VENDOR: &str = "ATA";

/// A udev serial of virtio disks is cut to this many bytes by the transport itself.
const VIRTIO_SERIAL_MAX: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) model: Option<String>,
    /// All of an ATA disk's model, of which SCSI's `model` has 16 characters.
    pub(super) full_model: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) wwn: Option<String>,
    /// Link names, most telling first.
    pub(super) links: Vec<String>,
}

/// Reads the identity of the disk whose sysfs directory this is.
pub(super) fn of(directory: &Path, name: &str) -> Identity {
    let device = directory.join("device");
    let model = attribute(&device, "model");
    let vendor = attribute(&device, "vendor");
    let own_serial = attribute(directory, "serial").or_else(|| attribute(&device, "serial"));
    let page_serial = fs::read(device.join("vpd_pg80")).ok().and_then(|page| vpd_serial(&page));
    let designators = fs::read(device.join("vpd_pg83")).unwrap_or_default();
    let serial = own_serial.or(page_serial);
    let wwn = attribute(directory, "wwid")
        .or_else(|| attribute(&device, "wwid"))
        .filter(|wwid| is_world_wide(wwid))
        .or_else(|| nvme_id(directory))
        .or_else(|| vpd_wwn(&designators));
    let is_ata = vendor.as_deref() == Some(ATA_VENDOR);
    let full_model = is_ata
        .then(|| fs::read(device.join("vpd_pg89")).ok())
        .flatten()
        .and_then(|page| ata_model(&page));

    let mut links = Vec::new();
    let both = match (full_model.as_ref().or(model.as_ref()), &serial) {
        (Some(model), Some(serial)) => Some(format!("{}_{}", dashed(model), dashed(serial))),
        _ => None,
    };
    if name.starts_with("nvme") {
        links.extend(both.map(|both| format!("nvme-{both}")));
        links.extend(wwn.as_ref().map(|wwn| format!("nvme-{wwn}")));
    } else if name.starts_with("vd") {
        let serial = serial.as_deref().map(|serial| prefix(serial, VIRTIO_SERIAL_MAX));
        links.extend(serial.map(|serial| format!("virtio-{}", dashed(serial))));
    } else if is_ata {
        links.extend(both.map(|both| format!("ata-{both}")));
        links.extend(wwn.as_deref().and_then(hexadecimal).map(|hex| format!("wwn-0x{hex}")));
    } else if name.starts_with("mmcblk") {
        let card = attribute(&device, "name").zip(attribute(&device, "serial"));
        links.extend(
            card.map(|(name, serial)| format!("mmc-{}_{}", dashed(&name), dashed(&serial))),
        );
    } else {
        links.extend(scsi_id(&designators).map(|id| format!("scsi-{id}")));
        links.extend(wwn.as_deref().and_then(hexadecimal).map(|hex| format!("wwn-0x{hex}")));
    }
    let model = model.or_else(|| attribute(&device, "name"));
    Identity { model, full_model, serial, wwn, links }
}

/// As udev writes text into a link: runs of spaces become one underscore, and so does every
/// character that could hurt.
pub(super) fn dashed(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .join("_")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) { c } else { '_' })
        .collect()
}

fn prefix(text: &str, max: usize) -> &str {
    text.char_indices().nth(max).map_or(text, |(end, _)| &text[..end])
}

/// `t10.` ids are made of vendor, model and serial: nothing is world wide about them.
fn is_world_wide(wwid: &str) -> bool {
    ["eui.", "naa.", "nvme.", "uuid.", "0x"].iter().any(|kind| wwid.starts_with(kind))
}

fn hexadecimal(wwn: &str) -> Option<&str> {
    ["naa.", "eui.", "0x"].iter().find_map(|kind| wwn.strip_prefix(kind))
}

/// An NVMe namespace's NGUID, else its EUI-64, where the kernel makes no `wwid` of them. All zeros
/// are none.
fn nvme_id(directory: &Path) -> Option<String> {
    [("nguid", 32), ("eui", 16)].into_iter().find_map(|(file, digits)| {
        let separators = ['-', ' '];
        let id = attribute(directory, file)?.replace(separators, "").to_ascii_lowercase();
        let is_one = id.len() == digits
            && id.bytes().all(|byte| byte.is_ascii_hexdigit())
            && id.bytes().any(|byte| byte != b'0');
        is_one.then(|| format!("eui.{id}"))
    })
}

/// The model in the ATA information page (SAT-4, page 89h); the bytes of ATA words are swapped.
fn ata_model(page: &[u8]) -> Option<String> {
    let words = page.get(IDENTIFY..)?.get(IDENTIFY_MODEL)?;
    let bytes: Vec<u8> = words.chunks_exact(2).flat_map(|word| [word[1], word[0]]).collect();
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// The unit serial number (SPC-4, page 80h).
fn vpd_serial(page: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(page.get(VPD_HEADER..)?);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// A designator of the device identification page (SPC-4, page 83h).
struct Designator<'a> {
    kind: u8,
    is_of_the_unit: bool,
    value: &'a [u8],
}

const DESIGNATOR_T10: u8 = 1;
const DESIGNATOR_EUI: u8 = 2;
const DESIGNATOR_NAA: u8 = 3;

fn designators(page: &[u8]) -> impl Iterator<Item = Designator<'_>> {
    let mut rest = page.get(VPD_HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (header, after) = rest.split_at_checked(4)?;
        let (value, next) = after.split_at_checked(usize::from(header[3]))?;
        rest = next;
        Some(Designator { kind: header[1] & 0x0f, is_of_the_unit: header[1] & 0x30 == 0, value })
    })
}

fn of_kind(page: &[u8], kind: u8) -> Option<&[u8]> {
    designators(page).find(|d| d.is_of_the_unit && d.kind == kind).map(|d| d.value)
}

fn vpd_wwn(page: &[u8]) -> Option<String> {
    let naa = of_kind(page, DESIGNATOR_NAA).map(|value| format!("naa.{}", hex::encode(value)));
    naa.or_else(|| of_kind(page, DESIGNATOR_EUI).map(|id| format!("eui.{}", hex::encode(id))))
}

/// As `scsi_id` prints it: the designator's kind as a digit, then its value.
fn scsi_id(page: &[u8]) -> Option<String> {
    let world_wide = |kind| of_kind(page, kind).map(|id| format!("{kind}{}", hex::encode(id)));
    world_wide(DESIGNATOR_NAA).or_else(|| world_wide(DESIGNATOR_EUI)).or_else(|| {
        let text = String::from_utf8_lossy(of_kind(page, DESIGNATOR_T10)?).into_owned();
        Some(format!("{DESIGNATOR_T10}{}", dashed(text.trim_matches('\0'))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str, files: &[(&str, &[u8])]) -> Identity {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("device")).unwrap();
        for (file, content) in files {
            fs::write(directory.path().join(file), content).unwrap();
        }
        of(directory.path(), name)
    }

    #[test]
    fn an_nvme_disk_is_known_by_model_and_serial_and_by_its_eui() {
        let found = identity(
            "nvme0n1",
            &[
                ("device/model", b"SAMSUNG MZVL2512HCJQ-00B00              \n"),
                ("device/serial", b"S675NX0R123456      \n"),
                ("wwid", b"eui.002538b111111111\n"),
            ],
        );
        assert_eq!(found.serial.as_deref(), Some("S675NX0R123456"));
        assert_eq!(
            found.links,
            ["nvme-SAMSUNG_MZVL2512HCJQ-00B00_S675NX0R123456", "nvme-eui.002538b111111111"]
        );
    }

    #[test]
    fn a_virtio_disk_is_known_by_its_serial() {
        let found = identity("vda", &[("serial", b"disk zero\n")]);
        assert_eq!(found.serial.as_deref(), Some("disk zero"));
        assert_eq!(found.links, ["virtio-disk_zero"]);
    }

    #[test]
    fn scsi_disks_are_known_by_their_vital_product_data() {
        let mut page = vec![0, 0x83, 0, 0];
        page.extend([0x02, 0x01, 0, 4]);
        page.extend(b"ACME");
        page.extend([0x01, 0x13, 0, 8, 9, 9, 9, 9, 9, 9, 9, 9]); // of the port, not the unit
        page.extend([0x01, 0x03, 0, 8, 0x50, 0x01, 0x43, 0x80, 0x12, 0x34, 0x56, 0x78]);
        let found = identity(
            "sda",
            &[
                ("device/vendor", b"ACME    \n"),
                ("device/model", b"Disk 9000\n"),
                ("device/vpd_pg80", b"\x00\x80\x00\x08  SER42 "),
                ("device/vpd_pg83", &page),
            ],
        );
        assert_eq!(found.serial.as_deref(), Some("SER42"));
        assert_eq!(found.wwn.as_deref(), Some("naa.5001438012345678"));
        assert_eq!(found.links, ["scsi-35001438012345678", "wwn-0x5001438012345678"]);
    }

    #[test]
    fn an_ata_disk_is_linked_by_all_of_its_model() {
        let mut page = vec![0_u8; IDENTIFY + 512];
        let model = format!("{:40}", "Samsung SSD 860 EVO 500GB");
        for (index, byte) in model.bytes().enumerate() {
            page[IDENTIFY + IDENTIFY_MODEL.start + (index ^ 1)] = byte;
        }
        let scsi: [(&str, &[u8]); 3] = [
            ("device/vendor", b"ATA     \n"),
            ("device/model", b"Samsung SSD 860 \n"),
            ("device/vpd_pg80", b"\x00\x80\x00\x0fS3Z2NB0K123456X"),
        ];
        let found = identity("sda", &[&scsi[..], &[("device/vpd_pg89", &page)]].concat());
        assert_eq!(found.model.as_deref(), Some("Samsung SSD 860"), "jobs select by it");
        assert_eq!(found.full_model.as_deref(), Some("Samsung SSD 860 EVO 500GB"));
        assert_eq!(found.links, ["ata-Samsung_SSD_860_EVO_500GB_S3Z2NB0K123456X"]);
        let cut = identity("sda", &[&scsi[..], &[("device/vpd_pg89", &page[..100])]].concat());
        assert_eq!(cut.links, ["ata-Samsung_SSD_860_S3Z2NB0K123456X"]);
    }

    #[test]
    fn an_nvme_disk_of_an_older_kernel_is_known_by_its_namespace() {
        let eui: (&str, &[u8]) = ("eui", b"00 25 38 B1 11 11 11 11\n");
        let zero: (&str, &[u8]) = ("nguid", b"00000000-0000-0000-0000-000000000000\n");
        let own: (&str, &[u8]) = ("nguid", b"36314230-5270-0123-0025-384500000001\n");
        let wwn = |files: &[(&str, &[u8])]| identity("nvme0n1", files).wwn;
        assert_eq!(wwn(&[own, eui]).unwrap(), "eui.36314230527001230025384500000001");
        assert_eq!(wwn(&[zero, eui]).unwrap(), "eui.002538b111111111");
        assert_eq!(wwn(&[zero, ("eui", b"junk\n")]), None);
    }

    #[test]
    fn pages_cut_short_are_no_panic() {
        let page = [0, 0x83, 0, 12, 0x01, 0x03, 0, 8, 0x50];
        for end in 0..page.len() {
            assert_eq!(vpd_wwn(&page[..end]), None);
            assert_eq!(scsi_id(&page[..end]), None);
        }
        assert_eq!(vpd_serial(&[0, 0x80]), None);
    }
}
