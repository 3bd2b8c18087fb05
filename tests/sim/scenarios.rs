//! Failures that the simulator found, each shrunk to what it needs and told in a sentence.
