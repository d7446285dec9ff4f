//! Paths and what they tell.

use super::*;

fn shown(config: &IdentityConfig, path: &str) -> String {
    let f = config.resolve(path);
    format!("{} {} [{}]", f.name, f.cgroup, f.tenants.join(","))
}

#[test]
fn names_and_tenants_from_paths() {
    let config = IdentityConfig::default();
    let id = "0123456789abcdef".repeat(4);
    for (path, expected) in [
        ("/system.slice/postgresql.service", "postgresql /system.slice/postgresql.service []".to_owned()),
        ("/tenants/acme", "acme /tenants/acme [acme]".to_owned()),
        ("/lab/tenants/acme/agent", "agent /lab/tenants/acme/agent [acme]".to_owned()),
        ("/tenants/acme.slice/x", "x /tenants/acme.slice/x [acme]".to_owned()),
        (
            "/tenant.slice/tenant-acme.slice/web.service",
            "web /tenant.slice/tenant-acme.slice/web.service [acme]".to_owned(),
        ),
        ("/tenants.slice/tenants-acme.slice", "tenants-acme /tenants.slice/tenants-acme.slice [acme]".to_owned()),
        // systemd nests slices by their dashes: still acme's.
        (
            "/tenant.slice/tenant-acme.slice/tenant-acme-web.slice",
            "tenant-acme-web /tenant.slice/tenant-acme.slice/tenant-acme-web.slice [acme]".to_owned(),
        ),
        (
            "/tenant.slice/tenant-acme\\x2deast.slice",
            "tenant-acme-east /tenant.slice/tenant-acme\\x2deast.slice [acme-east]".to_owned(),
        ),
        ("/tenant-acme/x", "x /tenant-acme/x [acme]".to_owned()),
        // A service whose name happens to begin so is no tenant.
        ("/system.slice/tenant-api.service", "tenant-api /system.slice/tenant-api.service []".to_owned()),
        // Two patterns, two answers: reported as a conflict by the core, not decided here.
        ("/tenant-globex.slice/tenants/acme", "acme /tenant-globex.slice/tenants/acme [globex,acme]".to_owned()),
        ("/tenants", "tenants /tenants []".to_owned()),
        ("/tenants/", "tenants /tenants []".to_owned()),
        ("/", "/ / []".to_owned()),
        ("/a//b/", "b /a//b []".to_owned()),
        (&format!("/system.slice/docker-{id}.scope"), format!("0123456789ab /system.slice/docker-{id}.scope []")),
        (
            &format!("/system.slice/docker-{id}.scope/init.scope/x"),
            format!("0123456789ab /system.slice/docker-{id}.scope []"),
        ),
        (&format!("/docker/{id}/inner"), format!("0123456789ab /docker/{id} []")),
        (
            &format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("0123456789ab /kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope []"),
        ),
        (&format!("/kubepods/burstable/pod1/{id}/y"), format!("0123456789ab /kubepods/burstable/pod1/{id} []")),
        (
            &format!("/tenants/acme/docker/{id}/kubelet/kubepods/{}", "f".repeat(64)),
            format!("ffffffffffff /tenants/acme/docker/{id}/kubelet/kubepods/{} [acme]", "f".repeat(64)),
        ),
        // Podman's monitor is not the container.
        (
            &format!("/machine.slice/libpod-conmon-{id}.scope"),
            format!("libpod-conmon-{id} /machine.slice/libpod-conmon-{id}.scope []"),
        ),
        ("/decade", "decade /decade []".to_owned()),
    ] {
        assert_eq!(shown(&config, path), expected, "{path}");
    }
}

fn cgroup(glob: &str, workload: Option<&str>, tenant: Option<&str>) -> StaticRule {
    StaticRule {
        matcher: StaticMatcher::Cgroup(CgroupGlob::new(glob).unwrap()),
        tenant: tenant.map(Into::into),
        workload: workload.map(Into::into),
        role: None,
    }
}

#[test]
fn static_rules_first_match_wins_and_covers_what_is_nested() {
    let config = IdentityConfig {
        statics: vec![
            cgroup("/tenants/acme/**", Some("acme-agent"), Some("acme")),
            cgroup("/tenants/*", None, Some("somebody")),
            cgroup("/shared/gateway", Some("gw"), None),
            cgroup("/**/db", Some("database"), None),
        ],
        ..IdentityConfig::default()
    };
    for (path, expected) in [
        ("/tenants/acme", "acme-agent /tenants/acme [acme]"),
        ("/tenants/acme/x/y", "acme-agent /tenants/acme [acme]"),
        ("/tenants/acme2", "acme2 /tenants/acme2 [somebody]"),
        ("/tenants/globex/x", "globex /tenants/globex [somebody]"),
        ("/shared/gateway/docker/x", "gw /shared/gateway []"),
        ("/shared/gateway2", "gateway2 /shared/gateway2 []"),
        ("/a/b/db/c", "database /a/b/db []"),
        // A static match without a tenant is final: the path is not asked any more.
        ("/x/tenants/acme/db", "database /x/tenants/acme/db []"),
    ] {
        assert_eq!(shown(&config, path), expected, "{path}");
    }
    let all = IdentityConfig {
        statics: vec![cgroup("/**", Some("w"), None)],
        patterns: Vec::new(),
        ..IdentityConfig::default()
    };
    assert_eq!(shown(&all, "/any/where"), "w /any []");
}

#[test]
fn bad_globs_and_patterns_say_why() {
    assert!(CgroupGlob::new("tenants/*").unwrap_err().contains("beginning with `/`"));
    assert!(CgroupGlob::new("/a/[b").unwrap_err().contains("bad glob"));
    assert!(TenantPattern::new("tenant").is_err());
    assert!(TenantPattern::new("{tenant}-{tenant}").is_err());
    assert!(TenantPattern::new("/{tenant}/").is_err());
    assert!(TenantPattern::new("/{tenant}/agent").is_ok());
}

#[test]
fn addresses_keep_their_order_and_have_names() {
    let at = |net: &str, prefix, port, tenant: Option<&str>| StaticRule {
        matcher: StaticMatcher::Address(AddressMatch { net: net.parse().unwrap(), prefix, port }),
        tenant: tenant.map(Into::into),
        workload: None,
        role: None,
    };
    let config = IdentityConfig {
        statics: vec![
            at("10.1.0.0", 24, Some(5432), Some("globex")),
            at("10.0.0.0", 8, None, None),
            at("::1", 128, Some(1), None),
        ],
        patterns: Vec::new(),
        ..IdentityConfig::default()
    };
    let names: Vec<String> = config.addresses().into_iter().map(|a| a.fact.name).collect();
    assert_eq!(names, ["globex", "10.0.0.0/8", "[::1]:1"]);
}

#[test]
fn all_but_the_root_is_watched() {
    assert!(watch("/a"));
    assert!(!watch("/"));
    assert!(!watch(""));
}

#[test]
fn hostile_names_become_printable() {
    let config = IdentityConfig::default();
    let fact = config.resolve("/tenants/a\\x1b[31m\u{7}b/\\xff\\x");
    assert_eq!(fact.tenants, ["a\u{fffd}[31m\u{fffd}b"]);
    assert_eq!(fact.name, "\u{fffd}\\x");
}
