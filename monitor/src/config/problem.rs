//! What is wrong in a configuration, and where.

use std::fmt;
use std::path::Path;

/// A place in a configuration file. Lines and columns count from 1; columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pos {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

/// One thing wrong, or worth a warning, in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Pos,
    /// The key it is about, as a path (`services[0].match.port`); empty for the file as a whole.
    pub path: String,
    /// What is wrong and what was expected.
    pub message: String,
    /// What was probably meant.
    pub help: Option<String>,
}

impl Problem {
    /// `FILE:LINE:COLUMN: path: message (help)`, on one line.
    pub fn render(&self, file: &str) -> String {
        let mut out = format!("{file}:{}:{}: ", self.at.line, self.at.column);
        if !self.path.is_empty() {
            out.push_str(&self.path);
            out.push_str(": ");
        }
        out.push_str(&self.message);
        if let Some(help) = &self.help {
            out.push_str("; ");
            out.push_str(help);
        }
        out
    }
}

/// Why a configuration could not be used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file could not be read.
    Unreadable {
        /// The file as the user named it.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// The file is larger than a configuration may be.
    TooLarge {
        /// The file as the user named it.
        file: String,
        /// Its size in bytes.
        size: u64,
        /// Most bytes accepted.
        limit: u64,
    },
    /// It was read, and is wrong.
    Wrong {
        /// The file as the user named it.
        file: String,
        /// Everything that is wrong, in file order.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    pub(super) fn unreadable(file: &Path, error: std::io::Error) -> Self {
        Self::Unreadable { file: file.display().to_string(), error }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => {
                write!(f, "cannot read configuration {file}: {error}")
            }
            Self::TooLarge { file, size, limit } => {
                write!(f, "configuration {file} has {size} bytes; at most {limit} are accepted")
            }
            Self::Wrong { file, problems } => {
                for (i, p) in problems.iter().enumerate() {
                    if i > 0 {
                        f.write_str("\n")?;
                    }
                    f.write_str(&p.render(file))?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// The candidate nearest to `word`, if one is near enough to be what was meant: at most a third of the letters wrong,
/// or a prefix.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::osa_distance(&lower, c), c))
        .filter(|(d, c)| *d <= c.chars().count().max(3) / 3 || (lower.len() >= 3 && c.starts_with(&lower)))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// `did you mean` with the nearest candidate, if there is one.
pub(super) fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(word, candidates).map(|c| format!("did you mean `{c}`?"))
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_words_are_offered_and_far_ones_are_not() {
        let keys = ["identity", "tenants", "services", "rules"];
        assert_eq!(nearest("tenant", keys), Some("tenants"));
        assert_eq!(nearest("servcies", keys), Some("services"));
        assert_eq!(nearest("Rules", keys), Some("rules"));
        assert_eq!(nearest("webhooks", keys), None);
    }
}
