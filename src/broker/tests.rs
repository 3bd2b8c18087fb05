//! Tests of one core's share.
