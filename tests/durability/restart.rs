//! What comes back with the next process, and what doesn't: after SIGTERM, and after `kill -9` once all was confirmed.

mod messages;
mod rules;
mod settled;
mod topology;
