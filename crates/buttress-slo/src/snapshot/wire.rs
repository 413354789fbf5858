//! The alphabet of the format: numbers, texts, and a checksum.

use crate::Counts;

/// What every snapshot begins with.
pub(super) const MAGIC: &[u8; 8] = b"bttr-slo";

/// The version that is written, and the newest that is read.
pub(super) const VERSION: u16 = 3;

#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    /// LEB128: seven bits a byte, the lowest first.
    pub(super) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    /// A number that may be below 0, folded so that small ones stay small.
    pub(super) fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn counts(&mut self, counts: Counts) {
        self.number(counts.good);
        self.number(counts.bad);
    }

    /// A moment that there may be none of, as a list of one or none.
    pub(super) fn moment(&mut self, time: Option<i64>) {
        self.number(u64::from(time.is_some()));
        if let Some(time) = time {
            self.signed(time);
        }
    }
}

/// Reads what a [`Writer`] wrote. What cannot be read is `None`; nothing is taken on trust, and
/// nothing is allocated for what is not there.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes(1)?.first()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let value = self.number()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A moment: far enough from the ends of the numbers that sums of a few cannot overflow.
    pub(super) fn time(&mut self) -> Option<i64> {
        self.signed().filter(|time| time.unsigned_abs() <= FARTHEST)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        String::from_utf8(self.bytes(length)?.to_vec()).ok()
    }

    pub(super) fn counts(&mut self) -> Option<Counts> {
        Some(Counts { good: self.number()?, bad: self.number()? })
    }

    /// Reads so many things as the next number says. The number is not believed: room is made as
    /// they are found.
    pub(super) fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.number()?;
        (0..length).map(|_| read(self)).collect()
    }
}

/// Thirty-five thousand years.
const FARTHEST: u64 = 1 << 40;

/// CRC-32 of IEEE 802.3, as in zip and Ethernet.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(u32::MAX, |crc, byte| TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8))
}

const TABLE: [u32; 256] = {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    let mut table = [0; 256];
    let mut index = 0_u32;
    while index < 256 {
        let (mut crc, mut bit) = (index, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[index as usize] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_zip() {
        assert_eq!(checksum(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn numbers_of_more_than_64_bits_are_none() {
        let read = |last: u8| Reader(&[[0xFF; 9].as_slice(), &[last]].concat()).number();

        assert_eq!(read(0x01), Some(u64::MAX));
        assert_eq!(read(0x03), None);
        assert_eq!(read(0x81), None);
    }

    proptest! {
        #[test]
        fn numbers_and_texts_are_read_as_they_were_written(number: u64, signed: i64, text: String) {
            let mut writer = Writer::default();
            writer.number(number);
            writer.signed(signed);
            writer.text(&text);

            let mut reader = Reader(&writer.0);
            prop_assert_eq!(reader.number(), Some(number));
            prop_assert_eq!(reader.signed(), Some(signed));
            prop_assert_eq!(reader.text(), Some(text));
            prop_assert!(reader.0.is_empty());
        }
    }
}
