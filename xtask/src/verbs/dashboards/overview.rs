//! The overview: what was found, where, and how much of the traffic could be looked at.

use super::expr::{PAGES, UNPROVED, findings as findings_of, of, or_nought, rate, total};
use super::panel::{Dashboard, Draw, Panel};
use super::{CLASSES, FIGURES, NEXT, SEVERITIES, findings_table, places};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "overview",
        title: "Overview",
        description: "Cross-tenant reuse of shared connections and queues: what was found, which shared services are at risk, \
                      and how much of their traffic the agents could read.",
        variables: places(false, false),
        rows: vec![
            ("Now", now()),
            ("Findings", findings()),
            ("Shared services", services()),
            ("Coverage and loss", coverage()),
        ],
    }
}

fn now() -> Vec<Panel> {
    let pages = findings_of("", &[PAGES, "service=~\"$service\"", "tenant=~\"$tenant\""]);
    let used = of("leasewarden_tenant_operations_total", &["tenant!=\"\"", "service=~\"$service\""]);
    let shared = format!("count((count by (cluster, service) (sum by (cluster, service, tenant) ({used}) > 0)) > 1)");
    let risk = total("cluster, service", "leasewarden_tenant_switches_total", &[UNPROVED, "service=~\"$service\""]);
    let risk = format!("count(({risk}) > 0)");
    let read = |class: &str| format!("sum(increase({}[$__range]))", of("leasewarden_coverage_bytes_total", &[class]));
    let share = format!("{} / ({} > 0)", read("class=\"decoded\""), read("class=~\".+\""));
    let hooks = format!("count({} == 0)", of("leasewarden_hook_attached", &[]));
    let agents = format!("count({})", of("leasewarden_build_info", &[]));
    vec![
        Panel::new(
            Draw::Stat,
            "Findings to act on",
            "short",
            (4, 4),
            "Different findings of severity high or critical whose evidence is on the wire or in the endpoints' labels, of the \
             kinds that were seen in the chosen time. These page; inference alone never does.",
            "no agent is scraped",
        )
        .query(or_nought(&pages), "")
        .beside(NEXT)
        .steps(&[(0.0, "green"), (1.0, "red")]),
        Panel::new(
            Draw::Stat,
            "Services at risk",
            "short",
            (4, 4),
            "Services where, in the chosen time, a connection went from one tenant to another and nothing on the wire proved \
             the second one (verdicts unbound, reset-only, stale-bound).",
            "no agent is scraped",
        )
        .query(or_nought(&risk), "")
        .steps(&[(0.0, "green"), (1.0, "orange")]),
        Panel::new(
            Draw::Stat,
            "Shared services",
            "short",
            (4, 4),
            "Services that two or more labelled tenants have used, over all nodes, since the agents started.",
            "no agent is scraped",
        )
        .query(or_nought(&shared), ""),
        Panel::new(
            Draw::Stat,
            "Payload decoded",
            "percentunit",
            (4, 4),
            "Share of the watched payload that could be read. The rest is TLS, an unknown protocol, cut at capture or lost: \
             nothing is known of it, good or bad.",
            "no payload was seen",
        )
        .query(share, "")
        .range(0.0, 1.0)
        .steps(&[(0.0, "red"), (0.5, "orange"), (0.8, "green")]),
        Panel::new(
            Draw::Stat,
            "Events lost",
            "short",
            (4, 4),
            "Events that were not delivered or not kept, in the chosen time. Loss makes verdicts indeterminate, never clean: \
             what was lost was not judged.",
            "no agent is scraped",
        )
        .query(or_nought(&format!("round({})", total("", "leasewarden_events_lost_total", &[]))), "")
        .steps(&[(0.0, "green"), (1.0, "orange")]),
        Panel::new(
            Draw::Stat,
            "Agents",
            "short",
            (2, 4),
            "Agents that are scraped now.",
            "none scraped",
        )
        .query(agents, ""),
        Panel::new(
            Draw::Stat,
            "Hooks lost",
            "short",
            (2, 4),
            "Kernel hooks that are not attached, over all agents: each is lost coverage (see Agent health).",
            "no agent",
        )
        .query(or_nought(&hooks), "")
        .steps(&[(0.0, "green"), (1.0, "red")]),
    ]
}

fn findings() -> Vec<Panel> {
    let chosen = ["service=~\"$service\"", "tenant=~\"$tenant\""];
    vec![
        Panel::new(
            Draw::Lines,
            "Hits by severity",
            "cpm",
            (8, 8),
            "Hits of rules per minute, by severity. One finding that happens again and again is counted each time.",
            "no rule hit in this time; see Payload decoded for how much was looked at",
        )
        .query(format!("60 * {}", rate("severity", "leasewarden_findings_total", &chosen)), "{{severity}}")
        .colours(SEVERITIES),
        Panel::new(
            Draw::Gauge,
            "Findings by tenant",
            "short",
            (8, 8),
            "Different findings of the chosen time, by the tenant for whom the connection was used. Those that are of no single \
             tenant are in the table below.",
            "no rule hit in this time",
        )
        .query(format!("{} > 0", findings_of("tenant", &[chosen[0], chosen[1], "tenant!=\"\""])), "{{tenant}}")
        .steps(&[(0.0, "orange")]),
        Panel::new(
            Draw::Gauge,
            "Findings by victim",
            "short",
            (8, 8),
            "Different findings of the chosen time, by the tenant whose the connection was: as whom it was bound, or who had \
             used it before.",
            "no rule hit in this time where another tenant's connection was used",
        )
        .query(format!("{} > 0", findings_of("bound", &[chosen[0], chosen[1], "bound!=\"\""])), "{{bound}}")
        .steps(&[(0.0, "orange")]),
        findings_table(
            "Findings by rule",
            "What was seen in the chosen time: for whom a connection was used and whose it was, how many different findings \
             there are, how often they hit, since when and until when. A rule leads to what it means and how to mend it; the \
             findings themselves, with their evidence, are in the log, and on /findings of the agent on that node.",
            "no rule hit in this time; see Payload decoded for how much was looked at",
            &chosen,
            &[],
        ),
    ]
}

fn services() -> Vec<Panel> {
    let service = ["service=~\"$service\""];
    let used = of("leasewarden_tenant_operations_total", &["tenant!=\"\"", service[0]]);
    let tenants = format!("count by (service, protocol) (sum by (service, protocol, tenant) ({used}) > 0)");
    let unproved = total("service, protocol", "leasewarden_tenant_operations_total", &[UNPROVED, service[0]]);
    let switches = total("service, protocol", "leasewarden_tenant_switches_total", &service);
    vec![
        Panel::new(
            Draw::Table,
            "Services by tenants and unproved uses",
            "short",
            (12, 8),
            "Each service with its distinct labelled tenants since the agents started, how often a connection went from one \
             tenant to another in the chosen time, and how many uses had no proof of their tenant.",
            "no labelled tenant has used a decoded service; are tenants labelled?",
        )
        .query(tenants, "")
        .query(format!("round({switches})"), "")
        .query(format!("round({unproved})"), "")
        .columns(&[
            ("service", "Service"),
            ("protocol", "Protocol"),
            ("Value #A", "Tenants"),
            ("Value #B", "Switches"),
            ("Value #C", "Unproved uses"),
        ])
        .steps(FIGURES)
        .leads_to("Service", "leasewarden-shared-service", "service"),
        Panel::new(
            Draw::Lines,
            "Unproved uses by service",
            "ops",
            (12, 8),
            "Data operations per second on a connection that another tenant had used before, with nothing on the wire that \
             proved the present tenant (verdicts unbound, reset-only, stale-bound).",
            "no unproved use was seen in this time",
        )
        .query(format!("{} > 0", rate("service", "leasewarden_tenant_operations_total", &[UNPROVED, service[0]])), "{{service}}"),
    ]
}

fn coverage() -> Vec<Panel> {
    vec![
        Panel::new(
            Draw::Share,
            "What became of the payload",
            "percentunit",
            (12, 8),
            "Payload bytes by what became of them: decoded; opaque (TLS or an unknown protocol); truncated at capture; lost.",
            "no payload was seen: no watched workload is talking, or no agent is scraped",
        )
        .query(rate("class", "leasewarden_coverage_bytes_total", &[]), "{{class}}")
        .colours(CLASSES),
        Panel::new(
            Draw::Lines,
            "Losses",
            "eps",
            (12, 8),
            "Events that were not delivered or not kept, per second, by where (kernel, capture, agent, export) and why.",
            "nothing was lost in this time",
        )
        .query(format!("{} > 0", rate("stage, reason", "leasewarden_events_lost_total", &[])), "{{stage}}: {{reason}}"),
    ]
}
