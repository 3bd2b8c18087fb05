//! Style as a test: which room may use which, what pure rooms may not know, and the habits that a
//! machine can check. A violation is named by file and line.
//!
//! The scan is plain text, but not naive: comments and the contents of string literals are blanked
//! first, so a rule sees code only.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `src/`, bottom up, each with the rooms that it may use.
const ROOMS: [(&str, &[&str]); 13] = [
    ("base", &[]),
    ("amqp", &["base"]),
    ("log", &["base"]),
    ("model", &["base", "amqp"]),
    ("mail", &["base", "amqp", "model"]),
    ("shard", &["base", "amqp", "model", "mail", "log"]),
    ("session", &["base", "amqp", "model", "mail"]),
    (
        "broker",
        &["base", "amqp", "log", "model", "mail", "shard", "session"],
    ),
    ("config", &["base"]),
    ("management", &["base", "amqp", "model", "mail", "config"]),
    (
        "runtime",
        &[
            "base",
            "amqp",
            "log",
            "model",
            "mail",
            "shard",
            "session",
            "broker",
            "config",
            "management",
        ],
    ),
    ("lib", &[]),
    ("main", &["config", "runtime"]),
];

/// Rooms that know no clock, socket, file, thread or randomness.
const PURE: [&str; 8] = [
    "base", "amqp", "log", "model", "mail", "shard", "session", "broker",
];

/// What a pure room may not name.
const IMPURE: [&str; 22] = [
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "std::os",
    "std::sync::Mutex",
    "std::sync::mpsc",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime",
    "RandomState",
    "glommio",
    "tokio",
    "rand",
    "static mut",
    "thread_local!",
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
];

/// The rooms in which the word `async` may stand.
const ASYNC: [&str; 2] = ["runtime", "management"];
/// The room in which `unsafe` may stand.
const UNSAFE: &str = "runtime";
/// Columns of a line, string literals apart: rustfmt doesn't break them.
const COLUMNS_MAX: usize = 120;
/// Lines of a file without its test module, and with it.
const LINES_MAX: usize = 600;
const LINES_MAX_WITH_TESTS: usize = 800;

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut violations = vec![];
    let mut modules = BTreeSet::new();
    for path in rust_files(root) {
        let text = fs::read_to_string(&path).expect("a source file is readable");
        let name = path
            .strip_prefix(root)
            .expect("it was found there")
            .display()
            .to_string();
        check(&name, &text, &mut violations);
        declared_modules(&name, &text, &mut modules);
    }
    for path in rust_files(&root.join("src")) {
        let name = path
            .strip_prefix(root)
            .expect("it was found there")
            .display()
            .to_string();
        if !["src/lib.rs", "src/main.rs"].contains(&name.as_str()) && !modules.contains(&name) {
            violations.push(Violation {
                file: name,
                line: 1,
                what: "no module declares this file".to_owned(),
            });
        }
    }
    let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(
        list.is_empty(),
        "{} violations\n{}",
        list.len(),
        list.join("\n")
    );
}

/// Every `.rs` file below `directory` that is ours.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let entries = fs::read_dir(directory).expect("a directory of the repository is readable");
    for entry in entries {
        let path = entry.expect("its entries too").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(rust_files(&path));
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

struct Violation {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Applies every rule to one file; `name` is its path from the repository's root.
fn check(name: &str, text: &str, violations: &mut Vec<Violation>) {
    let code = code_of(text);
    let mut report = |at: usize, what: String| {
        let line = code[..at].matches('\n').count() + 1;
        violations.push(Violation {
            file: name.to_owned(),
            line,
            what,
        });
    };
    if !text.starts_with("//!") {
        report(
            0,
            "a file opens with a //! paragraph that says what it is for".to_owned(),
        );
    }
    check_lengths(name, text, &code, &mut report);
    // This file names what it looks for.
    if name == "tests/tidy.rs" {
        return;
    }
    for banned in ["dbg!", "todo!", "unimplemented!"] {
        for at in words(&code, banned) {
            report(at, format!("{banned} is for work in progress"));
        }
    }
    for (at, marker) in ["FIXME", "XXX"]
        .iter()
        .flat_map(|marker| words(text, marker).map(move |at| (at, marker)))
    {
        report(
            code.floor_char_boundary(at),
            format!("{marker}: do it, or open an issue"),
        );
    }
    if name.starts_with("tests/") || is_test_module(name) {
        for at in words(&code, "sleep").filter(|at| code[at + 5..].starts_with('(')) {
            report(
                at,
                "tests wait for events or move simulated time; no sleep".to_owned(),
            );
        }
    }
    if let Some(room) = room_of(name) {
        check_room(name, room, &code, &mut report);
    }
}

fn check_lengths(name: &str, text: &str, code: &str, report: &mut impl FnMut(usize, String)) {
    let mut at = 0;
    for line in text.split('\n') {
        let in_literal = |(offset, _): &(usize, char)| code[at + offset..].starts_with(BLANK);
        let columns = line
            .char_indices()
            .filter(|place| !in_literal(place))
            .count();
        if columns > COLUMNS_MAX {
            report(
                at,
                format!("{columns} columns, without strings; at most {COLUMNS_MAX}"),
            );
        }
        at += line.len() + 1;
    }
    let lines = text.lines().count();
    let tests = match text
        .lines()
        .position(|line| line.starts_with("mod tests {"))
    {
        Some(position) => position,
        None if name.starts_with("tests/") || is_tests_file(name) => 0,
        None => lines,
    };
    if tests > LINES_MAX || lines > LINES_MAX_WITH_TESTS {
        let allowed =
            format!("at most {LINES_MAX} before its tests and {LINES_MAX_WITH_TESTS} with them");
        report(
            0,
            format!("{tests} lines before its tests, {lines} with them; {allowed}"),
        );
    }
}

fn check_room(name: &str, room: &str, code: &str, report: &mut impl FnMut(usize, String)) {
    let Some((_, allowed)) = ROOMS.iter().find(|(known, _)| *known == room) else {
        report(0, format!("room '{room}' is not in the table of rooms"));
        return;
    };
    if room != "lib" {
        for root in ["crate::", "leveret::"] {
            for (at, other) in used_rooms(code, root) {
                if other != room && !allowed.contains(&other.as_str()) && is_room(&other) {
                    report(at, format!("{room} may not use {other}"));
                }
            }
        }
        for at in climbs_out(name, code) {
            report(
                at,
                "super leaves the room: write crate:: and the room's name".to_owned(),
            );
        }
    }
    if PURE.contains(&room) {
        for word in IMPURE {
            for at in words(code, word) {
                report(at, format!("{room} is pure and may not know {word}"));
            }
        }
        for at in words(code, "std::io").filter(|at| !code[at + 7..].starts_with("::IoSlice")) {
            report(
                at,
                format!("{room} is pure and may know IoSlice of std::io only"),
            );
        }
    }
    if !ASYNC.contains(&room) {
        for at in words(code, "async").chain(words(code, "await")) {
            report(at, format!("async stands in {} only", ASYNC.join(" and ")));
        }
    }
    if room != UNSAFE {
        for at in words(code, "unsafe") {
            report(at, format!("unsafe stands in {UNSAFE} only"));
        }
    }
}

fn is_room(name: &str) -> bool {
    ROOMS.iter().any(|(room, _)| *room == name)
}

/// The room that a file of `src/` belongs to.
fn room_of(name: &str) -> Option<&str> {
    let inside = name.strip_prefix("src/")?;
    inside.split('/').next()?.split('.').next()
}

/// A file of its own that holds a room's tests.
fn is_tests_file(name: &str) -> bool {
    name.starts_with("src/") && name.ends_with("/tests.rs")
}

/// Such a file, or one beside it for some of them.
fn is_test_module(name: &str) -> bool {
    is_tests_file(name) || name.starts_with("src/") && name.contains("/tests/")
}

/// Stands for a byte of a literal; one of a comment becomes a space.
const BLANK: char = '\u{1}';

/// The text without its comments and the contents of its literals, each byte in its place.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let (kept, skipped) = token(rest, text[..at].chars().next_back());
        code.push_str(&rest[..kept]);
        let blank = if kept == 0 { ' ' } else { BLANK };
        for byte in rest[kept..kept + skipped].bytes() {
            code.push(if byte == b'\n' { '\n' } else { blank });
        }
        at += kept + skipped;
    }
    code
}

/// How many bytes at the start of `rest` are code, and how many behind them are not.
fn token(rest: &str, before: Option<char>) -> (usize, usize) {
    let first = rest.chars().next().map_or(1, char::len_utf8);
    if rest.starts_with("//") {
        return (0, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (0, block_comment(rest));
    }
    let word_before = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = rest
        .strip_prefix("br")
        .or_else(|| rest.strip_prefix('r'))
        .filter(|_| !word_before);
    if let Some(raw) = raw {
        let hashes = raw.bytes().take_while(|byte| *byte == b'#').count();
        if raw[hashes..].starts_with('"') {
            let opening = rest.len() - raw.len() + hashes + 1;
            let closing = format!("\"{}", "#".repeat(hashes));
            let end = rest[opening..].find(&closing);
            return (
                opening,
                end.map_or(rest.len() - opening, |end| end + closing.len()),
            );
        }
    }
    if let Some(literal) = rest.strip_prefix('"') {
        return (1, quoted(literal, b'"'));
    }
    if let Some(literal) = rest.strip_prefix('\'') {
        let second = literal.chars().next().map_or(0, char::len_utf8);
        // A lifetime has no closing quote.
        if literal.starts_with('\\') || literal[second..].starts_with('\'') {
            return (1, quoted(literal, b'\''));
        }
    }
    (first, 0)
}

/// Bytes up to and with the closing quote.
fn quoted(rest: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if byte == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Bytes of a block comment, which may hold others.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" if depth == 1 => return at + 2,
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Where `word` stands with no letter beside it.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let ends_in_word = word.ends_with(part_of_word);
            let before = code[..*at].chars().next_back().is_some_and(part_of_word);
            let behind = ends_in_word
                && code[at + word.len()..]
                    .chars()
                    .next()
                    .is_some_and(part_of_word);
            !before && !behind
        })
}

/// The first names behind `root`, also those of a group: `crate::{base::Time, mail}`.
fn used_rooms(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut used = vec![];
    for at in words(code, root) {
        let start = at + root.len();
        let Some(group) = code[start..].strip_prefix('{') else {
            used.push((start, identifier(&code[start..])));
            continue;
        };
        let mut depth = 1;
        let mut expects_name = true;
        for (offset, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => break,
                '}' => depth -= 1,
                ',' if depth == 1 => expects_name = true,
                c if expects_name && c.is_alphabetic() => {
                    used.push((start + 1 + offset, identifier(&group[offset..])));
                    expects_name = false;
                }
                _ => {}
            }
        }
    }
    used
}

fn identifier(code: &str) -> String {
    code.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Where a chain of `super::` reaches the root of the crate.
fn climbs_out(name: &str, code: &str) -> Vec<usize> {
    let inside = name
        .strip_prefix("src/")
        .unwrap_or(name)
        .trim_end_matches(".rs")
        .trim_end_matches("/mod");
    let depth = inside.split('/').count();
    let mut found = vec![];
    let mut braces = vec![];
    for (at, c) in code.char_indices() {
        match c {
            '{' => braces.push(opens_module(&code[..at])),
            '}' => drop(braces.pop()),
            's' if code[at..].starts_with("super::") && !code[..at].ends_with("super::") => {
                let nested = braces.iter().filter(|module| **module).count();
                let supers = code[at..]
                    .split("::")
                    .take_while(|part| *part == "super")
                    .count();
                if supers >= depth + nested {
                    found.push(at);
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether the code before a brace is `mod name`.
fn opens_module(before: &str) -> bool {
    let mut words = before.split_whitespace().rev();
    words.next().is_some_and(|word| identifier(word) == word) && words.next() == Some("mod")
}

/// Adds the files that a file's `mod name;` stand for.
fn declared_modules(name: &str, text: &str, modules: &mut BTreeSet<String>) {
    let is_root = name.ends_with("/mod.rs") || name == "src/lib.rs" || name == "src/main.rs";
    let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
    let directory = if is_root {
        parent
    } else {
        name.trim_end_matches(".rs")
    };
    for line in code_of(text).lines() {
        let line = line
            .trim()
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub ");
        if let Some(module) = line
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(';'))
        {
            modules.insert(format!("{directory}/{module}.rs"));
            modules.insert(format!("{directory}/{module}/mod.rs"));
        }
    }
}

/// What the checker says about a file with these lines behind its opening paragraph.
fn verdict(name: &str, lines: &str) -> Vec<String> {
    let mut violations = vec![];
    check(
        name,
        &format!("//! A planted file.\n{lines}\n"),
        &mut violations,
    );
    violations.iter().map(Violation::to_string).collect()
}

#[test]
fn planted_violations_are_caught_by_file_and_line() {
    for (name, lines, expected) in [
        (
            "src/base/x.rs",
            "use crate::mail::Mail;",
            "src/base/x.rs:2: base may not use mail",
        ),
        (
            "src/amqp/x.rs",
            "use crate::{base::Time,\n    shard::Shard};",
            "src/amqp/x.rs:3: amqp may not use shard",
        ),
        (
            "src/session/x.rs",
            "fn f(x: &crate::shard::Shard) {}",
            "src/session/x.rs:2: session may not use shard",
        ),
        (
            "src/cellar/x.rs",
            "",
            "src/cellar/x.rs:1: room 'cellar' is not in the table of rooms",
        ),
        (
            "src/mail/x.rs",
            "use super::super::shard::Shard;",
            "src/mail/x.rs:2: super leaves the room: write crate:: and the room's name",
        ),
        (
            "src/shard/x.rs",
            "use std::fs::File;",
            "src/shard/x.rs:2: shard is pure and may not know std::fs",
        ),
        (
            "src/model/x.rs",
            "let x = rand::random();",
            "src/model/x.rs:2: model is pure and may not know rand",
        ),
        (
            "src/broker/x.rs",
            "\nuse std::io::Read;",
            "src/broker/x.rs:3: broker is pure and may know IoSlice of std::io only",
        ),
        (
            "src/config/x.rs",
            "async fn f() {}",
            "src/config/x.rs:2: async stands in runtime and management only",
        ),
        (
            "src/config/x.rs",
            "unsafe { f() }",
            "src/config/x.rs:2: unsafe stands in runtime only",
        ),
        (
            "src/runtime/x.rs",
            "fn f() { todo!() }",
            "src/runtime/x.rs:2: todo! is for work in progress",
        ),
        (
            "src/runtime/x.rs",
            "// FIXME later",
            "src/runtime/x.rs:2: FIXME: do it, or open an issue",
        ),
        (
            "tests/x.rs",
            "thread::sleep(SECOND);",
            "tests/x.rs:2: tests wait for events or move simulated time; no sleep",
        ),
        (
            "src/base/tests/x.rs",
            "thread::sleep(SECOND);",
            "src/base/tests/x.rs:2: tests wait for events or move simulated time; no sleep",
        ),
    ] {
        assert_eq!(verdict(name, lines), [expected], "{name}: {lines}");
    }
    let long = format!("let x = {};", "y".repeat(120));
    assert_eq!(
        verdict("src/base/x.rs", &long),
        ["src/base/x.rs:2: 129 columns, without strings; at most 120"]
    );
    let many = "\n".repeat(LINES_MAX);
    for name in ["src/base/x.rs", "src/base/tests/x.rs"] {
        assert_eq!(verdict(name, &many).len(), 1, "{name}");
    }
    let mut violations = vec![];
    check("src/base/x.rs", "fn f() {}\n", &mut violations);
    assert_eq!(violations.len(), 1);
}

#[test]
fn what_only_looks_like_a_violation_is_let_pass() {
    for (name, lines) in [
        (
            "src/session/x.rs",
            "// the shard: crate::shard, std::fs, unsafe, async",
        ),
        ("src/session/x.rs", "/* crate::shard /* nested */ unsafe */"),
        (
            "src/session/x.rs",
            "const X: &str = \"crate::shard \\\" unsafe\";",
        ),
        (
            "src/session/x.rs",
            "const X: &str = r#\"crate::shard \" unsafe\"#;",
        ),
        (
            "src/session/x.rs",
            "const X: (char, char) = ('\"', '\\''); // unsafe",
        ),
        (
            "src/session/x.rs",
            "fn f<'a>(x: &'a str) -> &'a str { x } // unsafe",
        ),
        ("src/session/x.rs", "use std::io::IoSlice;"),
        ("src/session/x.rs", "let operand = unsafely + asynchronous;"),
        (
            "src/session/x.rs",
            "mod tests {\n    use super::super::Session;\n}",
        ),
        ("src/session/x.rs", "use super::Session;"),
        (
            "src/base/x.rs",
            &format!("let x = \"{}\";", "y".repeat(200)),
        ),
        ("src/runtime/x.rs", "async fn f() { unsafe { g().await } }"),
        ("src/main.rs", "use leveret::{config, runtime::serve};"),
    ] {
        assert_eq!(verdict(name, lines), [""; 0], "{name}: {lines}");
    }
}

#[test]
fn a_file_that_no_module_declares_is_missed() {
    let mut modules = BTreeSet::new();
    declared_modules("src/lib.rs", "pub mod base;\n// mod ghost;\n", &mut modules);
    declared_modules("src/base/mod.rs", "mod id;\n", &mut modules);
    declared_modules("src/base/id.rs", "pub(crate) mod part;\n", &mut modules);
    for known in ["src/base/mod.rs", "src/base/id.rs", "src/base/id/part.rs"] {
        assert!(modules.contains(known), "{known}");
    }
    assert!(!modules.contains("src/ghost.rs"));
}
