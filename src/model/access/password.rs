//! What a password is compared with.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use thiserror::Error;

use crate::base::limits;
use crate::base::settings::Secret;

/// What a password is compared with.
pub enum Password {
    /// The password.
    Clear(Secret),
    /// As RabbitMQ keeps it: `salt, digest of (salt, password)`. Digests are fast, so they are taken
    /// within a turn.
    Hashed {
        /// Which digest.
        digest: Hash,
        /// In front of the password; RabbitMQ takes 4 bytes.
        salt: Vec<u8>,
        /// Of both.
        hash: Vec<u8>,
    },
    /// As LavinMQ keeps it, and whoever gives RabbitMQ a module for it. Made to be slow, so that a turn can't
    /// wait for it: see [`PasswordCheck`].
    Bcrypt(Box<str>),
    /// No password is right.
    None,
}

/// Whether a password is the one that a hash was made of: takes milliseconds, or a second.
pub struct PasswordCheck {
    hash: Box<str>,
    password: Box<[u8]>,
}

impl PasswordCheck {
    /// Finds out.
    pub fn run(&self) -> bool {
        // The hash was read when it came here; a password with a NUL in it is nobody's.
        bcrypt::verify(&self.password, &self.hash).unwrap_or(false)
    }
}

impl fmt::Debug for PasswordCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A digest of RabbitMQ's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names of the digests")]
pub enum Hash {
    Md5,
    Sha256,
    Sha512,
}

/// Why a stored password is none.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum UnknownHash {
    /// Perhaps of a plugin.
    #[error("the hashing algorithm '{0}' is not known")]
    Algorithm(String),
    /// It isn't base64, or too short for its algorithm.
    #[error("the password hash is not salt and digest in base64")]
    Malformed,
    /// Of bcrypt.
    #[error("the password hash is none of bcrypt")]
    MalformedBcrypt,
    /// Whoever may try to log in could keep a CPU busy with it.
    #[error("the password hash has a cost of {0}, and {max} is the most that is taken", max = limits::BCRYPT_COST_MAX)]
    Costly(u32),
}

impl Password {
    /// From `password_hash` and `hashing_algorithm` of a user in definitions.json. An empty hash is for
    /// users who log in by other means.
    ///
    /// # Errors
    /// The algorithm is unknown, or the hash isn't one of it.
    pub fn parse(hash: &str, algorithm: &str) -> Result<Self, UnknownHash> {
        let digest = match algorithm {
            "rabbit_password_hashing_bcrypt" | "lavinmq_bcrypt" => return Self::parse_bcrypt(hash),
            "rabbit_password_hashing_md5" => Hash::Md5,
            "rabbit_password_hashing_sha256" => Hash::Sha256,
            "rabbit_password_hashing_sha512" => Hash::Sha512,
            _ => return Err(UnknownHash::Algorithm(algorithm.to_owned())),
        };
        if hash.is_empty() {
            return Ok(Self::None);
        }
        let mut salt = STANDARD.decode(hash).map_err(|_| UnknownHash::Malformed)?;
        let salt_len = salt
            .len()
            .checked_sub(digest.len())
            .ok_or(UnknownHash::Malformed)?;
        let hash = salt.split_off(salt_len);
        Ok(Self::Hashed { digest, salt, hash })
    }

    /// `$2b$12$…`
    fn parse_bcrypt(hash: &str) -> Result<Self, UnknownHash> {
        if hash.is_empty() {
            return Ok(Self::None);
        }
        let parts = bcrypt::HashParts::from_str(hash);
        let cost = parts.map_err(|_| UnknownHash::MalformedBcrypt)?.get_cost();
        if cost > limits::BCRYPT_COST_MAX {
            return Err(UnknownHash::Costly(cost));
        }
        Ok(Self::Bcrypt(Box::from(hash)))
    }

    /// What is to be found out elsewhere, if this can't be said at once.
    pub fn check(&self, password: &[u8]) -> Option<PasswordCheck> {
        match self {
            Self::Bcrypt(hash) if !password.is_empty() => Some(PasswordCheck {
                hash: hash.clone(),
                password: Box::from(password),
            }),
            _ => None,
        }
    }

    /// Whether this is the password, as far as that can be said at once. An empty one never is.
    pub fn matches(&self, password: &[u8]) -> bool {
        if password.is_empty() {
            return false;
        }
        match self {
            Self::Clear(secret) => secret.matches(password),
            Self::Hashed { digest, salt, hash } => digest.of(salt, password) == *hash,
            Self::Bcrypt(_) | Self::None => false,
        }
    }
}

impl Hash {
    /// In bytes.
    fn len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn of(self, salt: &[u8], password: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => digest::<Md5>(salt, password),
            Self::Sha256 => digest::<Sha256>(salt, password),
            Self::Sha512 => digest::<Sha512>(salt, password),
        }
    }
}

fn digest<D: Digest>(salt: &[u8], password: &[u8]) -> Vec<u8> {
    let digest = D::new().chain_update(salt).chain_update(password);
    digest.finalize().to_vec()
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(algorithm: &str, salt: [u8; 4], password: &str) -> Password {
        let name = format!("rabbit_password_hashing_{algorithm}");
        let digest = match algorithm {
            "md5" => Hash::Md5,
            "sha256" => Hash::Sha256,
            _ => Hash::Sha512,
        };
        let bytes = [&salt[..], &digest.of(&salt, password.as_bytes())].concat();
        Password::parse(&STANDARD.encode(bytes), &name).expect("well-formed")
    }

    #[test]
    fn the_password_of_a_hash_that_rabbitmq_made_is_known() {
        // As a definitions.json of LavinMQ and RabbitMQ has guest.
        let hash = "+pHuxkR9fCyrrwXjOD4BP4XbzO3l8LJr8YkThMgJ0yVHFRE+";
        let password = Password::parse(hash, "rabbit_password_hashing_sha256").expect("it is one");
        assert!(password.matches(b"guest"));
        assert!(
            !password.matches(b"Guest") && !password.matches(b"") && !password.matches(b"guest ")
        );
    }

    #[test]
    fn each_digest_knows_its_own() {
        for algorithm in ["md5", "sha256", "sha512"] {
            let password = stored(algorithm, [1, 2, 3, 4], "hare");
            assert!(password.matches(b"hare"), "{algorithm}");
            assert!(!password.matches(b"hase"), "{algorithm}");
        }
    }

    /// `hare`.
    fn of_bcrypt() -> Password {
        let hash = bcrypt::hash_with_salt("hare", 4, [7; 16]).expect("that is a cost");
        Password::parse(&hash.to_string(), "lavinmq_bcrypt").expect("just made")
    }

    #[test]
    fn what_bcrypt_has_hashed_is_checked_elsewhere() {
        let password = of_bcrypt();
        assert!(!password.matches(b"hare"), "not at once");
        let right = |tried: &[u8]| password.check(tried).map(|check| check.run());
        assert_eq!(right(b"hare"), Some(true));
        assert_eq!(right(b"hase"), Some(false));
        assert_eq!(right(b"hare\0"), Some(false));
        assert_eq!(right(b""), None);
        assert!(stored("sha256", [0; 4], "hare").check(b"hare").is_none());
    }

    #[test]
    fn hashes_of_other_implementations_are_known() {
        // By libxcrypt's crypt(3).
        let hash = "$2b$04$abcdefghijklmnopqrstuu7FFhQK/3fudaIODKPG.WetXAxkZ/RP6";
        for variant in ["$2b$", "$2a$", "$2y$"] {
            let hash = hash.replace("$2b$", variant);
            let password = Password::parse(&hash, "rabbit_password_hashing_bcrypt");
            let password = password.expect("it is one");
            let right = |tried: &[u8]| password.check(tried).map(|check| check.run());
            assert_eq!(
                (right(b"hare"), right(b"hase")),
                (Some(true), Some(false)),
                "{variant}"
            );
        }
    }

    #[test]
    fn a_hash_of_bcrypt_that_is_none_or_too_costly_is_refused() {
        let parse = |hash: &str| Password::parse(hash, "rabbit_password_hashing_bcrypt");
        let dear = "$2b$15$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";
        assert_eq!(
            parse(dear).expect_err("too slow").to_string(),
            "the password hash has a cost of 15, and 14 is the most that is taken"
        );
        for hash in [
            "AAAA",
            "$2b$10$short",
            "$2b$xx$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i",
        ] {
            assert_eq!(
                parse(hash).expect_err("no hash"),
                UnknownHash::MalformedBcrypt
            );
        }
        let nobody = parse("").expect("it is allowed");
        assert!(nobody.check(b"x").is_none());
    }

    #[test]
    fn nobody_logs_in_with_an_empty_password() {
        assert!(!stored("sha256", [0; 4], "").matches(b""));
        assert!(!Password::Clear(Secret::new("")).matches(b""));
        let none = Password::parse("", "rabbit_password_hashing_sha256").expect("it is allowed");
        assert!(!none.matches(b"") && !none.matches(b"x"));
    }

    #[test]
    fn what_is_no_hash_is_refused_with_the_reason() {
        let parse = |hash, algorithm| {
            Password::parse(hash, algorithm)
                .expect_err("refused")
                .to_string()
        };
        assert_eq!(
            parse("", "rabbit_password_hashing_scrypt"),
            "the hashing algorithm 'rabbit_password_hashing_scrypt' is not known"
        );
        for hash in ["not base64", "AAAA"] {
            assert_eq!(
                parse(hash, "rabbit_password_hashing_sha256"),
                "the password hash is not salt and digest in base64"
            );
        }
    }
}
