//! Two clusters in one Prometheus, alike to the last address: every expression of a panel is run by `promtool` on series of
//! every metric of both. A join that does not tell them apart fails there ("many-to-many"), where one cluster hides it.

use std::collections::BTreeSet;
use std::process::Command;

use monitor::metrics::{self, Kind};
use serde_json::{Value, json};

use super::{NAMES, dashboard, filled_in, list, panels, text};

/// Values of labels that expressions name; all others have one of their own.
fn values(label: &str) -> &'static [&'static str] {
    match label {
        "severity" => &["critical", "medium"],
        "evidence_class" => &["wire", "inferred"],
        "verdict" => &["unbound", "revalidated"],
        "class" => &["decoded", "lost"],
        "le" => &["0.01", "+Inf"],
        "tenant" | "bound" => &["acme", "globex"],
        _ => &["x"],
    }
}

/// Label sets of a metric: every combination of the values.
fn combinations(labels: &[&str]) -> Vec<String> {
    labels.iter().fold(vec![String::new()], |sets, label| {
        sets.iter()
            .flat_map(|set| values(label).iter().map(move |value| format!("{set}, {label}=\"{value}\"")))
            .collect()
    })
}

fn series() -> Vec<Value> {
    let mut names: Vec<(String, Vec<&str>)> = vec![
        ("up".to_owned(), vec![]),
        ("process_cpu_seconds_total".to_owned(), vec![]),
        ("process_resident_memory_bytes".to_owned(), vec![]),
        ("process_start_time_seconds".to_owned(), vec![]),
        ("process_open_fds".to_owned(), vec![]),
    ];
    for metric in metrics::ALL {
        if metric.kind == Kind::Histogram {
            let labels: Vec<&str> = metric.labels.iter().copied().chain(["le"]).collect();
            names.push((format!("{}_bucket", metric.name), labels));
        } else {
            names.push((metric.name.to_owned(), metric.labels.to_vec()));
        }
    }
    let mut out = Vec::new();
    for (name, labels) in names {
        for (cluster, node) in [("east", "n1"), ("east", "n2"), ("west", "n1"), ("west", "n2")] {
            // Nodes of both have the same names, and their agents the same addresses.
            let place =
                format!("cluster=\"{cluster}\", node=\"{node}\", job=\"leasewarden\", instance=\"10.0.0.{node}:9464\"");
            for set in combinations(&labels) {
                out.push(json!({ "series": format!("{name}{{{place}{set}}}"), "values": "1+1x70" }));
            }
        }
    }
    out
}

#[test]
fn no_expression_confuses_two_clusters() {
    let Ok(promtool) = Command::new("promtool").arg("--version").output() else {
        // As everywhere in `cargo test`: a plain machine needs nothing but Rust. `cargo xtask test` has it.
        eprintln!("!! NOT TESTED: no promtool");
        return;
    };
    assert!(promtool.status.success());
    let mut expressions: BTreeSet<String> = BTreeSet::new();
    for name in NAMES {
        for target in panels(&dashboard(name)).flat_map(|p| list(p, "/targets").to_vec()) {
            let mut expr = text(&target, "/expr").to_owned();
            // One value where a dashboard is about one.
            for (variable, value) in [("$tenant", "acme"), ("$service", "x")] {
                expr = expr.replace(&format!("=\"{variable}\""), &format!("=\"{value}\""));
            }
            expressions.insert(filled_in(&expr));
        }
    }
    assert!(expressions.len() > 40, "{} expressions", expressions.len());
    // What it would say of joins that confuse them, first.
    let wrong = "process_cpu_seconds_total * on (job, instance) group_left (node) leasewarden_build_info".to_owned();
    let tests: Vec<Value> = expressions
        .iter()
        .chain([&wrong])
        .map(|expr| json!({ "expr": expr, "eval_time": "65m", "exp_samples": [] }))
        .collect();
    let file = json!({ "evaluation_interval": "1m", "tests": [{
        "interval": "1m", "input_series": series(), "promql_expr_test": tests,
    }] });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clusters.yaml");
    std::fs::write(&path, file.to_string()).unwrap();
    let out = Command::new("promtool").args(["test", "rules"]).arg(&path).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("err:")).collect();
    assert!(errors.iter().any(|line| line.contains("many")), "the planted mistake was not found: {said:.2000}");
    let others: Vec<&&str> =
        errors.iter().filter(|line| !line.contains("process_cpu_seconds_total * on (job, instance)")).collect();
    assert!(others.is_empty(), "{others:#?}");
    // Where something is counted for each agent, each has its own.
    for expr in &expressions {
        assert!(said.contains(&format!("{expr:?}")) || !expr.contains("process_"), "no result of {expr}");
    }
}
