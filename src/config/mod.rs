//! What the operator decided, from four places: a flag beats the environment, which beats the
//! configuration file, which beats the default.
//!
//! ```text
//! flags ──┐
//! environment ──► Options ──► Settings (for the pure rooms)
//! file ──┘
//! ```

mod default_limits;
mod file;
mod flags;
mod options;
mod users;
mod value;

pub use flags::{Action, CommandLine, Definitions, Flags};
pub use options::{Amount, Cores, LogLevel, Options};

/// A mistake of the operator: one line that says where, what was expected and what stood there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Reads everything there is to read. `environment` looks a variable up.
pub fn load(
    flags: Flags,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Options, ConfigError> {
    options::assemble(flags, &environment)
}
