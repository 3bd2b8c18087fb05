//! Names of vhosts, exchanges, queues and routing keys, as AMQP's short strings: at most 255 bytes
//! of UTF-8.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A short string that is shared by everyone who holds it, on whatever core.
///
/// Cloning touches a counter that cores share, so names are cloned at declare, never per message.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes, as they stand on the wire behind their length.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(Arc::from(text))
    }
}

/// Lookups by text need no allocation.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// As the text.
impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// From a text that a short string can hold.
impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() > SHORT_STRING_BYTES_MAX {
            let bytes = text.len();
            return Err(D::Error::custom(format!(
                "a name of {bytes} bytes is longer than {SHORT_STRING_BYTES_MAX}"
            )));
        }
        Ok(Self::from(text))
    }
}

/// AMQP's short strings have one byte of length.
pub const SHORT_STRING_BYTES_MAX: usize = 255;
