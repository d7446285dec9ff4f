//! What must go together: a rule and its three kinds of tests, a dashboard and real metrics, the code and its map.

use std::collections::BTreeSet;

use super::{Report, SourceFile};

const RULES: &str = "monitor-core/src/detect/rules/";
const METRICS: &str = "docs/metrics.md";
const MAP: &str = "ARCHITECTURE.md";

pub(super) fn check(files: &[SourceFile], report: &mut Report) {
    rules(files, report);
    dashboards(files, report);
    map(files, report);
}

/// Each rule has a positive case, a near miss, and a case with something lost.
fn rules(files: &[SourceFile], report: &mut Report) {
    let stems: BTreeSet<String> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix(RULES))
        .map(|inside| inside.split(['/', '.']).next().unwrap_or_default().to_owned())
        .filter(|stem| stem != "mod")
        .collect();
    if stems.is_empty() {
        report.error(RULES, 1, "no rules: has the folder moved?");
    }
    for stem in stems {
        let text: String = files
            .iter()
            .filter(|f| f.path == format!("{RULES}{stem}.rs") || f.path.starts_with(&format!("{RULES}{stem}/")))
            .map(|f| f.text.as_str())
            .collect();
        for kind in ["positive", "near_miss", "lossy"] {
            let has = text.lines().any(|l| l.trim_start().starts_with("fn ") && l.contains(kind));
            if !has {
                report.error(&format!("{RULES}{stem}.rs"), 1, format_args!("has no test whose name says {kind}"));
            }
        }
    }
}

/// Every metric that a dashboard or an alert names is one that the agent has.
fn dashboards(files: &[SourceFile], report: &mut Report) {
    let known: BTreeSet<String> =
        files.iter().filter(|f| f.path == METRICS).flat_map(|f| metric_names(&f.text)).collect();
    for file in files.iter().filter(|f| f.path.starts_with("dashboards/") && !f.path.ends_with(".rs")) {
        for (index, line) in file.text.lines().enumerate() {
            for name in metric_names(line) {
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                if !known.contains(&name) && !family.is_some_and(|family| known.contains(family)) {
                    report.error(&file.path, index + 1, format_args!("no metric {name} in {METRICS}"));
                }
            }
        }
    }
}

fn metric_names(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("leasewarden_") && word.len() > "leasewarden_".len())
        .map(str::to_owned)
        .collect()
}

/// The map of the code names every folder that a reader meets.
fn map(files: &[SourceFile], report: &mut Report) {
    let Some(map) = files.iter().find(|f| f.path == MAP) else {
        report.error(MAP, 1, "is missing");
        return;
    };
    let folders: BTreeSet<String> = files.iter().filter_map(|f| folder_to_name(&f.path)).collect();
    for folder in folders {
        // A word of its own: `monitor` is not named by `monitor-core`.
        let named =
            map.text.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_' || c == '.')).any(|w| w == folder);
        if !named {
            report.error(MAP, 1, format_args!("does not mention the folder `{folder}`"));
        }
    }
}

/// Folders at the top, and the rooms of the two crates that have rooms.
fn folder_to_name(path: &str) -> Option<String> {
    for rooms in ["monitor-core/src/", "monitor/src/"] {
        if let Some((room, _)) = path.strip_prefix(rooms).and_then(|inside| inside.split_once('/')) {
            return Some(room.to_owned());
        }
    }
    path.split_once('/').map(|(top, _)| top.to_owned()).filter(|top| !top.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_needs_its_three_tests() {
        let whole = "fn positive_x() {}\n    fn near_miss_x() {}\nfn lossy_x() {}";
        let files = [
            SourceFile::new("monitor-core/src/detect/rules/a.rs", whole),
            SourceFile::new("monitor-core/src/detect/rules/b.rs", "fn positive_x() {}"),
        ];
        let mut report = Report::default();
        rules(&files, &mut report);
        assert_eq!(report.errors.len(), 2, "{:?}", report.errors);
    }

    #[test]
    fn dashboards_name_real_metrics_only() {
        let files = [
            SourceFile::new(METRICS, "| `leasewarden_flows` | `leasewarden_detection_delay_seconds` |"),
            SourceFile::new(
                "dashboards/a.json",
                "rate(leasewarden_flows[5m]) leasewarden_detection_delay_seconds_bucket\nleasewarden_flow",
            ),
        ];
        let mut report = Report::default();
        dashboards(&files, &mut report);
        assert_eq!(report.errors, ["dashboards/a.json:2: no metric leasewarden_flow in docs/metrics.md"]);
    }

    #[test]
    fn the_map_names_every_folder() {
        let files = [
            SourceFile::new(MAP, "`monitor-core` has `stream`."),
            SourceFile::new("monitor-core/src/stream/mod.rs", ""),
            SourceFile::new("monitor/src/lib.rs", ""),
            SourceFile::new(".ci/run", ""),
        ];
        let mut report = Report::default();
        map(&files, &mut report);
        assert_eq!(report.errors, ["ARCHITECTURE.md:1: does not mention the folder `monitor`"]);
    }
}
