//! The invariants of `ARCHITECTURE.md` that a program can test, over the text of the repository. Also a unit test.

mod coverage;
mod imports;
mod links;
mod names;
mod text;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{paths, sh};

/// One file of the repository.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl SourceFile {
    #[cfg(test)]
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// What tidy has to say.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Broken invariants.
    pub(crate) errors: Vec<String>,
    /// Soft limits.
    pub(crate) warnings: Vec<String>,
    /// Files that were read.
    pub(crate) n_files: usize,
}

impl Report {
    fn error(&mut self, path: &str, line: usize, what: impl std::fmt::Display) {
        self.errors.push(format!("{path}:{line}: {what}"));
    }
}

/// Reads the repository and checks every invariant.
///
/// # Errors
/// When the repository cannot be read.
pub(crate) fn check() -> Result<Report> {
    let files = read_repository(&paths::root())?;
    let mut report = Report { n_files: files.len(), ..Report::default() };
    imports::check(&files, &mut report);
    text::check(&files, &text::Private::of_this_machine(), &mut report);
    coverage::check(&files, &mut report);
    links::check(&files, &mut report);
    names::check(&files, &mut report);
    report.errors.sort();
    Ok(report)
}

/// Every text file that git tracks or would track; without git, everything but build output.
fn read_repository(root: &Path) -> Result<Vec<SourceFile>> {
    let listed = sh::capture(&mut sh::cmd("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]));
    let mut paths: Vec<PathBuf> = match listed {
        Ok(text) => text.split('\0').filter(|p| !p.is_empty()).map(|p| root.join(p)).collect(),
        Err(_) => walk(root).with_context(|| format!("cannot list {}", root.display()))?,
    };
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        // A file that is no text (a fixture), or one that was just deleted, has nothing for tidy to read.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        files.push(SourceFile { path: relative, text });
    }
    Ok(files)
}

fn walk(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name == ".git" || name == ".venv" || name == "__pycache__" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            found.extend(walk(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The part of a Rust file before its unit tests: invariants bind the product, its tests may reach further.
fn product(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod ").map_or(text, |(before, _)| before)
}

/// Whether a whole file is tests: they lie in `tests.rs`, `testing.rs` or a folder `tests`.
fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "testing.rs" || part == "benches")
}

/// Files that are modules for tests only, by their declaration: `#[cfg(test)] mod NAME;`. Without their ending.
fn test_modules(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let stem = file.path.trim_end_matches(".rs");
        let dir = stem.strip_suffix("/mod").or_else(|| stem.strip_suffix("/lib")).unwrap_or(stem);
        for rest in file.text.split("#[cfg(test)]\n").skip(1) {
            let line = rest.lines().next().unwrap_or_default().trim();
            let name = line.split("mod ").nth(1).and_then(|name| name.strip_suffix(';'));
            found.extend(name.map(|name| format!("{dir}/{name}")));
        }
    }
    found
}

/// A line of Rust without its comment. Good enough for imports and keywords: a `//` inside a string only hides the rest
/// of that string.
fn code_of(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let report = super::check().unwrap();
        assert!(report.n_files > 20, "tidy did not find the repository");
        assert!(report.errors.is_empty(), "\n{}\n", report.errors.join("\n"));
    }
}
