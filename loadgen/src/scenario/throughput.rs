//! `throughput`: how many messages per second go through.
//!
//! Publishes are gathered to large writes, so that the generator needs a fraction of the time
//! that a broker needs for the same messages. With -r the same at a fixed rate.

use anyhow::Result;

use super::load::run_at;
use crate::options::Settings;
use crate::output::BULK_BYTES;

/// Runs it.
pub(super) fn run(settings: &Settings) -> Result<()> {
    run_at(BULK_BYTES, settings)
}
