//! The running agent holds what it promises to hold, as root and as nobody; and confined as it is, it sees containers
//! that come later, writes findings and answers.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context, Result, ensure};

use crate::{SELECT, STALE, Stage, leaked};

const SET_ACME: &str = "SET app.tenant_id = 'acme'";
/// `CAP_DAC_READ_SEARCH` and `CAP_BPF`: of `include/uapi/linux/capability.h`.
const KEPT: u64 = 1 << 2 | 1 << 39;
const NOBODY: u32 = 65534;

#[test]
fn as_root() {
    crate::play("scenarios::privileges-root", 1, |stage| holds_little_and_still_sees(stage, None));
}

#[test]
fn as_nobody() {
    crate::play("scenarios::privileges-nobody", 1, |stage| holds_little_and_still_sees(stage, Some(NOBODY)));
}

fn holds_little_and_still_sees(stage: &mut Stage, user: Option<u32>) -> Result<()> {
    stage.scene.start_pooler(&tests::lab::pgbouncer::Pool::transaction(1))?;
    // Whoever it becomes must be able to write what it finds.
    fs::set_permissions(stage.scene.logs(), fs::Permissions::from_mode(0o777))?;
    stage.scene.start_agent(&user.map_or_else(String::new, |user| format!("user: {user}\n")))?;
    let pid = stage.scene.agent()?.pid();

    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let field = |key: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(key));
            line.map(str::trim).with_context(|| format!("no {key}\n{status}"))
        };
        let bits = |key: &str| -> Result<u64> { Ok(u64::from_str_radix(field(key)?, 16)?) };
        ensure!(field("Seccomp:")? == "2" && field("NoNewPrivs:")? == "1", "not confined:\n{status}");
        ensure!(bits("CapEff:")? == KEPT && bits("CapPrm:")? == KEPT, "holds more or less than it needs:\n{status}");
        ensure!(bits("CapBnd:")? & !KEPT == 0, "could get more:\n{status}");
        let ambient = if user.is_some() { KEPT } else { 0 };
        ensure!(bits("CapAmb:")? == ambient, "a program would inherit something else:\n{status}");
        let ids: BTreeSet<&str> = field("Uid:")?.split_whitespace().collect();
        let wanted = user.unwrap_or(0).to_string();
        ensure!(ids.len() == 1 && ids.contains(wanted.as_str()), "is somebody else: {ids:?}");
        threads += 1;
    }
    ensure!(threads >= 3, "main, engine and the runtime's: {threads}");

    // Cgroups, and in them processes, that were not there when it was confined.
    let mut acme = stage.client("acme")?;
    let mut later = stage.client("umbrella")?;
    acme.ask(stage.rounds(), &[SET_ACME, SELECT])?;
    leaked("umbrella", &later.ask(stage.rounds(), &[SELECT])?)?;
    acme.finish()?;
    later.finish()?;
    let agent = stage.scene.agent()?;
    agent.settle()?;
    for path in ["/services", "/findings", "/tools", "/metrics", "/readyz"] {
        agent.get(path)?;
    }
    ensure!(agent.get("/services")?.contains("umbrella"), "the cgroup that came later is not known");
    let outcome = stage.scene.outcome()?;
    outcome.has(STALE, "critical", Some("umbrella"), Some("acme"))
}
