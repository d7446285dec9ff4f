//! What one document says is in another: the file is there, and so is the section. Each rule names where it comes from.

use std::collections::{BTreeMap, BTreeSet};

use super::{Report, SourceFile};
use crate::paths;

const RULES: &str = "monitor-core/src/detect/rules/";
/// The document that rules come from; code names it like this or, in what is shown in the same folder, by its name alone.
const DOMAIN: &str = "docs/domain.md#";

pub(super) fn check(files: &[SourceFile], report: &mut Report) {
    let texts: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let sections: BTreeMap<&str, BTreeSet<String>> = files
        .iter()
        .filter(|file| file.path.ends_with(".md"))
        .map(|file| (&*file.path, sections(&file.text)))
        .collect();
    for file in files {
        let text = if file.is_rust() { super::product(&file.text) } else { &file.text };
        for (index, line) in text.lines().enumerate() {
            let named: Vec<String> = if file.path.ends_with(".md") {
                links(line).map(|link| relative(&file.path, link)).collect()
            } else if file.is_rust() {
                sources(line).collect()
            } else {
                continue;
            };
            for link in named {
                if let Some(what) = broken(&link, &texts, &sections) {
                    report.error(&file.path, index + 1, what);
                }
            }
        }
        let is_rule = file.path.starts_with(RULES) && file.text.contains("RuleInfo = RuleInfo {");
        if is_rule && !file.text.contains("(domain.md#") {
            report.error(&file.path, 1, "the rule's `source` links to no section of docs/domain.md");
        }
    }
}

/// What is wrong with a link to a path and perhaps a section, both from the root of the repository.
fn broken(link: &str, texts: &BTreeSet<&str>, sections: &BTreeMap<&str, BTreeSet<String>>) -> Option<String> {
    let (path, section) = link.split_once('#').map_or((link, None), |(path, section)| (path, Some(section)));
    let path = path.trim_end_matches('/');
    let folder = format!("{path}/");
    // A picture is no text, and so not among the files that are read.
    let there =
        texts.contains(path) || texts.iter().any(|p| p.starts_with(&folder)) || paths::root().join(path).is_file();
    if !there {
        return Some(format!("links to `{path}`, which is not there"));
    }
    let section = section?;
    let known = sections.get(path)?.contains(section);
    (!known).then(|| format!("links to `{path}`, which has no section `{section}`"))
}

/// The targets of a Markdown line's links that lie in the repository.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
}

/// The sections of the domain document that a line of code names: in a comment, or as the source of a rule.
fn sources(line: &str) -> impl Iterator<Item = String> {
    line.split("domain.md#").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
        // The bare name, as it is written in this file, names no section.
        rest.get(..end).filter(|section| !section.is_empty()).map(|section| format!("{DOMAIN}{section}"))
    })
}

/// A link as it is written in a file, from the root of the repository.
fn relative(file: &str, link: &str) -> String {
    let (path, section) = link.split_once('#').map_or((link, String::new()), |(p, s)| (p, format!("#{s}")));
    if path.is_empty() {
        return format!("{file}{section}");
    }
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("{}{section}", parts.join("/"))
}

/// The sections of a Markdown document as links name them: in small letters, blanks as hyphens, no other punctuation.
fn sections(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if in_code || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let slug = title.trim().chars().filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        });
        found.insert(slug.collect());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<SourceFile> = files.iter().map(|(path, text)| SourceFile::new(path, text)).collect();
        let mut report = Report::default();
        check(&files, &mut report);
        report.errors
    }

    #[test]
    fn links_lead_somewhere() {
        let other = ("docs/b.md", "# What `x` is: a name");
        let good =
            "[1](b.md#what-x-is-a-name) [2](../README.md) [3](#here) [4](https://a.example/#no) [5](rules)\n## Here";
        assert!(wrong(&[("README.md", ""), ("docs/rules/x", ""), ("docs/a.md", good), other]).is_empty());
        for bad in ["[1](b.md#what-x-is)", "[1](c.md)", "[1](#there)", "```\n# there\n```\n[1](#there)"] {
            assert_eq!(wrong(&[("docs/a.md", bad), other]).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_rule_has_a_source_that_can_be_opened() {
        let domain = ("docs/domain.md", "## Lists of tools");
        let rule = |source: &str| format!("static INFO: RuleInfo = RuleInfo {{\n source: \"{source}\" }};");
        let at = "monitor-core/src/detect/rules/a.rs";
        assert!(wrong(&[domain, (at, &rule("[Lists](domain.md#lists-of-tools); RFC 1"))]).is_empty());
        assert_eq!(wrong(&[domain, (at, &rule("a document"))]).len(), 1);
        assert_eq!(wrong(&[domain, (at, &rule("[Lists](domain.md#lists)"))]).len(), 1);
        assert_eq!(wrong(&[domain, ("a.rs", "// See `docs/domain.md#lists`.")]).len(), 1);
    }
}
