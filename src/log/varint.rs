//! Unsigned numbers in as few bytes as they need: seven bits a byte, the lowest first (LEB128).

/// The most bytes that a number takes.
pub const VARINT_MAX: usize = 10;

/// How many bytes a number takes.
pub fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Takes a number off the front of `bytes`; none if they end before it does or if it has more than
/// 64 bits.
#[inline]
pub fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().enumerate().take(VARINT_MAX) {
        let bits = u64::from(byte & 0x7f);
        if at == VARINT_MAX - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

/// Writes a number at the front of `out`; how many bytes it took.
#[inline]
pub(super) fn write_varint(mut value: u64, out: &mut [u8]) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        out[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = value as u8;
    at + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_comes_back_as_it_went(value: u64, shift in 0_u32..64) {
            let value = value >> shift;
            let mut out = [0xff; VARINT_MAX + 1];
            let len = write_varint(value, &mut out);
            prop_assert_eq!(len, varint_len(value));
            let mut rest = &out[..];
            prop_assert_eq!(take_varint(&mut rest), Some(value));
            prop_assert_eq!(rest.len(), out.len() - len);
            let mut cut = &out[..len - 1];
            prop_assert_eq!(take_varint(&mut cut), None);
        }
    }

    #[test]
    fn more_than_64_bits_are_no_number() {
        assert_eq!(take_varint(&mut &[0xff; 20][..]), None);
        let mut over = [0x80; 10];
        over[9] = 2;
        assert_eq!(take_varint(&mut &over[..]), None);
    }
}
