//! The agents themselves: what they cost, what they lose, and what they cannot see.

use super::expr::{of, or_nought, rate, total};
use super::panel::{Dashboard, Draw, Panel};
use super::places_of_agents;

/// Which lines belong to which agent.
const AGENT: &str = "{{node}} {{cluster}}";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "agent-health",
        title: "Agent health",
        description: "The agents themselves: hooks, loss, processor time, memory, bounded tables, delay, sources of identity.",
        variables: places_of_agents(),
        rows: vec![
            ("Now", now()),
            ("Cost", cost()),
            ("Loss", loss()),
            ("Bounds and identity", bounds()),
            ("What could not be judged", limits()),
            ("Configuration and suppressions", configuration()),
        ],
    }
}

/// A metric of the agents' own process. Its name is every program's: the agents' are those that also say who they are.
fn process(expr: &str) -> String {
    // Each once, whatever versions it has just had; and two clusters may have the same addresses and names of nodes.
    let agents = format!("max by (cluster, node, job, instance) ({})", of("leasewarden_build_info", &[]));
    format!("sum by (cluster, node) ({expr} * on (cluster, job, instance) group_left (node) {agents})")
}

fn fill() -> String {
    let table = |metric| of(metric, &[]);
    format!("{} / ({} > 0)", table("leasewarden_table_entries"), table("leasewarden_table_limit"))
}

fn delay(quantile: &str) -> String {
    format!("histogram_quantile({quantile}, {})", rate("le", "leasewarden_detection_delay_seconds_bucket", &[]))
}

fn now() -> Vec<Panel> {
    let count = |metric: &str, is: &str| or_nought(&format!("count({} {is})", of(metric, &[])));
    let lost = |class: &str| format!("sum(increase({}[$__range]))", of("leasewarden_coverage_bytes_total", &[class]));
    vec![
        Panel::new(Draw::Stat, "Agents", "short", (4, 4), "Agents that are scraped now.", "none scraped")
            .query(format!("count({})", of("leasewarden_build_info", &[])), ""),
        Panel::new(
            Draw::Stat,
            "Hooks lost",
            "short",
            (4, 4),
            "Kernel hooks that are not attached, over all agents. `leasewarden doctor` on the node says why, and what is lost \
             without each.",
            "no agent is scraped",
        )
        .query(count("leasewarden_hook_attached", "== 0"), "")
        .steps(&[(0.0, "green"), (1.0, "red")]),
        Panel::new(
            Draw::Stat,
            "Payload lost",
            "percentunit",
            (4, 4),
            "Share of the watched payload, in the chosen time, that never reached the agent's decoders.",
            "no payload was seen",
        )
        .query(format!("{} / ({} > 0)", lost("class=\"lost\""), lost("class=~\".+\"")), "")
        .steps(&[(0.0, "green"), (0.001, "orange"), (0.01, "red")]),
        Panel::new(
            Draw::Stat,
            "Fullest table",
            "percentunit",
            (4, 4),
            "How full the fullest bounded table of any agent is. What finds no room in a full one is counted as loss.",
            "no agent is scraped",
        )
        .query(format!("max({})", fill()), "")
        .steps(&[(0.0, "green"), (0.8, "orange"), (0.95, "red")]),
        Panel::new(
            Draw::Stat,
            "Delay, 99th percentile",
            "s",
            (4, 4),
            "From the kernel's time of the last byte to the finding, in the chosen time.",
            "no new finding",
        )
        .query(delay("0.99").replace("$__rate_interval", "$__range") + " >= 0", "")
        .steps(&[(0.0, "green"), (0.05, "orange"), (1.0, "red")]),
        Panel::new(
            Draw::Stat,
            "Identity stale",
            "short",
            (4, 4),
            "Sources of identity (container runtimes, Kubernetes) that cannot be asked now: what they told last still holds \
             and may be out of date.",
            "no agent is scraped",
        )
        .query(count("leasewarden_identity_stale", "== 1"), "")
        .steps(&[(0.0, "green"), (1.0, "orange")]),
    ]
}

fn cost() -> Vec<Panel> {
    vec![
        Panel::new(
            Draw::Lines,
            "Processor time",
            "percentunit",
            (8, 8),
            "Processor time of each agent's process, over five minutes: 100 % is one core. The probes' own time is the panel beside it.",
            "no agent is scraped",
        )
        .query(process("rate(process_cpu_seconds_total[5m])"), AGENT),
        Panel::new(
            Draw::Lines,
            "Kernel programs",
            "percentunit",
            (8, 8),
            "Run time of the agents' kernel programs: 100 % is one core. It is spent in the context of whoever sends or \
             receives.",
            "the kernel's BPF statistics are off (sysctl kernel.bpf_stats_enabled=1)",
        )
        .query(rate("program", "leasewarden_bpf_run_seconds_total", &[]), "{{program}}"),
        Panel::new(
            Draw::Lines,
            "Memory",
            "bytes",
            (8, 8),
            "Resident memory of each agent's process. It is bounded by `limits` in the configuration.",
            "no agent is scraped",
        )
        .query(process("process_resident_memory_bytes"), AGENT),
        Panel::new(
            Draw::Lines,
            "Captured payload",
            "Bps",
            (8, 8),
            "Payload captured per second, by direction as the watched socket sees it.",
            "no watched workload is talking",
        )
        .query(rate("direction", "leasewarden_capture_bytes_total", &[]), "{{direction}}"),
        Panel::new(
            Draw::Lines,
            "Connections",
            "short",
            (8, 8),
            "Connections followed, by what can be read of them: decoded, opaque (TLS, unknown protocol), undecided (too \
             little seen yet), mid_stream (their beginning was not seen).",
            "no connection of a watched workload is open",
        )
        .query(format!("sum by (state) ({})", of("leasewarden_flows", &[])), "{{state}}"),
        Panel::new(
            Draw::Lines,
            "Detection delay",
            "s",
            (8, 8),
            "From the kernel's time of the last byte to the finding.",
            "no new finding was made in this time; a finding that happens again is not measured",
        )
        .query(format!("{} >= 0", delay("0.5")), "median")
        .query(format!("{} >= 0", delay("0.99")), "99th percentile"),
    ]
}

fn loss() -> Vec<Panel> {
    vec![
        Panel::new(
            Draw::Lines,
            "Events lost",
            "eps",
            (12, 8),
            "Events per second that were not delivered or not kept, by node, where (kernel, capture, agent, export) and why.",
            "nothing was lost in this time",
        )
        .query(
            format!("{} > 0", rate("node, stage, reason", "leasewarden_events_lost_total", &[])),
            "{{node}} {{stage}}: {{reason}}",
        ),
        Panel::new(
            Draw::Table,
            "Hooks",
            "none",
            (12, 8),
            "Every kernel hook of every agent. `leasewarden doctor` says what is lost without each, and why one could not be \
             attached.",
            "no agent is scraped",
        )
        .query(of("leasewarden_hook_attached", &[]), "")
        .columns(&[("node", "Node"), ("hook", "Hook"), ("Value", "State")])
        .words(&[("1", "attached", "green"), ("0", "lost", "red")])
        .steps(&[(0.0, "red"), (1.0, "green")]),
        Panel::new(
            Draw::Lines,
            "Findings to the collector",
            "cps",
            (12, 8),
            "Findings per second for the OpenTelemetry collector (`export.otlp`): sent, or dropped because too many waited \
             (queue_full), the collector refused the request (refused) or the record (rejected), or the agent stopped \
             (shutdown).",
            "no finding was made in this time, or no agent exports them",
        )
        .query(
            format!("{} > 0", rate("node, result", "leasewarden_otlp_records_total", &[])),
            "{{node}}: {{result}}",
        ),
        Panel::new(
            Draw::Lines,
            "Requests to the collector",
            "reqps",
            (12, 8),
            "Requests per second to the OpenTelemetry collector. What it puts off (busy), does not answer (timeout) or is not \
             there for (unreachable) is tried again, while findings wait.",
            "nothing was sent in this time, or no agent exports findings",
        )
        .query(
            format!("{} > 0", rate("node, result", "leasewarden_otlp_requests_total", &[])),
            "{{node}}: {{result}}",
        ),
    ]
}

fn bounds() -> Vec<Panel> {
    vec![
        Panel::new(
            Draw::Gauge,
            "Tables",
            "percentunit",
            (12, 10),
            "How full each bounded table is, the fullest agent's. Bounds are set under `limits` in the configuration.",
            "no agent is scraped",
        )
        .query(format!("topk(15, max by (table) ({}))", fill()), "{{table}}")
        .range(0.0, 1.0)
        .steps(&[(0.0, "green"), (0.8, "orange"), (0.95, "red")]),
        Panel::new(
            Draw::Table,
            "Sources of identity",
            "none",
            (6, 10),
            "Whether each source has told all it knows at least once, and whether it can be asked now.",
            "no source is configured: tenants come from the configuration alone",
        )
        .query(format!("1 - {} + 2 * {}", of("leasewarden_identity_synced", &[]), of("leasewarden_identity_stale", &[])), "")
        .columns(&[("node", "Node"), ("source", "Source"), ("Value", "State")])
        .words(&[("0", "current", "green"), ("1", "waiting", "orange"), ("2", "stale", "orange"), ("3", "absent", "red")])
        .steps(&[(0.0, "green"), (1.0, "orange"), (3.0, "red")]),
        Panel::new(
            Draw::Table,
            "Waits for a label",
            "short",
            (6, 10),
            "Containers that events waited for, by how that ended, in the chosen time. After a timeout or an overflow the \
             events were handled without a label.",
            "no event had to wait for its container's label",
        )
        .query(format!("round({}) > 0", total("node, result", "leasewarden_identity_waits_total", &[])), "")
        .columns(&[("node", "Node"), ("result", "End"), ("Value", "Containers")]),
    ]
}

fn limits() -> Vec<Panel> {
    vec![
        Panel::new(
            Draw::Lines,
            "Rules without enough to tell",
            "cps",
            (8, 8),
            "How often per second a rule stayed silent because something it needs was not known. Silence, not safety.",
            "every rule had what it needs",
        )
        .query(
            format!("topk(10, {} > 0)", rate("rule, reason", "leasewarden_rule_insufficient_total", &[])),
            "{{rule}}: {{reason}}",
        ),
        Panel::new(
            Draw::Lines,
            "Connections that lost their state",
            "cps",
            (8, 8),
            "How often per second the state of a connection became unknown: joined mid-stream, bytes missing, malformed input.",
            "no connection lost its state in this time",
        )
        .query(format!("{} > 0", rate("kind", "leasewarden_flow_disturbances_total", &[])), "{{kind}}"),
        Panel::new(
            Draw::Lines,
            "Decoding errors",
            "cps",
            (8, 8),
            "Malformed protocol input per second. A steady rate at one protocol is a decoder's mistake: please report it.",
            "every byte could be decoded",
        )
        .query(format!("{} > 0", rate("protocol, kind", "leasewarden_decode_errors_total", &[])), "{{protocol}}: {{kind}}"),
        Panel::new(
            Draw::Lines,
            "Bases of attribution",
            "cps",
            (8, 8),
            "For the units of work of processes that serve many tenants: which bases told the tenant, or abstained and why.",
            "no process that serves several tenants was seen at work",
        )
        .query(
            format!("topk(10, {} > 0)", rate("basis, result", "leasewarden_attribution_bases_total", &[])),
            "{{basis}}: {{result}}",
        ),
        Panel::new(
            Draw::Lines,
            "Hits not reported",
            "cps",
            (8, 8),
            "Hits of rules per second that became no finding: silenced by a suppression, or without room in the table of \
             findings.",
            "every hit was reported",
        )
        .query(format!("{} > 0", rate("reason", "leasewarden_findings_unreported_total", &[])), "{{reason}}"),
        Panel::new(
            Draw::Table,
            "Versions",
            "none",
            (24, 5),
            "What is running.",
            "no agent is scraped",
        )
        .query(of("leasewarden_build_info", &[]), "")
        .columns(&[("node", "Node"), ("version", "Version"), ("revision", "Revision"), ("kernel", "Kernel")]),
    ]
}

fn configuration() -> Vec<Panel> {
    let milliseconds = |metric: &str| format!("1000 * {}", of(metric, &[]));
    vec![
        Panel::new(
            Draw::Table,
            "Configuration",
            "none",
            (12, 8),
            "By what each agent runs: when that was read, whether it is the latest (an agent that cannot read a new one runs on \
             by the one before, and its log says why), and a number that is equal on agents that run by equal texts.",
            "no agent is scraped",
        )
        .query(milliseconds("leasewarden_config_last_reload_success_timestamp_seconds"), "")
        .query(of("leasewarden_config_last_reload_successful", &[]), "")
        .query(of("leasewarden_config_hash", &[]), "")
        .columns(&[
            ("cluster", "Cluster"),
            ("node", "Node"),
            ("Value #A", "Read"),
            ("Value #B", "State"),
            ("Value #C", "Text"),
        ])
        .unit_of("Read", "dateTimeAsLocal")
        .unit_of("Text", "none")
        .words(&[("1", "latest", "green"), ("0", "refused", "red")])
        .steps(&[(0.0, "red"), (1.0, "green")]),
        Panel::new(
            Draw::Lines,
            "Reloads",
            "cpm",
            (12, 8),
            "Attempts to read the configuration, per minute, by how they ended.",
            "no agent is scraped",
        )
        .query(
            format!("60 * {} > 0", rate("node, result", "leasewarden_config_reloads_total", &[])),
            "{{node}}: {{result}}",
        ),
        Panel::new(
            Draw::Lines,
            "Suppressions",
            "short",
            (12, 8),
            "Suppressions of the configuration that hold (active) and that have ended (expired), of the agent that has most.",
            "no agent is scraped",
        )
        .query(format!("max by (state) ({})", of("leasewarden_suppressions", &[])), "{{state}}"),
        Panel::new(
            Draw::Table,
            "Suppressions that end next",
            "dateTimeAsLocal",
            (12, 8),
            "When the next suppression of each rule ends: from then on what it silences is told again.",
            "no suppression holds",
        )
        .query(
            format!(
                "min by (cluster, rule) ({})",
                milliseconds("leasewarden_suppression_next_expiry_timestamp_seconds")
            ),
            "",
        )
        .columns(&[("cluster", "Cluster"), ("rule", "Rule"), ("Value", "Ends")])
        .unit_of("Ends", "dateTimeAsLocal"),
    ]
}
