//! The topic exchange: patterns of words between dots, where `*` is any one word and `#` any number
//! of them, none included.
//!
//! The patterns form a trie. A key walks it word by word with the set of all nodes it may be at, each
//! node once, so the work is at most words × nodes, whatever the patterns. A node reached by `#` stays
//! in the set for every word, and stands beside its parent from the start, as `#` may be no word at all.

use std::collections::HashMap;

use crate::model::Seeded;
use crate::model::definition::Destination;

use super::destinations::Destinations;
use super::scratch::{Collector, TopicScratch};

/// A trie of patterns. Consecutive `#` are one, being the same.
#[derive(Debug)]
pub struct TopicBindings {
    /// The first is the root; others are reused once nothing leads through them.
    nodes: Vec<Node>,
    vacant: Vec<u32>,
    hashing: Seeded,
}

#[derive(Debug)]
struct Node {
    words: HashMap<Box<[u8]>, u32, Seeded>,
    /// The node behind `*`.
    any_word: Option<u32>,
    /// The node behind `#`.
    any_words: Option<u32>,
    /// Whether this is a node behind `#`.
    is_any_words: bool,
    destinations: Destinations,
}

const ROOT: u32 = 0;
const ANY_WORD: &[u8] = b"*";
const ANY_WORDS: &[u8] = b"#";

impl TopicBindings {
    pub(crate) fn new(hashing: &Seeded) -> Self {
        Self {
            nodes: vec![Node::new(hashing, false)],
            vacant: Vec::new(),
            hashing: hashing.clone(),
        }
    }

    pub(super) fn add(&mut self, pattern: &[u8], destination: Destination) {
        let mut at = ROOT;
        for word in pattern_words(pattern) {
            at = match self.node(at).child(word) {
                Some(child) => child,
                None => self.add_child(at, word),
            };
        }
        let hashing = self.hashing.clone();
        self.node_mut(at).destinations.add(destination, &hashing);
    }

    fn add_child(&mut self, parent: u32, word: &[u8]) -> u32 {
        let node = Node::new(&self.hashing, word == ANY_WORDS);
        let child = match self.vacant.pop() {
            Some(vacant) => {
                *self.node_mut(vacant) = node;
                vacant
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        self.node_mut(parent).set_child(word, Some(child));
        child
    }

    pub(super) fn remove(&mut self, pattern: &[u8], destination: Destination) {
        let mut path = vec![(ROOT, &b""[..])];
        let mut at = ROOT;
        for word in pattern_words(pattern) {
            let Some(child) = self.node(at).child(word) else {
                return;
            };
            path.push((child, word));
            at = child;
        }
        self.node_mut(at).destinations.remove(destination);
        while let [.., (parent, _), (child, word)] = path[..]
            && self.node(child).is_unused()
        {
            self.node_mut(parent).set_child(word, None);
            self.vacant.push(child);
            path.pop();
        }
    }

    /// Hands on what matches, and returns how many nodes it looked at.
    pub(super) fn route(
        &self,
        key: &[u8],
        scratch: &mut TopicScratch,
        collector: &mut Collector<'_>,
    ) -> usize {
        let TopicScratch {
            frontier,
            next,
            marks,
        } = scratch;
        marks.clear();
        frontier.clear();
        self.reach(ROOT, frontier, marks);
        let mut steps = frontier.len();
        for word in words(key) {
            marks.clear();
            next.clear();
            for at in frontier.iter() {
                let node = self.node(*at);
                if node.is_any_words {
                    self.reach(*at, next, marks);
                }
                if let Some(child) = node.any_word {
                    self.reach(child, next, marks);
                }
                if let Some(child) = node.words.get(word) {
                    self.reach(*child, next, marks);
                }
            }
            std::mem::swap(frontier, next);
            steps += frontier.len();
            if frontier.is_empty() {
                break;
            }
        }
        for at in frontier.iter() {
            for destination in self.node(*at).destinations.as_slice() {
                collector.add(*destination);
            }
        }
        steps
    }

    /// Puts the node into the set, and the one behind `#` with it.
    fn reach(&self, at: u32, frontier: &mut Vec<u32>, marks: &mut super::scratch::Marks) {
        if marks.set(at) {
            frontier.push(at);
        }
        if let Some(child) = self.node(at).any_words
            && marks.set(child)
        {
            frontier.push(child);
        }
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        &mut self.nodes[at as usize]
    }
}

impl Node {
    fn new(hashing: &Seeded, is_any_words: bool) -> Self {
        Self {
            words: HashMap::with_hasher(hashing.clone()),
            any_word: None,
            any_words: None,
            is_any_words,
            destinations: Destinations::default(),
        }
    }

    fn child(&self, word: &[u8]) -> Option<u32> {
        match word {
            ANY_WORD => self.any_word,
            ANY_WORDS => self.any_words,
            _ => self.words.get(word).copied(),
        }
    }

    fn set_child(&mut self, word: &[u8], child: Option<u32>) {
        match (word, child) {
            (ANY_WORD, _) => self.any_word = child,
            (ANY_WORDS, _) => self.any_words = child,
            (_, Some(child)) => {
                self.words.insert(Box::from(word), child);
            }
            (_, None) => {
                self.words.remove(word);
            }
        }
    }

    fn is_unused(&self) -> bool {
        self.destinations.is_empty()
            && self.words.is_empty()
            && self.any_word.is_none()
            && self.any_words.is_none()
    }
}

/// The words between dots. The empty key has none at all; a dot has an empty one on either side.
fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let key = (!key.is_empty()).then_some(key);
    key.into_iter()
        .flat_map(|key| key.split(|byte| *byte == b'.'))
}

/// The words of a pattern, with one `#` for several in a row.
fn pattern_words(pattern: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut before: &[u8] = b"";
    words(pattern).filter(move |word| {
        let is_repeated = *word == ANY_WORDS && before == ANY_WORDS;
        before = word;
        !is_repeated
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::base::QueueId;
    use crate::model::exchange::RouteScratch;

    fn queue(index: u32) -> QueueId {
        let generation = 0;
        QueueId { index, generation }
    }

    fn matches(
        bindings: &TopicBindings,
        key: &[u8],
        scratch: &mut RouteScratch,
    ) -> (BTreeSet<u32>, usize) {
        let mut targets = Vec::new();
        let (mut collector, matching) = scratch.begin(&mut targets);
        let steps = bindings.route(key, &mut matching.topic, &mut collector);
        let distinct: BTreeSet<_> = targets.iter().map(|id| id.index).collect();
        assert_eq!(distinct.len(), targets.len(), "every queue at most once");
        (distinct, steps)
    }

    /// The definition of a match, word by word from the end, one row of the table at a time.
    fn naive(pattern: &[u8], key: &[u8]) -> bool {
        let pattern: Vec<_> = words(pattern).collect();
        let key: Vec<_> = words(key).collect();
        let mut matches = vec![false; key.len() + 1];
        matches[key.len()] = true;
        for word in pattern.iter().rev() {
            let mut row = vec![false; key.len() + 1];
            for at in (0..=key.len()).rev() {
                row[at] = match *word {
                    b"#" => matches[at] || (at < key.len() && row[at + 1]),
                    b"*" => at < key.len() && matches[at + 1],
                    word => at < key.len() && key[at] == word && matches[at + 1],
                };
            }
            matches = row;
        }
        matches[0]
    }

    #[test]
    fn the_examples_of_the_handbook_hold() {
        let cases: [(&str, &[&str], &[&str]); 7] = [
            ("log.*", &["log.warn", "log."], &["log", "log.warn.timeout"]),
            (
                "log.#",
                &["log", "log.warn", "log.warn.timeout"],
                &["logs", ""],
            ),
            ("#", &["", "a", "a.b.c"], &[]),
            ("*", &["a", "*", "#"], &["", "a.b"]),
            ("", &[""], &["a", "."]),
            (
                "a.#.b",
                &["a.b", "a.x.b", "a.x.y.b", "a.b.b"],
                &["a.b.c", "a"],
            ),
            ("#.#.*", &["a", "a.b"], &[""]),
        ];
        let mut scratch = RouteScratch::new();
        for (pattern, matching, others) in cases {
            let mut bindings = TopicBindings::new(&Seeded::with_seed(1));
            bindings.add(pattern.as_bytes(), Destination::Queue(queue(0)));
            for key in matching {
                assert!(naive(pattern.as_bytes(), key.as_bytes()), "{pattern} {key}");
                let found = matches(&bindings, key.as_bytes(), &mut scratch).0;
                assert_eq!(found.len(), 1, "{pattern} matches {key}");
            }
            for key in others {
                assert!(
                    !naive(pattern.as_bytes(), key.as_bytes()),
                    "{pattern} {key}"
                );
                let found = matches(&bindings, key.as_bytes(), &mut scratch).0;
                assert_eq!(found.len(), 0, "{pattern} doesn't match {key}");
            }
        }
    }

    #[test]
    fn many_hashes_against_a_long_key_take_words_times_nodes() {
        let mut bindings = TopicBindings::new(&Seeded::with_seed(1));
        let pattern = ["#.a"; 60].join(".") + ".#.#.#.#.b";
        bindings.add(pattern.as_bytes(), Destination::Queue(queue(0)));
        let nodes = bindings.nodes.len();
        assert_eq!(nodes, 1 + 60 * 2 + 2, "consecutive # are one node");
        let key = ["a"; 127].join(".");
        let (found, steps) = matches(&bindings, key.as_bytes(), &mut RouteScratch::new());
        assert!(found.is_empty());
        assert!(
            steps <= 128 * nodes,
            "{steps} steps for 127 words and {nodes} nodes"
        );
    }

    #[test]
    fn a_pattern_counts_its_bindings_and_leaves_no_node_behind() {
        let mut bindings = TopicBindings::new(&Seeded::with_seed(1));
        let destination = Destination::Queue(queue(3));
        bindings.add(b"a.#", destination);
        bindings.add(b"a.#.#", destination);
        bindings.remove(b"a.#.#", destination);
        let found = matches(&bindings, b"a", &mut RouteScratch::new()).0;
        assert_eq!(found, BTreeSet::from([3]));
        bindings.remove(b"a.#", destination);
        assert!(bindings.node(ROOT).is_unused());
        assert_eq!(bindings.vacant.len(), 2);
        bindings.remove(b"a.#", destination);
        bindings.add(b"*.*", destination);
        assert_eq!(bindings.nodes.len(), 3, "nodes are used again");
    }

    fn topic(words: &'static [&'static str]) -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(words), 0..7)
            .prop_map(|words| words.join("."))
    }

    proptest! {
        #[test]
        fn the_trie_finds_what_the_naive_matcher_finds(
            steps in proptest::collection::vec(
                (topic(&["a", "b", "*", "#", "#", ""]), 0u32..4, any::<u8>()), 1..60),
            keys in proptest::collection::vec(topic(&["a", "b", "c", "", "*"]), 1..10),
        ) {
            let mut bindings = TopicBindings::new(&Seeded::with_seed(3));
            let mut scratch = RouteScratch::new();
            let mut model = BTreeMap::<(String, u32), u32>::new();
            for (pattern, index, action) in steps {
                let destination = Destination::Queue(queue(index));
                let count = model.entry((pattern.clone(), index)).or_default();
                if action % 3 > 0 {
                    *count += 1;
                    bindings.add(pattern.as_bytes(), destination);
                } else if *count > 0 {
                    *count -= 1;
                    bindings.remove(pattern.as_bytes(), destination);
                }
                model.retain(|_, count| *count > 0);
                for key in &keys {
                    let expected: BTreeSet<u32> = model.keys()
                        .filter(|(pattern, _)| naive(pattern.as_bytes(), key.as_bytes()))
                        .map(|(_, index)| *index)
                        .collect();
                    let (found, steps) = matches(&bindings, key.as_bytes(), &mut scratch);
                    prop_assert_eq!(found, expected);
                    prop_assert!(steps <= (words(key.as_bytes()).count() + 1) * bindings.nodes.len());
                }
            }
            for ((pattern, index), count) in model {
                for _ in 0..count {
                    bindings.remove(pattern.as_bytes(), Destination::Queue(queue(index)));
                }
            }
            prop_assert!(bindings.node(ROOT).is_unused());
            prop_assert_eq!(bindings.vacant.len() + 1, bindings.nodes.len());
        }
    }
}
