//! Broken configurations and what is said of them: `tests/config/*.yaml` beside `*.txt`. `UPDATE_EXPECT=1` blesses.

use std::time::Duration;

use super::*;
use crate::testing::{blessing, repository};

/// 2026-11-21T00:00:00Z.
const NOW: Nanos = Nanos(1_795_219_200_000_000_000);

/// Files that fixtures and examples name below `/etc/leasewarden` are in `tests/config/files`.
fn files(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    match path.strip_prefix("/etc/leasewarden") {
        Ok(name) => read_file(&repository("monitor/tests/config/files").join(name), limit),
        Err(_) => read_file(path, limit),
    }
}

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse_with(text, NOW, &files)
}

fn said(name: &str, text: &str) -> String {
    let file = format!("{name}.yaml");
    let lines: Vec<String> = match parse(text) {
        Ok(config) => std::iter::once("ok".to_owned())
            .chain(config.warnings.iter().map(|w| format!("warning: {}", w.render(&file))))
            .collect(),
        Err(problems) => problems.iter().map(|p| p.render(&file)).collect(),
    };
    lines.join("\n") + "\n"
}

#[test]
fn every_fixture_is_answered_as_recorded() {
    let dir = repository("monitor/tests/config");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .filter_map(|e| Some(e.unwrap().file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
        .collect();
    names.sort();
    assert!(names.len() >= 12, "fixtures are missing: {names:?}");
    let mut wrong = Vec::new();
    for name in names {
        let text = std::fs::read_to_string(dir.join(format!("{name}.yaml"))).unwrap();
        let actual = said(&name, &text);
        let expected = dir.join(format!("{name}.txt"));
        if blessing() {
            std::fs::write(expected, actual).unwrap();
        } else if std::fs::read_to_string(expected).unwrap_or_default() != actual {
            wrong.push(format!("--- {name}\n{actual}"));
        }
    }
    assert!(wrong.is_empty(), "not as recorded:\n{}", wrong.join("\n"));
}

#[test]
fn the_documented_example_is_valid_and_means_what_it_says() {
    let page = std::fs::read_to_string(repository("docs/configuration.md")).unwrap();
    let example = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let config = parse(example).unwrap();
    assert_eq!(config.settings.tenants.len(), 1);
    assert_eq!(config.settings.services.len(), 1);
    assert_eq!(config.settings.services.first().unwrap().port, Some(5432));
    assert_eq!(config.settings.limits.flows, 100_000);
    assert_eq!(config.findings.as_deref(), Some(Path::new("/var/log/leasewarden/findings.jsonl")));
    let otlp = config.otlp.unwrap();
    assert_eq!(otlp.endpoint, "https://otel.example.com:4318/v1/logs");
    assert_eq!((otlp.timeout, otlp.bounds.records, otlp.bounds.bytes), (Duration::from_secs(10), 8192, 4 << 20));
    let (name, value) = otlp.headers.first().unwrap();
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer test-only-token"));
    let show = &config.settings.show;
    assert_eq!(
        (show.routes.as_slice(), show.keys.as_slice()),
        (&["/api/v2beta/*/items".to_owned()][..], &["cart:*".to_owned()][..])
    );
    assert_eq!(show.names, ["s3_uploads"]);
    assert_eq!(config.identity.statics.len(), 3);
    assert_eq!(config.identity.resolve("/tenants/acme/x").name, "acme-agent");
    assert_eq!(config.identity.addresses().len(), 1);
}

#[test]
fn tokens_tools_and_canaries_become_settings() {
    let page = std::fs::read_to_string(repository("docs/configuration.md")).unwrap();
    let example = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let s = parse(example).unwrap().settings;
    assert_eq!(s.tokens.keys.len(), 1);
    assert_eq!(s.tokens.tenant_claims, ["tid", "org_id", "tenant_id", "https://*/tenant"]);
    assert_eq!(s.tokens.audiences, [("orders-mcp".to_owned(), vec!["https://orders.example".to_owned()])]);
    assert_eq!(s.tokens.max_lifetime, Nanos::secs(900));
    let entitled = s.entitlements.first().unwrap();
    assert_eq!((entitled.tenant.as_str(), entitled.service.as_deref()), ("acme", Some("orders-mcp")));
    assert_eq!(entitled.tools, ["orders.*", "search"]);
    let canary = s.canaries.first().unwrap();
    assert_eq!((canary.tenant.as_str(), canary.value.as_str()), ("acme", "test-only-canary-of-acme"));
    let locked = s.locks.first().unwrap();
    assert_eq!((locked.server.as_str(), locked.tool.as_str(), locked.signed), ("orders", "search", false));
    let signed = "version: 1\nlocks: [/etc/leasewarden/signed.lock.json]\nlock_keys: [/etc/leasewarden/lock-key.pub]\n";
    let config = parse(signed).unwrap();
    assert!(config.warnings.is_empty() && config.settings.locks.first().unwrap().signed);
}

#[test]
fn no_message_repeats_a_secret() {
    let secret = "very-secret-value";
    for value in [
        format!("[{{ tenant: a, value: {secret}, value_file: x }}]"),
        format!("[{{ tenant: a, value: [{secret}] }}]"),
        format!("[{{ tenant: a, value: {{ {secret}: 1 }} }}]"),
        "[{ tenant: a, value: 1234567890 }]".to_owned(),
        format!("[{{ tenant: [{secret}], value: {secret} }}]"),
        format!("[[{secret}]]"),
        format!("[{secret}]"),
        secret.to_owned(),
        format!("[{{ tenant: a, value: {secret}"),
        format!("[{{ tenant: a, value: \"{secret}\\q\" }}]"),
        format!("[{{ tenant: a, value: {secret} }}, {{ tenant: b, value: {secret} }}]"),
    ] {
        let problems = parse(&format!("version: 1\ncanaries: {value}\n")).unwrap_err();
        let text = problems.iter().map(|p| p.render("f.yaml")).collect::<Vec<_>>().join("\n");
        assert!(!text.contains(secret) && !text.contains("1234567890"), "{text}");
    }
    let config = parse(&format!("version: 1\ncanaries: [{{ tenant: a, value: {secret} }}]\n")).unwrap();
    assert!(!format!("{config:?}").contains(secret));
    for headers in [
        format!("{{ authorization: Bearer {secret} }}"),
        format!("{{ authorization: [{secret}] }}"),
        format!("{{ authorization: {{ value: {secret} }} }}"),
        format!("{{ authorization: {{ file: [{secret}] }} }}"),
        "{ authorization: 1234567890 }".to_owned(),
        secret.to_owned(),
        format!("[{secret}]"),
    ] {
        let text = format!("version: 1\nexport: {{ otlp: {{ endpoint: \"http://c:4318\", headers: {headers} }} }}\n");
        let problems = parse(&text).unwrap_err();
        let text = problems.iter().map(|p| p.render("f.yaml")).collect::<Vec<_>>().join("\n");
        assert!(!text.contains(secret) && !text.contains("1234567890"), "{text}");
    }
    let url = format!("version: 1\nexport: {{ otlp: {{ endpoint: \"http://a:{secret}@c:4318\" }} }}\n");
    assert!(!parse(&url).unwrap_err().iter().any(|p| p.render("f.yaml").contains(secret)));
    let config = parse(
        "version: 1\nexport: { otlp: { endpoint: \"https://c\", headers: { a: { file: /etc/leasewarden/otlp-authorization } } } }\n",
    );
    assert!(!format!("{:?}", config.unwrap()).contains("test-only-token"));
}

#[test]
fn a_collector_is_told_from_its_url_and_its_environment() {
    let parsed = |otlp: &str| parse(&format!("version: 1\nexport: {{ otlp: {otlp} }}\n")).unwrap().otlp.unwrap();
    for (url, meant) in [
        ("http://collector:4318", "http://collector:4318/v1/logs"),
        ("http://collector:4318/", "http://collector:4318/v1/logs"),
        ("https://example.com/tenant/otlp/v1/logs", "https://example.com/tenant/otlp/v1/logs"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/logs"),
    ] {
        assert_eq!(parsed(&format!("{{ endpoint: \"{url}\" }}")).endpoint, meant);
    }
    // Cargo sets this one for tests.
    let otlp = parsed(
        "{ endpoint: \"http://localhost:4318\", headers: { X-A: { env: CARGO_PKG_NAME } }, timeout: 500ms, \
         queue: { records: 10, bytes: 65536 } }",
    );
    let headers: Vec<_> =
        otlp.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap(), v.is_sensitive())).collect();
    assert_eq!(headers, [("x-a", "monitor", true)]);
    assert_eq!((otlp.timeout, otlp.bounds.records, otlp.bounds.bytes), (Duration::from_millis(500), 10, 65_536));
}

#[test]
fn every_example_is_valid() {
    let mut n_examples = 0;
    for entry in std::fs::read_dir(repository("docs/examples")).unwrap() {
        let path = entry.unwrap().path();
        let config = Config::load(&path, NOW).unwrap_or_else(|e| panic!("{e}"));
        assert!(config.warnings.is_empty(), "{}: {:?}", path.display(), config.warnings);
        n_examples += 1;
    }
    assert_eq!(n_examples, 3);
}

#[test]
fn the_default_is_what_an_empty_version_1_says() {
    let parsed = Config::parse("version: 1\n", NOW).unwrap();
    assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::default()));
    assert_eq!(parsed.http.listen, Some(DEFAULT_LISTEN));
}

#[test]
fn off_switches_the_server_off() {
    assert_eq!(Config::parse("version: 1\nexport: { listen: off }\n", NOW).unwrap().http.listen, None);
}

#[test]
fn a_suppression_lasts_through_its_last_day() {
    let text = "version: 1\nsuppress:\n  - { rule: pool-stale-binding, tenant: acme, reason: r, until: 2026-11-21 }\n";
    let config = Config::parse(text, NOW).unwrap();
    assert!(config.warnings.is_empty());
    assert_eq!(config.settings.suppress.first().unwrap().until, Nanos(NOW.0 + 86_400_000_000_000));
}

#[test]
fn hostile_text_is_answered_and_never_panics() {
    let bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n".to_owned()
        + &('b'..='j')
            .zip('a'..)
            .map(|(c, p)| format!("{c}: &{c} [{}]\n", vec![format!("*{p}"); 9].join(",")))
            .collect::<String>();
    for text in
        [bomb.as_str(), &"[".repeat(10_000), &"{a: ".repeat(3_000), "\0", "version: !!binary 1", "&a *a", "- - - -"]
    {
        assert!(Config::parse(text, NOW).is_err(), "{text:.40}");
    }
    let example = std::fs::read_to_string(repository("docs/configuration.md")).unwrap();
    let example = example.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    for end in (0..example.len()).step_by(7).filter(|i| example.is_char_boundary(*i)) {
        let _ = Config::parse(example.get(..end).unwrap(), NOW);
    }
}

#[test]
fn a_missing_or_huge_file_is_one_clear_message() {
    let dir = tempfile::tempdir().unwrap();
    let error = Config::load(&dir.path().join("none.yaml"), NOW).unwrap_err().to_string();
    assert!(error.starts_with("cannot read configuration ") && error.contains("No such file"), "{error}");
    let huge = dir.path().join("huge.yaml");
    std::fs::File::create(&huge).unwrap().set_len(MAX_FILE + 1).unwrap();
    assert!(Config::load(&huge, NOW).unwrap_err().to_string().contains("at most 4194304"));
}

#[test]
fn containers_and_kubernetes() {
    let text = r#"
version: 1
identity:
  containers:
    docker: [/run/docker.sock, /run/podman/podman.sock]
    cri: off
    tenant_labels: [customer]
  kubernetes:
    enabled: on
    node: n1
    remote_pods: true
    tenant:
      - pod_label: team
      - namespace_label: "*.tree.hnc.x-k8s.io/depth"
      - namespace_pattern: "tenant-{tenant}"
  wait: { at_most: 500ms, bytes: 1024 }
"#;
    let identity = Config::parse(text, Nanos(0)).unwrap().identity;
    assert_eq!(identity.containers.cri, crate::identity::Sockets::Off);
    assert!(matches!(identity.containers.docker, crate::identity::Sockets::These(ref p) if p.len() == 2));
    assert_eq!(identity.containers.labels.tenant, ["customer"]);
    assert_eq!(identity.containers.labels.role, ["leasewarden.io/role"]);
    assert_eq!(identity.kubernetes.enabled, crate::identity::Switch::On);
    assert_eq!((identity.kubernetes.tenant.len(), identity.kubernetes.services), (3, true));
    assert_eq!((identity.wait.at_most, identity.wait.bytes), (Nanos::millis(500), 1024));
    // What is left out has its default.
    let identity = Config::parse("version: 1\nidentity: { kubernetes: { enabled: off } }", Nanos(0)).unwrap().identity;
    assert_eq!(identity.kubernetes.tenant.len(), 6);
}

#[test]
fn wrong_containers_and_kubernetes_say_why() {
    for (text, expected) in [
        ("containers: { docker: unix:///run/docker.sock }", "write `/run/docker.sock`"),
        ("containers: { docker: true }", "expected `auto`, `off`, the path of a socket, or a list of paths"),
        ("containers: { tenant_labels: [\" \"] }", "expected the key of a label"),
        ("kubernetes: { enabled: maybe }", "expected one of `auto`, `on`, `off`"),
        ("kubernetes: { tenant: [ { pod_label: a, namespace_label: b } ] }", "expected exactly one of `pod_label`"),
        ("kubernetes: { tenant: [ { namespace_pattern: tenant } ] }", "expected a pattern with `{tenant}` once"),
        ("kubernetes: { tenants: [] }", "unknown key"),
        ("wait: { at_most: 1h }", "at most 30s"),
    ] {
        let problems = Config::parse(&format!("version: 1\nidentity: {{ {text} }}"), Nanos(0)).unwrap_err();
        let all: Vec<String> = problems.iter().map(|p| format!("{} {:?}", p.message, p.help)).collect();
        assert!(all.join("\n").contains(expected), "{text}: {all:?}");
    }
}
