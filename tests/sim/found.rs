//! Seeds that are always played.

use crate::plan::Extras;

/// The seed, what it had when it found something, and what that was. The first three have no meaning.
pub(crate) const FOUND: [(u64, Extras, &str); 26] = [
    (1, Extras::PLAIN, ""),
    (2, Extras::PLAIN, ""),
    (3, Extras::PLAIN, ""),
    (
        154_978_208,
        Extras::NONE,
        "a segment whose header a torn write had left in one sector, and a flipped bit took, was not missed",
    ),
    (
        289_140_585,
        Extras::NONE,
        "flipped bits in both batches that end a log passed for a torn tail",
    ),
    (16_528_022, Extras::NONE, "the same"),
    (
        502_186_205,
        Extras::NONE,
        "so did those in the last batch on a full disk, since the log was not closed there",
    ),
    (
        926_132_083,
        Extras::NONE,
        "a basic.get for messages that the log had lost was never answered",
    ),
    (524_170_932, Extras::NONE, "the same"),
    (
        428_774_007,
        Extras::NONE,
        "the oracle took what a client reads after it has asked to recover for what it holds",
    ),
    (
        1135,
        Extras::RULES,
        "a dead letter was lost when it was written again, to another segment, while it was read",
    ),
    (
        2695,
        Extras::RULES,
        "in its place another message went, not persistent, which had stood at its position before the last start",
    ),
    (
        205_197,
        Extras::RULES,
        "a message was called lost when a more urgent one had been asked for and had fallen before it was read",
    ),
    (
        346_093_630,
        Extras::RESTLESS,
        "the oracle gave a letter that came again after a crash the time of the first",
    ),
    (
        416_406_665,
        Extras::RESTLESS,
        "the oracle didn't know that damaged definitions bring a queue back which another had followed",
    ),
    (
        19_468_314,
        Extras::RESTLESS,
        "nor that of two letters alike, the first settled, a flipped bit brings both back",
    ),
    (
        7053,
        Extras::DELAYED,
        "a delayed message that was late went before others that had left their queue early, and were due earlier",
    ),
    (
        20_387,
        Extras::DELAYED,
        "the oracle asked for order where flipped bits had brought back what had been delayed and had come",
    ),
    (
        459_547_284,
        Extras::ACCEPTING,
        "and where that had left its queue meanwhile",
    ),
    (
        513_058_315,
        Extras::ACCEPTING,
        "a delayed message that was due during a clean stop went, and was in its queue again after it",
    ),
    (
        78_117_079,
        Extras::FORGETTING,
        "letters that a queue of the same core had refused, and passed on, waited for themselves",
    ),
    (
        328_543_513,
        Extras::FORGETTING,
        "the oracle took what was settled of a message that was published again for the one that came first",
    ),
    (
        742_133_298,
        Extras::FORGETTING,
        "messages that had been fetched stayed in memory when others came before them",
    ),
    (830_000_507, Extras::FORGETTING, "and when they came back"),
    (
        1_001_416,
        Extras::CALM,
        "the files of a deleted queue stayed where nothing else was written",
    ),
    (
        1_003_833,
        Extras::CALM,
        "what the number of letters on their way took stayed when they were gone",
    ),
];
