//! As much of DER (X.690) as a certificate's outline and a signature take.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// In a length's first byte: it counts the bytes of the length that follow.
const LONG_LENGTH: u8 = 0x80;

/// The tag of a constructed element that only its context gives a meaning.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// One element of `parts`, one after another.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < LONG_LENGTH => bytes.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let zeros = digits.iter().take_while(|digit| **digit == 0).count();
            bytes.push(LONG_LENGTH | (digits.len() - zeros) as u8);
            bytes.extend(&digits[zeros..]);
        }
    }
    parts.iter().for_each(|part| bytes.extend(*part));
    bytes
}

/// The first element's tag and content, and what follows it; `None` if that is no DER.
pub(super) fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = if *first < LONG_LENGTH {
        (usize::from(*first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(*first - LONG_LENGTH))?;
        // Zero digits is BER's length that is not known yet; nothing here is beyond four.
        let is_shortest = digits.len() <= 4 && digits.first().is_some_and(|digit| *digit != 0);
        let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        (is_shortest && length >= usize::from(LONG_LENGTH)).then_some((length, rest))?
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_take_as_few_bytes_as_they_can() {
        assert_eq!(element(NULL, &[]), [5, 0]);
        assert_eq!(element(SEQUENCE, &[&[1], &[2, 3]]), [0x30, 3, 1, 2, 3]);
        assert_eq!(element(OCTET_STRING, &[&[0; 127]])[..2], [4, 127]);
        assert_eq!(element(OCTET_STRING, &[&[0; 128]])[..3], [4, 0x81, 128]);
        assert_eq!(element(OCTET_STRING, &[&[0; 256]])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn other_lengths_are_no_der() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 1, 0],
            &[0x30, 0x82, 0, 1, 0],
            &[0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        ] {
            assert_eq!(split(bytes), None, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            content in prop::collection::vec(any::<u8>(), 0..700), after in any::<[u8; 3]>(),
        ) {
            let mut bytes = element(SET, &[&content]);
            bytes.extend(after);
            prop_assert_eq!(split(&bytes), Some((SET, &content[..], &after[..])));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Some((tag, content, rest)) = split(&bytes) {
                prop_assert_eq!([&element(tag, &[content]), rest].concat(), bytes);
            }
        }
    }
}
