//! What the program is made of, as a CycloneDX bill of materials (specification 1.5, JSON): every crate that is linked into
//! it or into the probes inside it, with version, licence, checksum and what it depends on, as cargo itself resolves it.
//!
//! The same lock file gives the same bytes: the serial number is a digest, the time is that of the source.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{paths, sh};

/// Packages of the workspace whose dependencies are in the program: the agent, and the probes that it carries.
const ROOTS: [&str; 2] = ["monitor", "monitor-ebpf"];

/// The bill of materials for a target such as `x86_64-unknown-linux-gnu`. `created`: RFC 3339.
///
/// # Errors
/// When cargo or the lock file cannot be read.
pub(crate) fn cyclonedx(target: &str, created: &str) -> Result<String> {
    let text =
        sh::capture(sh::cargo().args(["metadata", "--format-version", "1", "--locked", "--filter-platform", target]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata printed no JSON")?;
    let lock = std::fs::read_to_string(paths::root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let bom = bill(&metadata, &checksums(&lock), env!("CARGO_PKG_VERSION"), created)?;
    Ok(serde_json::to_string_pretty(&bom)? + "\n")
}

/// Checksums of a lock file by name and version. Not a TOML parser: cargo writes it in one way.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    fn field<'l>(stanza: &'l str, key: &str) -> Option<&'l str> {
        stanza.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
    }
    lock.split("[[package]]")
        .filter_map(|s| Some(((field(s, "name")?, field(s, "version")?), field(s, "checksum")?)))
        .collect()
}

fn bill(metadata: &Value, sums: &BTreeMap<(&str, &str), &str>, version: &str, created: &str) -> Result<Value> {
    let list = |pointer: &str| metadata.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let id = |v: &Value| v.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let packages: BTreeMap<String, &Value> = list("/packages").map(|p| (id(p), p)).collect();
    let nodes: BTreeMap<String, &Value> = list("/resolve/nodes").map(|n| (id(n), n)).collect();
    let text = |p: &Value, key: &str| p.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let purl = |id: &str| {
        packages.get(id).map(|p| format!("pkg:cargo/{}@{}", text(p, "name"), text(p, "version"))).unwrap_or_default()
    };
    // What is linked: dependencies of the ordinary kind, not those of tests and build scripts.
    let linked = |id: &str| -> BTreeSet<String> {
        let deps = nodes.get(id).and_then(|n| n.get("deps")).and_then(Value::as_array).into_iter().flatten();
        let normal = |d: &&Value| {
            let kinds = d.get("dep_kinds").and_then(Value::as_array);
            kinds.into_iter().flatten().any(|k| k.get("kind").is_none_or(Value::is_null))
        };
        deps.filter(normal).filter_map(|d| Some(d.get("pkg")?.as_str()?.to_owned())).collect()
    };
    let roots: Vec<String> = packages
        .iter()
        .filter(|(_, p)| ROOTS.contains(&text(p, "name").as_str()) && p.get("source").is_none_or(Value::is_null))
        .map(|(id, _)| id.clone())
        .collect();
    anyhow::ensure!(roots.len() == ROOTS.len(), "the workspace has not all of {ROOTS:?}");
    let mut reached = BTreeSet::new();
    let mut todo = roots.clone();
    while let Some(next) = todo.pop() {
        if reached.insert(next.clone()) {
            todo.extend(linked(&next));
        }
    }
    let component = |id: &String| {
        let p = packages.get(id)?;
        let (name, version) = (text(p, "name"), text(p, "version"));
        let mut component = json!({
            "type": "library", "bom-ref": purl(id), "name": name, "version": version, "purl": purl(id), "scope": "required",
        });
        let fields = component.as_object_mut()?;
        // Old manifests write `MIT/Apache-2.0`.
        let licence = text(p, "license").replace('/', " OR ");
        if !licence.is_empty() {
            fields.insert("licenses".to_owned(), json!([{ "expression": licence }]));
        }
        if let Some(sum) = sums.get(&(name.as_str(), version.as_str())) {
            fields.insert("hashes".to_owned(), json!([{ "alg": "SHA-256", "content": sum }]));
        }
        let description = text(p, "description");
        if !description.is_empty() {
            fields
                .insert("description".to_owned(), json!(description.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        Some(component)
    };
    let program = format!("pkg:generic/leasewarden@{version}");
    let mut components: Vec<Value> = reached.iter().filter_map(component).collect();
    let by_ref = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    components.sort_by_key(|c| by_ref(c, "bom-ref"));
    let depends = |id: &String| {
        let on: BTreeSet<String> = linked(id).iter().map(|d| purl(d)).collect();
        json!({ "ref": purl(id), "dependsOn": on })
    };
    let mut dependencies: Vec<Value> = reached.iter().map(depends).collect();
    let inside: BTreeSet<String> = roots.iter().map(|r| purl(r)).collect();
    dependencies.push(json!({ "ref": program, "dependsOn": inside }));
    dependencies.sort_by_key(|d| by_ref(d, "ref"));
    let digest = Sha256::digest(serde_json::to_vec(&components)?);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": format!("urn:uuid:{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)),
        "version": 1,
        "metadata": {
            "timestamp": created,
            "component": {
                "type": "application", "bom-ref": program, "name": "leasewarden", "version": version, "purl": program,
                "licenses": [{ "expression": "(MIT OR Apache-2.0) AND GPL-2.0-only" }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_and_nothing_else() {
        let package = |name: &str, source: Option<&str>| json!({ "id": format!("{name} 1"), "name": name, "version": "1", "license": "MIT/Apache-2.0", "source": source });
        let dep =
            |name: &str, kind: Option<&str>| json!({ "pkg": format!("{name} 1"), "dep_kinds": [{ "kind": kind }] });
        let node = |name: &str, deps: Vec<Value>| json!({ "id": format!("{name} 1"), "deps": deps });
        let registry = Some("registry+x");
        let metadata = json!({
            "packages": [
                package("monitor", None), package("monitor-ebpf", None), package("a", registry), package("b", registry),
                package("only-tests", registry), package("only-builds", registry), package("xtask", None),
            ],
            "resolve": { "nodes": [
                node("monitor", vec![dep("a", None), dep("only-tests", Some("dev")), dep("only-builds", Some("build"))]),
                node("monitor-ebpf", vec![dep("b", None)]), node("a", vec![dep("b", None)]), node("b", vec![]),
                node("only-tests", vec![]), node("only-builds", vec![]), node("xtask", vec![]),
            ] },
        });
        let lock = "[[package]]\nname = \"a\"\nversion = \"1\"\nsource = \"x\"\nchecksum = \"0f\"\n\n[[package]]\nname = \"b\"\nversion = \"1\"\n";
        let sums = checksums(lock);
        assert_eq!(sums, BTreeMap::from([(("a", "1"), "0f")]));
        let bom = bill(&metadata, &sums, "2", "2026-01-01T00:00:00Z").unwrap();
        let names: Vec<&str> =
            bom["components"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a", "b", "monitor-ebpf", "monitor"]);
        assert_eq!(bom["components"][0]["hashes"][0]["content"], "0f");
        assert_eq!(bom["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let on = |of: &str| {
            let all = bom["dependencies"].as_array().unwrap();
            all.iter().find(|d| d["ref"] == of).unwrap()["dependsOn"].clone()
        };
        assert_eq!(on("pkg:cargo/monitor@1"), json!(["pkg:cargo/a@1"]));
        assert_eq!(on("pkg:generic/leasewarden@2"), json!(["pkg:cargo/monitor-ebpf@1", "pkg:cargo/monitor@1"]));
        assert_eq!(bom, bill(&metadata, &sums, "2", "2026-01-01T00:00:00Z").unwrap());
        assert!(bill(&json!({}), &sums, "2", "").is_err());
    }
}
