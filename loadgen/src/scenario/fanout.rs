//! `fanout`: one message in, a copy for every queue out.
//!
//! The received rate counts copies: with ten queues it is ten times the sent one when the broker
//! keeps up.

use anyhow::Result;

use super::load::run_at;
use crate::options::Settings;
use crate::output::BULK_BYTES;

/// Runs it.
pub(super) fn run(settings: &Settings) -> Result<()> {
    run_at(BULK_BYTES, settings)
}
