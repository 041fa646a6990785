//! Load options and device paths: bytes that firmware wrote, and bytes that nobody should.

use std::fs;
use std::path::Path;

use nibs_actions::efi::{DevicePath, HardDrive, LoadOption};
use proptest::prelude::*;

/// What a case's `.txt` holds.
fn described(option: &LoadOption) -> String {
    let none = || "none".to_owned();
    let yes = |it| if it { "yes" } else { "no" };
    let partition = option.path.partition().map_or_else(none, |p: HardDrive| {
        format!("{} at {}, {} blocks, {}", p.number, p.start, p.size, p.guid)
    });
    format!(
        "label: {:?}\nattributes: {:#x}\npartition: {partition}\nfile: {}\nnetwork: {}\ndetachable: {}\n",
        option.label(),
        option.attributes,
        option.path.file().unwrap_or_else(none),
        yes(option.path.is_network()),
        yes(option.path.is_detachable()),
    )
}

fn cases() -> Vec<(String, Vec<u8>, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/load-options");
    let mut cases = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hex") {
            let digits: String = fs::read_to_string(&path).unwrap().split_whitespace().collect();
            let expected = fs::read_to_string(path.with_extension("txt")).unwrap();
            cases.push((path.display().to_string(), hex::decode(digits).unwrap(), expected));
        }
    }
    assert!(cases.len() >= 14);
    cases
}

#[test]
fn what_firmware_writes_is_understood_and_kept_byte_for_byte() {
    for (name, bytes, expected) in cases() {
        let option = LoadOption::parse(&bytes).unwrap();
        assert_eq!(described(&option), expected, "{name}");
        assert_eq!(option.to_bytes(), bytes, "{name}");
    }
}

#[test]
fn our_own_entry_has_the_bytes_of_the_specification() {
    let (_, bytes, _) =
        cases().into_iter().find(|(name, ..)| name.ends_with("spec-disk-short-form.hex")).unwrap();
    let guid = "0d1e2f3a-4b5c-6d7e-8f90-a1b2c3d4e5f6".parse().unwrap();
    let partition = HardDrive { number: 1, start: 2048, size: 0x0010_0000, guid };
    let option = LoadOption::new("debian", partition, r"\EFI\debian\shimx64.efi", Vec::new());
    assert_eq!(option.to_bytes(), bytes);
}

#[test]
fn cut_anywhere_before_the_end_of_its_paths_it_is_an_error() {
    for (name, bytes, _) in cases() {
        let end = bytes.len() - LoadOption::parse(&bytes).unwrap().optional_data.len();
        for cut in 0..end {
            assert!(LoadOption::parse(&bytes[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn an_error_says_where() {
    let error = DevicePath::parse(&[4, 4, 2, 0]).unwrap_err().to_string();
    assert_eq!(error, "device path node at byte 0: expected a length of at least 4, found 2 bytes");
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_read_is_written_the_same(bytes: Vec<u8>) {
        if let Ok(option) = LoadOption::parse(&bytes) {
            prop_assert_eq!(option.to_bytes(), bytes);
        }
    }

    #[test]
    fn one_wrong_byte_in_a_real_entry_does_not_panic(case in 0..14_usize, at: usize, byte: u8) {
        let (_, mut bytes, _) = cases().swap_remove(case);
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(option) = LoadOption::parse(&bytes) {
            described(&option);
            prop_assert_eq!(option.to_bytes(), bytes);
        }
    }

    #[test]
    fn any_label_and_path_come_back(label in "[^\\x00]{0,40}", file in r"\\[^\x00\\/]{1,40}") {
        let partition = HardDrive { number: 1, start: 1, size: 1, guid: uuid::Uuid::nil() };
        let bytes = LoadOption::new(&label, partition, &file, vec![1, 2]).to_bytes();
        let option = LoadOption::parse(&bytes).unwrap();
        prop_assert_eq!(option.label(), label);
        prop_assert_eq!(option.path.file(), Some(file));
        prop_assert_eq!(option.optional_data, vec![1, 2]);
    }
}
