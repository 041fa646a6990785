//! Where the bytes of an image come from.

use bytes::Bytes;

use super::Result;

/// Where the bytes of an image come from, in order. A source heals what it can by itself; an error
/// is final.
pub trait Source: Send {
    /// The next bytes, never empty; none at the end, which is reported only if it is proven to be
    /// the end where a length is known.
    fn next(&mut self) -> Result<Option<Bytes>>;

    /// How many bytes there are in all, where that is known. Bytes.
    fn total(&self) -> Option<u64>;

    /// Bytes from elsewhere in the image, if the source can look there: exactly `length`, from
    /// `offset`. Not tried for long: none says nothing.
    fn peek(&self, _offset: u64, _length: u64) -> Option<Bytes> {
        None
    }

    /// Which of several places the bytes come from, without what may be secret in it; none if there
    /// is only one.
    fn place(&self) -> Option<String> {
        None
    }

    /// Which of several places that is, as they were given.
    fn mirror(&self) -> usize {
        0
    }
}
