//! `BOOT.CSV`: an image's own word on its loader, as shim's `fallback.efi` reads it.
//!
//! UTF-16LE text in `\EFI\<vendor>\`, one line each: loader, label, arguments, comment. The loader
//! is a file name beside the CSV file, as in `shimx64.efi,debian,,This is the boot entry for …`.

use super::utf16;

/// One line of a `BOOT.CSV`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootCsvEntry {
    /// File name of the loader, in the directory of the CSV file.
    pub loader: String,
    /// Label of the boot entry.
    pub label: String,
    /// Arguments for the loader; mostly empty.
    pub arguments: String,
}

impl BootCsvEntry {
    /// The arguments as a load option carries them.
    pub fn optional_data(&self) -> Vec<u8> {
        if self.arguments.is_empty() {
            return Vec::new();
        }
        utf16::to_bytes(self.arguments.encode_utf16())
    }
}

/// Reads a `BOOT.CSV`. Lines without a loader and a label are skipped, as the firmware side does.
pub fn parse(bytes: &[u8]) -> Vec<BootCsvEntry> {
    const BYTE_ORDER_MARK: char = '\u{feff}';
    // Some images hold plain ASCII here; no UTF-16 text of a loader's name lacks zero bytes.
    let text = if bytes.contains(&0) {
        utf16::to_string_lossy(utf16::units(bytes))
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    };
    text.trim_start_matches(BYTE_ORDER_MARK).lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<BootCsvEntry> {
    let mut fields = line.split(',').map(|field| field.trim().to_owned());
    let entry = BootCsvEntry {
        loader: fields.next()?,
        label: fields.next()?,
        arguments: fields.next().unwrap_or_default(),
    };
    (!entry.loader.is_empty() && !entry.label.is_empty()).then_some(entry)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utf16le(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn debians_file_names_shim_and_its_label() {
        let line = "shimx64.efi,debian,,This is the boot entry for debian\n";
        for text in [line.to_owned(), format!("\u{feff}{}", line.replace('\n', "\r\n"))] {
            let [entry] = &parse(&utf16le(&text))[..] else { panic!("{text:?}") };
            assert_eq!((&*entry.loader, &*entry.label), ("shimx64.efi", "debian"));
            assert!(entry.optional_data().is_empty());
        }
    }

    #[test]
    fn arguments_travel_as_terminated_utf16() {
        let [entry] = &parse(&utf16le("a.efi,A,-x"))[..] else { panic!() };
        assert_eq!(entry.optional_data(), [b'-', 0, b'x', 0, 0, 0]);
    }

    #[test]
    fn what_is_no_entry_is_skipped() {
        assert_eq!(parse(&utf16le("\n,,\nonly-a-loader.efi\n")), []);
        assert_eq!(parse(b"plain.efi,Plain,,\n").len(), 1);
        assert_eq!(parse(&[0xff]), []);
        assert_eq!(parse(&[]), []);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_every_entry_has_a_loader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for entry in parse(&bytes) {
                prop_assert!(!entry.loader.is_empty() && !entry.label.is_empty());
                prop_assert!(!entry.loader.contains([',', '\n']));
                prop_assert!(entry.optional_data().len().is_multiple_of(2));
            }
        }

        #[test]
        fn what_is_written_is_read(loader in "[a-z0-9.]{1,12}", label in "[A-Za-z0-9]{1,12}", arguments in "[a-z0-9=-]{0,20}") {
            let [entry] = &parse(&utf16le(&format!("{loader},{label},{arguments},a comment\n")))[..] else {
                panic!("one line is one entry")
            };
            prop_assert_eq!(entry, &BootCsvEntry { loader, label, arguments });
        }
    }
}
