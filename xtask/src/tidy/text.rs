//! What every file must and must not say: a header, a reasonable size, nothing about the machine it was written on.

use super::{Report, SourceFile};

/// Lines of a file that a reader still takes in; a parser earns more.
const SOFT_CAP: usize = 400;
const SOFT_CAP_PARSER: usize = 800;

/// Texts that belong to one machine and must not be in any file.
pub(super) struct Private(Vec<String>);

impl Private {
    /// This check-out's own path, the home directory, and the hosts of package registries that the environment or the
    /// user's configuration name. Written nowhere: asked of the machine.
    pub(super) fn of_this_machine() -> Self {
        let mut texts = vec![crate::paths::root().display().to_string()];
        if let Some(home) = std::env::var_os("HOME").map(|home| home.to_string_lossy().into_owned())
            && home.len() > 1
        {
            texts.push(format!("{}/", home.trim_end_matches('/')));
        }
        let settings = std::env::vars().filter(|(key, _)| {
            ["PIP_", "UV_", "NPM_", "CARGO_REGISTRIES", "PROXY", "REGISTRY", "INDEX_URL"]
                .iter()
                .any(|part| key.to_uppercase().contains(part))
        });
        texts.extend(settings.flat_map(|(_, value)| hosts(&value)));
        for file in [".cargo/config.toml", ".npmrc", ".config/pip/pip.conf"] {
            let path = std::env::var_os("HOME").map(|home| std::path::Path::new(&home).join(file));
            texts.extend(path.and_then(|p| std::fs::read_to_string(p).ok()).iter().flat_map(|text| hosts(text)));
        }
        texts.extend(std::fs::read_to_string("/etc/pip.conf").iter().flat_map(|text| hosts(text)));
        texts.sort();
        texts.dedup();
        Self(texts)
    }
}

/// Host names in URLs, without those that everybody uses.
fn hosts(text: &str) -> Vec<String> {
    const PUBLIC: &[&str] = &["localhost", "127.0.0.1", "github.com"];
    text.split("://")
        .skip(1)
        .filter_map(|rest| rest.split(['/', '"', '\'', ' ', '\n']).next())
        .filter_map(|authority| authority.rsplit('@').next()?.split(':').next().map(str::to_owned))
        .filter(|host| host.contains('.') && !PUBLIC.iter().any(|known| host.ends_with(known)))
        .collect()
}

pub(super) fn check(files: &[SourceFile], private: &Private, report: &mut Report) {
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            for text in private.0.iter().filter(|text| line.contains(text.as_str())) {
                report.error(&file.path, index + 1, format_args!("`{text}` belongs to one machine"));
            }
        }
        if file.path.ends_with("package-lock.json") && file.text.contains("\"resolved\"") {
            report.error(
                &file.path,
                1,
                "holds resolved addresses: `npm config set omit-lockfile-registry-resolved true`",
            );
        }
        if file.is_rust() {
            header(file, report);
            size(file, report);
        }
    }
}

fn header(file: &SourceFile, report: &mut Report) {
    let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if !first.starts_with("//! ") {
        report.error(&file.path, 1, "begins with no `//!` line that says what it is for");
    }
}

fn size(file: &SourceFile, report: &mut Report) {
    let cap = if file.path.contains("/decode/") || file.path.contains("/pcap/") { SOFT_CAP_PARSER } else { SOFT_CAP };
    let n = file.text.lines().count();
    if n > cap {
        report.warnings.push(format!("{}: {n} lines, more than {cap}: is it one idea?", file.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_texts_headers_and_sizes() {
        let private = Private(vec!["/home/me/src".into()]);
        let long = format!("//! x\n{}", "\n".repeat(500));
        let files = [
            SourceFile::new("a.md", "see /home/me/src/a"),
            SourceFile::new("b.rs", "fn main() {}"),
            SourceFile::new("c.rs", "//! Fine."),
            SourceFile::new("d.rs", &long),
            SourceFile::new("x/decode/e.rs", &long),
        ];
        let mut report = Report::default();
        check(&files, &private, &mut report);
        assert_eq!(report.errors.len(), 2, "{:?}", report.errors);
        assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    }

    #[test]
    fn hosts_are_taken_from_addresses() {
        assert_eq!(
            hosts("index = \"sparse+https://me:pw@mirror.example/x\"\nhttps://github.com/x"),
            ["mirror.example"]
        );
    }
}
