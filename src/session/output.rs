//! What a session wants written to its socket: one growing block of small parts, and the large bodies
//! that belong between them, unsplit and uncopied.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Bytes on their way to a socket, in order.
#[derive(Default)]
pub struct Output {
    /// Everything but large bodies.
    block: Vec<u8>,
    /// How much of `block` is written.
    written: usize,
    /// Large bodies, each with the position in `block` that it stands before.
    splices: VecDeque<(usize, Bytes)>,
    /// Bytes in `splices`.
    spliced: usize,
}

impl Output {
    /// Bytes not yet written.
    pub fn len(&self) -> usize {
        self.block.len() - self.written + self.spliced
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The block, to append to.
    pub(crate) fn block(&mut self) -> &mut Vec<u8> {
        &mut self.block
    }

    /// Appends a shared buffer without copying it.
    pub(crate) fn splice(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.spliced += bytes.len();
        self.splices.push_back((self.block.len(), bytes));
    }

    /// Fills `slices` with what is to be written first; the number of slices filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut at = self.written;
        let mut filled = 0;
        let mut splices = self.splices.iter();
        while filled < slices.len() {
            let splice = splices.next();
            let end = splice.map_or(self.block.len(), |(position, _)| *position);
            if at < end {
                slices[filled] = IoSlice::new(&self.block[at..end]);
                filled += 1;
                at = end;
            }
            let Some((_, bytes)) = splice else { break };
            if filled == slices.len() {
                break;
            }
            slices[filled] = IoSlice::new(bytes);
            filled += 1;
        }
        filled
    }

    /// `count` bytes from the front were written.
    pub fn consume(&mut self, mut count: usize) {
        while let Some((position, bytes)) = self.splices.front_mut() {
            let before = *position - self.written;
            if count < before {
                break;
            }
            self.written += before;
            count -= before;
            let taken = count.min(bytes.len());
            bytes::Buf::advance(bytes, taken);
            self.spliced -= taken;
            count -= taken;
            if !bytes.is_empty() {
                return;
            }
            self.splices.pop_front();
        }
        self.written += count;
        if self.written == self.block.len() && self.splices.is_empty() {
            self.block.clear();
            self.written = 0;
        }
    }

    /// Gives memory back that a burst needed and an idle connection doesn't.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            self.block = Vec::new();
            self.splices = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the socket takes the bytes, they come out in the order they were put in.
        #[test]
        fn any_sequence_of_partial_writes_yields_the_bytes_in_order(
            parts in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..9)), 0..20),
            writes in prop::collection::vec(1usize..7, 0..200),
            width in 1usize..5,
        ) {
            let mut output = Output::default();
            let mut expected = Vec::new();
            for (spliced, bytes) in &parts {
                expected.extend_from_slice(bytes);
                if *spliced {
                    output.splice(Bytes::from(bytes.clone()));
                } else {
                    output.block().extend_from_slice(bytes);
                }
            }
            let mut seen = Vec::new();
            for count in writes.into_iter().chain(std::iter::repeat(3)) {
                prop_assert_eq!(output.len(), expected.len() - seen.len());
                let mut slices = vec![IoSlice::new(&[]); width];
                let filled = output.slices(&mut slices);
                let all: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                if all.is_empty() {
                    break;
                }
                let taken = count.min(all.len());
                seen.extend_from_slice(&all[..taken]);
                output.consume(taken);
            }
            prop_assert!(output.is_empty());
            prop_assert_eq!(seen, expected);
        }
    }
}
