//! The dashboards, alerts and recording rules of `dashboards/` against what the agent has: every metric, label and label
//! value that an expression names exists, and every panel says what it shows and what it means when it is empty.

mod clusters;
mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use promql::{Known, Output};
use serde_json::Value;

const NAMES: [&str; 4] = ["overview", "shared-service", "tenant", "agent-health"];

/// Where the runbooks are unless somebody has his own.
const RUNBOOKS: &str = "https://github.com/leasewarden/leasewarden/blob/main/docs/runbooks.md";

/// What each rule means; behind it comes the rule's id, which is a heading there.
const RULES: &str = "https://github.com/leasewarden/leasewarden/blob/main/docs/rules.md#";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

fn read(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&read(&format!("{name}.json"))).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What a dashboard asks, as Prometheus would be asked.
fn filled_in(text: &str) -> String {
    let mut text = text.replace("$__rate_interval", "1m").replace("$__range_s", "3600").replace("$__range", "1h");
    for variable in ["cluster", "node", "service", "tenant"] {
        text = text.replace(&format!("${variable}"), ".*");
    }
    text
}

fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "/panels").iter().filter(|p| text(p, "/type") != "row")
}

fn rules(file: &str) -> Vec<Value> {
    let value: Value = serde_saphyr::from_str(&read(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    list(&value, "/groups").iter().flat_map(|group| list(group, "/rules").to_vec()).collect()
}

/// `{{label}}` of a legend.
fn placeholders(legend: &str) -> Vec<&str> {
    legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()).map(str::trim).collect()
}

#[test]
fn every_expression_of_a_panel_names_what_there_is() {
    let known = Known::of_the_agent();
    for name in NAMES {
        let dashboard = dashboard(name);
        for panel in panels(&dashboard) {
            let title = text(panel, "/title");
            let mut columns: BTreeSet<String> = BTreeSet::new();
            let targets = list(panel, "/targets");
            assert!(!targets.is_empty(), "{name}: {title}: asks nothing");
            for (target, letter) in targets.iter().zip('A'..) {
                let output =
                    known.check(&filled_in(text(target, "/expr"))).unwrap_or_else(|e| panic!("{name}: {title}: {e}"));
                for label in placeholders(text(target, "/legendFormat")) {
                    assert!(output.has(label), "{name}: {title}: the legend's {label} is not of the result");
                }
                columns.extend(output.labels.iter().cloned());
                columns.insert(if targets.len() > 1 { format!("Value #{letter}") } else { "Value".to_owned() });
            }
            for step in list(panel, "/transformations") {
                for column in list(step, "/options/include/names") {
                    let column = column.as_str().unwrap();
                    assert!(columns.contains(column), "{name}: {title}: no column {column}");
                }
            }
        }
        for variable in list(&dashboard, "/templating/list").iter().filter(|v| text(v, "/type") == "query") {
            let query = text(variable, "/query/query");
            let inner = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')')).unwrap();
            let (of, label) = inner.rsplit_once(", ").unwrap();
            let output = known.check(&filled_in(of)).unwrap_or_else(|e| panic!("{name}: variable: {e}"));
            assert!(output.has(label), "{name}: {query}: no such label");
        }
    }
}

#[test]
fn every_rule_names_what_there_is() {
    let known = Known::of_the_agent();
    for file in ["rules.yaml", "alerts.yaml"] {
        let rules = rules(file);
        assert!(rules.len() > 5, "{file} has few rules");
        for rule in &rules {
            let name = [text(rule, "/record"), text(rule, "/alert")].concat();
            let output = known.check(text(rule, "/expr")).unwrap_or_else(|e| panic!("{file}: {name}: {e}"));
            let told = rule.pointer("/annotations").and_then(Value::as_object).cloned().unwrap_or_default();
            for words in told.values().filter_map(Value::as_str) {
                for used in words.split("$labels.").skip(1) {
                    let label: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                    assert!(output.has(&label), "{file}: {name}: $labels.{label} is not of the result");
                }
            }
        }
    }
}

#[test]
fn only_wire_and_endpoint_evidence_pages() {
    let mut paging = 0;
    for alert in rules("alerts.yaml").iter().filter(|rule| text(rule, "/labels/severity") == "critical") {
        paging += 1;
        let matched = Known::of_the_agent().check(text(alert, "/expr")).unwrap();
        // The selectors that a value of the result can come from, not those that only take away.
        for (metric, matchers) in &matched.sources {
            assert_eq!(metric, "leasewarden_findings_total", "{alert}");
            assert_eq!(matchers.get("evidence_class").map(String::as_str), Some("wire|endpoint"), "{alert}");
        }
        assert!(!matched.sources.is_empty());
    }
    assert_eq!(paging, 1);
}

#[test]
fn every_alert_has_a_runbook() {
    let page = fs::read_to_string(folder().join("../docs/runbooks.md")).unwrap();
    let headings: BTreeSet<String> = page.lines().filter_map(|l| l.strip_prefix("## ")).map(str::to_owned).collect();
    let alerts: BTreeSet<String> = rules("alerts.yaml").iter().map(|a| text(a, "/alert").to_owned()).collect();
    assert_eq!(headings, alerts, "sections of docs/runbooks.md, and alerts");
    for alert in rules("alerts.yaml") {
        // Absolute, as whoever gets the alert has no repository beside him.
        let anchor = format!("{RUNBOOKS}#{}", text(&alert, "/alert").to_lowercase());
        assert_eq!(text(&alert, "/annotations/runbook_url"), anchor);
        assert_eq!(alert.pointer("/annotations/runbook"), None);
        assert!(
            !text(&alert, "/annotations/summary").is_empty() && !text(&alert, "/annotations/description").is_empty()
        );
        assert!(["critical", "warning", "info"].contains(&text(&alert, "/labels/severity")), "{alert}");
    }
}

#[test]
fn every_panel_says_what_it_shows_and_what_empty_means() {
    for name in NAMES {
        let dashboard = dashboard(name);
        assert_eq!(text(&dashboard, "/uid"), format!("leasewarden-{name}"));
        let variables: Vec<&str> = list(&dashboard, "/templating/list").iter().map(|v| text(v, "/name")).collect();
        assert!(["datasource", "cluster", "node"].iter().all(|v| variables.contains(v)), "{name}: {variables:?}");
        let mut ids = BTreeSet::new();
        let mut titles = BTreeSet::new();
        for panel in list(&dashboard, "/panels") {
            assert!(ids.insert(panel.pointer("/id").unwrap().to_string()), "{name}: an id twice");
        }
        for panel in panels(&dashboard) {
            let title = text(panel, "/title");
            assert!(titles.insert(title), "{name}: {title} twice");
            assert!(text(panel, "/description").len() > 30, "{name}: {title}: no description");
            assert!(text(panel, "/fieldConfig/defaults/noValue").len() > 5, "{name}: {title}: no text for empty");
            assert!(!text(panel, "/fieldConfig/defaults/unit").is_empty(), "{name}: {title}: no unit");
            assert_eq!(text(panel, "/datasource/uid"), "${datasource}", "{name}: {title}");
        }
    }
}

#[test]
fn dashboards_are_what_grafana_declares() {
    let schemas: Value = serde_json::from_str(&read("tests/grafana-schema.json")).unwrap();
    let valid = |schema: &str, value: &Value, what: &str| {
        let schema = schemas.pointer(schema).unwrap_or_else(|| panic!("no schema {schema} for {what}"));
        let validator = jsonschema::validator_for(schema).unwrap();
        let problems: Vec<String> = validator
            .iter_errors(&serde_json::json!({ "it": value }))
            .map(|e| format!("{} at {}", e, e.instance_path()))
            .collect();
        assert!(problems.is_empty(), "{what}: {problems:#?}");
    };
    for name in NAMES {
        let dashboard = dashboard(name);
        valid("/dashboard", &dashboard, name);
        for panel in panels(&dashboard) {
            let (kind, title) = (text(panel, "/type"), text(panel, "/title"));
            valid(&format!("/{kind}/options"), panel.pointer("/options").unwrap(), &format!("{name}: {title}"));
            let custom = panel.pointer("/fieldConfig/defaults/custom").unwrap();
            if schemas.pointer(&format!("/{kind}/custom")).is_some() {
                valid(&format!("/{kind}/custom"), custom, &format!("{name}: {title}"));
            } else {
                assert_eq!(custom, &serde_json::json!({}), "{name}: {title}");
            }
        }
    }
}

/// Of whoever is on call: whose it was, since when and until when, and what to do.
#[test]
fn tables_of_findings_tell_victim_times_and_what_to_do() {
    let page = fs::read_to_string(folder().join("../docs/rules.md")).unwrap();
    for rule in monitor_core::detect::RULES {
        assert!(page.contains(&format!("\n## `{}`\n", rule.id)), "{} has no heading to lead to", rule.id);
    }
    let mut tables = 0;
    for name in NAMES {
        let dashboard = dashboard(name);
        for panel in
            panels(&dashboard).filter(|p| text(p, "/type") == "table" && text(p, "/title").starts_with("Findings"))
        {
            let title = text(panel, "/title");
            let names = panel.pointer("/transformations").unwrap().to_string();
            // A column may be left out where the whole table is of one value.
            let fixed = list(panel, "/targets").iter().all(|t| text(t, "/expr").contains("bound=\"$tenant\""));
            assert!(names.contains("\"Victim\"") || fixed, "{name}: {title}: no victim");
            let overrides = panel.pointer("/fieldConfig/overrides").unwrap().to_string();
            for column in ["Severity", "Rule", "Findings", "Hits", "First seen", "Last seen"] {
                assert!(names.contains(&format!("\"{column}\"")), "{name}: {title}: no {column}");
            }
            assert_eq!(overrides.matches("dateTimeAsLocal").count(), 2, "{name}: {title}: times are no figures");
            assert!(overrides.contains(RULES), "{name}: {title}: a rule leads nowhere");
            let links: Vec<&str> = list(panel, "/links").iter().map(|l| text(l, "/title")).collect();
            assert!(links.contains(&"Log of the agents") && links.iter().any(|l| l.starts_with("Runbook")), "{title}");
            // What is too long goes on in the next line.
            assert_eq!(panel.pointer("/fieldConfig/defaults/custom/wrapText"), Some(&Value::Bool(true)), "{title}");
            tables += 1;
        }
    }
    assert_eq!(tables, 4);
}

/// Six findings that hit ten thousand times are six.
#[test]
fn what_counts_findings_counts_no_hits() {
    let known = Known::of_the_agent();
    for name in ["overview", "shared-service", "tenant"] {
        let dashboard = dashboard(name);
        let wanted = |p: &&Value| {
            matches!(
                text(p, "/title"),
                "Findings to act on" | "As the victim" | "Findings by tenant" | "Findings by victim"
            )
        };
        for panel in panels(&dashboard).filter(wanted) {
            let expr = filled_in(text(panel, "/targets/0/expr"));
            let metrics = known.check(&expr).unwrap().metrics;
            assert!(
                metrics.contains("leasewarden_findings_kept") && !metrics.contains("leasewarden_findings_total"),
                "{expr}"
            );
        }
    }
}

#[test]
fn panels_stand_beside_each_other() {
    for name in NAMES {
        let dashboard = dashboard(name);
        let mut taken: BTreeMap<(u64, u64), &str> = BTreeMap::new();
        for panel in list(&dashboard, "/panels") {
            let at = |key: &str| panel.pointer(&format!("/gridPos/{key}")).and_then(Value::as_u64).unwrap();
            let (x, y, w, h) = (at("x"), at("y"), at("w"), at("h"));
            assert!(x + w <= 24 && h > 0, "{name}: {}", text(panel, "/title"));
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                if let Some(other) = taken.insert(cell, text(panel, "/title")) {
                    panic!("{name}: {} lies on {other}", text(panel, "/title"));
                }
            }
        }
    }
}

#[test]
fn links_lead_to_a_dashboard_with_that_variable() {
    let mut led = 0;
    for name in NAMES {
        let dashboard = dashboard(name);
        for property in
            panels(&dashboard).flat_map(|p| list(p, "/fieldConfig/overrides")).flat_map(|o| list(o, "/properties"))
        {
            for link in list(property, "/value").iter().filter(|_| text(property, "/id") == "links") {
                let url = text(link, "/url");
                if let Some(page) = url.strip_prefix(RULES) {
                    assert_eq!(page, "${__value.text:percentencode}", "{name}: {url}");
                    continue;
                }
                let (uid, rest) = url.strip_prefix("/d/leasewarden-").and_then(|u| u.split_once('?')).unwrap();
                let variable = rest.split("var-").nth(1).and_then(|v| v.split('=').next()).unwrap();
                let there = self::dashboard(uid);
                assert!(
                    list(&there, "/templating/list").iter().any(|v| text(v, "/name") == variable),
                    "{name}: {url}: no such variable"
                );
                led += 1;
            }
        }
    }
    assert!(led >= 5, "{led} links");
}

/// A metric that no panel and no alert shows is not seen by anyone.
#[test]
fn every_metric_is_shown_somewhere() {
    let known = Known::of_the_agent();
    let mut shown = BTreeSet::new();
    for name in NAMES {
        for target in panels(&dashboard(name)).flat_map(|p| list(p, "/targets")) {
            shown.extend(known.check(&filled_in(text(target, "/expr"))).unwrap().metrics);
        }
    }
    let missing: Vec<&str> = monitor::metrics::ALL.iter().map(|m| m.name).filter(|m| !shown.contains(*m)).collect();
    assert_eq!(
        missing,
        [
            "leasewarden_capture_segments_total",
            "leasewarden_identity_objects",
            "leasewarden_identity_overflow_total",
            "leasewarden_bpf_runs_total"
        ]
    );
}

#[test]
fn the_check_itself_finds_mistakes() {
    let known = Known::of_the_agent();
    for (wrong, why) in [
        ("sum(leasewarden_flow)", "metric"),
        ("sum by (tenants) (leasewarden_findings_total)", "label"),
        ("leasewarden_findings_total{verdict=\"unbound\"}", "label"),
        ("leasewarden_findings_total{severity=~\"high|fatal\"}", "value"),
        ("leasewarden_flows and on (service) leasewarden_table_limit", "label"),
        ("sum(rate(leasewarden_flows[5m])", "parse"),
    ] {
        let Err(said) = known.check(wrong) else { panic!("{wrong} passed") };
        assert!(said.contains(why), "{wrong}: {said}");
    }
    let Output { labels, .. } = known.check("sum by (tenant) (leasewarden_findings_total)").unwrap();
    assert_eq!(labels, BTreeSet::from(["tenant".to_owned()]));
}
