//! Names for queues that have none.

use std::hash::{DefaultHasher, Hasher};

use crate::base::Name;

/// Names that nobody else has and nobody can guess, for queues that clients leave to the server to name.
#[derive(Clone, Debug)]
pub struct NameSource {
    seed: u64,
    drawn: u64,
}

impl NameSource {
    /// Each seed gives a sequence of its own; it should be drawn at random when the process starts,
    /// and kept secret.
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// `amq.gen-` and 16 bytes in 22 characters of base64url.
    pub fn next_queue_name(&mut self) -> Name {
        self.next_name("amq.gen-")
    }

    /// Passes over the name that would come next, because somebody may know it.
    pub fn skip(&mut self) {
        self.next_queue_name();
    }

    pub(super) fn next_name(&mut self, prefix: &str) -> Name {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from(self.next_word()) << 64 | u128::from(self.next_word());
        let mut name = String::from(prefix);
        for character in 0..22 {
            // The last character holds the two bits that 21 times six leave over.
            let six = if character < 21 {
                bits >> (122 - 6 * character)
            } else {
                bits << 4
            };
            name.push(char::from(ALPHABET[(six & 63) as usize]));
        }
        Name::from(name)
    }

    /// SipHash of a counter under the seed: who has seen some names can't tell the others.
    fn next_word(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write_u64(self.drawn);
        hasher.finish()
    }
}
