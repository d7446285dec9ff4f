//! Arrows between the rooms of `monitor-core`, and what may not enter it at all.

use super::{Report, SourceFile, code_of, is_test_file, product, test_modules};

const CORE: &str = "monitor-core/src/";
/// Rooms, and the rooms that each may import besides itself. `engine` composes them and is free.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("stream", &["model"]),
    ("tls", &["model"]),
    ("decode", &["model"]),
    ("attribute", &["model"]),
    ("ledger", &["model"]),
    ("detect", &["model"]),
];
/// No I/O, no clock, no threads, no async in the core; the plain address types of `std::net` are values and welcome.
const FORBIDDEN: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "SystemTime::now",
    "Instant::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "ToSocketAddrs",
    "tokio",
    "aya::",
    "println!",
    "eprintln!",
];
/// The only places with unsafe code.
const UNSAFE_HOMES: &[&str] = &[
    "monitor/src/capture/ebpf/",
    "monitor-common/",
    "monitor-ebpf/",
    "monitor-core/tests/common/flood.rs",
    // The allocator that wipes what is given back.
    "monitor/src/wipe.rs",
    "monitor/tests/sandbox.rs",
];

pub(super) fn check(files: &[SourceFile], report: &mut Report) {
    let lib = files.iter().find(|file| file.path == format!("{CORE}lib.rs"));
    if !lib.is_some_and(|file| file.text.contains("#![forbid(unsafe_code)]")) {
        report.error(&format!("{CORE}lib.rs"), 1, "must say #![forbid(unsafe_code)]");
    }
    // A folder beside a file of its name holds that file's parts, and is no protocol.
    let is_file = |name: &String| files.iter().any(|file| file.path == format!("{CORE}decode/{name}.rs"));
    let mut protocols = folders_in(files, &format!("{CORE}decode/"));
    protocols.retain(|name| !is_file(name));
    let tests = test_modules(files);
    let is_test_module =
        |path: &str| tests.iter().any(|t| path == format!("{t}.rs") || path.starts_with(&format!("{t}/")));
    for file in files.iter().filter(|file| file.is_rust()) {
        no_unsafe(file, report);
        let Some(inside) = file.path.strip_prefix(CORE) else { continue };
        if is_test_file(inside) || is_test_module(&file.path) {
            continue;
        }
        let module = module_path(inside);
        for (number, path) in imports(product(&file.text), &module) {
            check_rooms(file, &module, number, &path, report);
            check_siblings(file, &module, number, &path, &protocols, report);
        }
        for (index, line) in product(&file.text).lines().enumerate() {
            for word in FORBIDDEN.iter().filter(|word| code_of(line).contains(**word)) {
                report.error(&file.path, index + 1, format_args!("{word} has no place in the pure core"));
            }
        }
    }
}

fn no_unsafe(file: &SourceFile, report: &mut Report) {
    if UNSAFE_HOMES.iter().any(|home| file.path.starts_with(home)) || file.path.starts_with("xtask/src/tidy/") {
        return;
    }
    for (index, line) in file.text.lines().enumerate() {
        let code = code_of(line);
        if ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|word| code.contains(word)) {
            let homes = UNSAFE_HOMES.join(", ");
            report.error(&file.path, index + 1, format_args!("unsafe code is only for {homes}"));
        }
    }
}

fn check_rooms(file: &SourceFile, module: &[String], line: usize, path: &[String], report: &mut Report) {
    let (Some(from), Some(to)) = (module.first(), path.first()) else { return };
    let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| room == from) else { return };
    let is_room = ROOMS.iter().any(|(room, _)| room == to) || to == "engine";
    if is_room && to != from && !allowed.contains(&to.as_str()) {
        report.error(&file.path, line, format_args!("room `{from}` must not import room `{to}`"));
    }
}

fn check_siblings(
    file: &SourceFile,
    module: &[String],
    line: usize,
    path: &[String],
    protocols: &[String],
    report: &mut Report,
) {
    let at = |list: &[String], index: usize| list.get(index).cloned().unwrap_or_default();
    let (room, inner) = (at(module, 0), at(module, 1));
    if at(path, 0) != room {
        return;
    }
    if room == "decode" && protocols.contains(&inner) {
        let other = at(path, 1);
        if protocols.contains(&other) && other != inner {
            report.error(&file.path, line, format_args!("protocol `{inner}` must not import its sibling `{other}`"));
        }
    }
    if room == "detect" && inner == "rules" && module.len() > 2 && at(path, 1) == "rules" {
        let (own, other) = (at(module, 2), at(path, 2));
        if other != own {
            report.error(&file.path, line, format_args!("rule `{own}` must not import its sibling `{other}`"));
        }
    }
}

/// `decode/postgres/mod.rs` → `decode postgres`; `decode/infer.rs` → `decode infer`; `lib.rs` → nothing.
fn module_path(inside: &str) -> Vec<String> {
    let stem = inside.strip_suffix(".rs").unwrap_or(inside);
    let mut parts: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// Every path below the crate that the text names, by `crate::` or `super::`, with its line.
fn imports(text: &str, module: &[String]) -> Vec<(usize, Vec<String>)> {
    // Comments out, lines kept, so that an import may span several.
    let code: String = text.lines().map(|line| format!("{}\n", code_of(line))).collect();
    let mut found = Vec::new();
    for (start, base) in starts(&code, module) {
        let line = code.get(..start).unwrap_or_default().matches('\n').count() + 1;
        let rest = code.get(start..).unwrap_or_default();
        for path in expand(rest) {
            found.push((line, base.iter().cloned().chain(path).collect()));
        }
    }
    found
}

/// Where a path begins after `crate::` or a chain of `super::`, and what it is relative to.
fn starts(code: &str, module: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut found: Vec<(usize, Vec<String>)> = code
        .match_indices("crate::")
        .filter(|(at, _)| !is_word_before(code, *at))
        .map(|(at, m)| (at + m.len(), vec![]))
        .collect();
    let mut skip_until = 0;
    for (at, _) in code.match_indices("super::") {
        if at < skip_until || is_word_before(code, at) {
            continue;
        }
        let mut end = at;
        let mut up = 0;
        while code.get(end..).is_some_and(|rest| rest.starts_with("super::")) {
            end += "super::".len();
            up += 1;
        }
        skip_until = end;
        let base = module.get(..module.len().saturating_sub(up)).unwrap_or_default().to_vec();
        found.push((end, base));
    }
    found
}

fn is_word_before(code: &str, at: usize) -> bool {
    code.get(..at).and_then(|before| before.chars().last()).is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
}

/// The paths of `a::b`, `{a::b, c::{d, e}}` at the beginning of `text`.
fn expand(text: &str) -> Vec<Vec<String>> {
    let text = text.trim_start();
    if let Some(inner) = text.strip_prefix('{') {
        return split_group(inner).iter().flat_map(|part| expand(part)).collect();
    }
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if word.is_empty() {
        return Vec::new();
    }
    match text.get(word.len()..).and_then(|rest| rest.strip_prefix("::")) {
        Some(rest) => {
            let below = expand(rest);
            if below.is_empty() {
                return vec![vec![word]];
            }
            below.into_iter().map(|path| [word.clone()].into_iter().chain(path).collect()).collect()
        }
        None => vec![vec![word]],
    }
}

/// The parts of a `{…}` group, given what follows its opening brace.
fn split_group(inner: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut begin) = (0usize, 0usize);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(inner.get(begin..at).unwrap_or_default());
                return parts;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(inner.get(begin..at).unwrap_or_default());
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts
}

fn folders_in(files: &[SourceFile], dir: &str) -> Vec<String> {
    let mut folders: Vec<String> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix(dir)?.split_once('/').map(|(folder, _)| folder.to_owned()))
        .collect();
    folders.sort();
    folders.dedup();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(path: &str, text: &str) -> Vec<String> {
        let files = [
            SourceFile::new("monitor-core/src/lib.rs", "//! x\n#![forbid(unsafe_code)]"),
            SourceFile::new("monitor-core/src/decode/redis/mod.rs", "//! x"),
            SourceFile::new("monitor-core/src/decode/postgres/mod.rs", "//! x"),
            SourceFile::new(path, text),
        ];
        let mut report = Report::default();
        check(&files, &mut report);
        report.errors
    }

    #[test]
    fn a_room_imports_model_and_itself_only() {
        let path = "monitor-core/src/ledger/judge.rs";
        assert!(errors(path, "use crate::model::Verdict;\nuse crate::ledger::Slots;\nuse super::slots;").is_empty());
        assert_eq!(errors(path, "use crate::decode::Sink;").len(), 1);
        assert_eq!(errors(path, "use crate::{\n    model::Verdict,\n    detect::{Rule, Hit},\n};").len(), 2);
        assert_eq!(errors(path, "use super::super::decode::Sink;").len(), 1, "by the back door");
        assert_eq!(errors(path, "fn f() { crate::engine::run() }").len(), 1, "outside a use line");
        assert!(errors(path, "// crate::engine is above").is_empty(), "a comment imports nothing");
        assert!(errors(path, "//! x\n#[cfg(test)]\nmod tests { use crate::engine::Engine; }").is_empty());
    }

    #[test]
    fn a_module_declared_for_tests_is_free() {
        let mut report = Report::default();
        let files = [
            SourceFile::new("monitor-core/src/lib.rs", "//! x\n#![forbid(unsafe_code)]"),
            SourceFile::new("monitor-core/src/stream/mod.rs", "//! x\n#[cfg(test)]\nmod rules;\nmod window;"),
            SourceFile::new("monitor-core/src/stream/rules.rs", "use std::time::Instant;"),
            SourceFile::new("monitor-core/src/stream/window.rs", "use std::time::Instant;"),
        ];
        check(&files, &mut report);
        assert_eq!(report.errors.len(), 1, "{:?}", report.errors);
    }

    #[test]
    fn model_imports_no_room_and_engine_imports_all() {
        assert_eq!(errors("monitor-core/src/model/x.rs", "use crate::ledger::Slot;").len(), 1);
        assert!(errors("monitor-core/src/engine/x.rs", "use crate::ledger::Slot;").is_empty());
    }

    #[test]
    fn siblings_do_not_know_each_other() {
        let protocol = "monitor-core/src/decode/redis/frame.rs";
        assert_eq!(errors(protocol, "use crate::decode::postgres::Frame;").len(), 1);
        assert!(errors(protocol, "use crate::decode::redis::Frame;\nuse crate::decode::Sink;").is_empty());
        let rule = "monitor-core/src/detect/rules/a.rs";
        assert_eq!(errors(rule, "use super::b::INFO;").len(), 1);
        assert_eq!(errors(rule, "use crate::detect::rules::b;").len(), 1);
        assert!(errors(rule, "use crate::detect::Rule;").is_empty());
    }

    #[test]
    fn no_io_in_the_core_and_no_unsafe_outside_its_homes() {
        let path = "monitor-core/src/stream/x.rs";
        assert_eq!(errors(path, "use std::time::Instant;").len(), 1);
        assert!(errors(path, "use std::net::IpAddr;").is_empty());
        assert_eq!(errors("monitor/src/cli/x.rs", "fn f() { unsafe { g() } }").len(), 1);
        assert!(errors("monitor/src/capture/ebpf/x.rs", "fn f() { unsafe { g() } }").is_empty());
    }
}
