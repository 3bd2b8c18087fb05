//! Routing keys drawn at random, one for each message (-K): UUIDs, as PerfTest's.

use std::fmt;

use fastrand::Rng;

/// A UUID of version 4, whose zeros are to be drawn; as long as each that is.
pub(crate) const BLANK: &str = "00000000-0000-4000-8000-000000000000";

/// A source of keys.
pub(crate) struct RandomKeys(Rng);

impl RandomKeys {
    pub(crate) fn new() -> Self {
        Self(Rng::new())
    }

    /// Writes the next one over a [`BLANK`] or another.
    pub(crate) fn write(&mut self, key: &mut [u8]) {
        let mut bits = self.0.u128(..);
        for (digit, blank) in key.iter_mut().zip(BLANK.bytes()) {
            let drawn = (bits & 0xF) as usize;
            *digit = match blank {
                b'0' => b"0123456789abcdef"[drawn],
                b'8' => b"89ab"[drawn & 3],
                fixed => fixed,
            };
            if blank == b'0' || blank == b'8' {
                bits >>= 4;
            }
        }
    }
}

impl fmt::Debug for RandomKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RandomKeys")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_key_is_a_uuid_of_its_own() {
        let mut keys = RandomKeys(Rng::with_seed(7));
        let mut seen = HashSet::new();
        let mut key = BLANK.as_bytes().to_vec();
        for _ in 0..1_000 {
            keys.write(&mut key);
            let text = std::str::from_utf8(&key).expect("hexadecimal digits");
            let parts: Vec<_> = text.split('-').collect();
            let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{text}");
            assert!(parts[2].starts_with('4'), "{text}");
            assert!(parts[3].starts_with(['8', '9', 'a', 'b']), "{text}");
            let digits = parts.concat();
            assert!(digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            assert!(seen.insert(digits), "{text} came twice");
        }
    }
}
