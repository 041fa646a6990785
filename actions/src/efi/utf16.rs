//! Text as UEFI has it: UTF-16, little endian, ended by a zero.

/// The code units of `bytes`; an odd last byte does not count.
pub(super) fn units(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair))
}

/// The text in `units` up to its terminator; what is no UTF-16 shows as U+FFFD.
pub(super) fn to_string_lossy(units: impl Iterator<Item = u16>) -> String {
    char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|decoded| decoded.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// `units` as bytes, with a terminator.
pub(super) fn to_bytes(units: impl IntoIterator<Item = u16>) -> Vec<u8> {
    units.into_iter().chain([0]).flat_map(u16::to_le_bytes).collect()
}
