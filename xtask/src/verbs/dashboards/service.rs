//! One shared service: who uses it, what proves their tenants, and where nothing does.

use super::expr::{PAGES, UNPROVED, findings as findings_of, of, or_nought, rate, total};
use super::panel::{Dashboard, Draw, Panel};
use super::{FIGURES, NEXT, SEVERITIES, VERDICTS, findings_table, places};

/// The service that the dashboard is about.
const THIS: &str = "service=\"$service\"";
const USES: &str = "leasewarden_tenant_operations_total";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "shared-service",
        title: "Shared service",
        description: "One service that several tenants share: its tenants over time, what they prove on its connections, and \
                      what the agents' verdicts on their uses are.",
        variables: places(true, false),
        rows: vec![("Now", now()), ("Tenants", tenants()), ("Proof", proof()), ("Findings", findings())],
    }
}

fn now() -> Vec<Panel> {
    let tenants = format!("count(sum by (tenant) ({}) > 0)", of(USES, &[THIS, "tenant!=\"\""]));
    let sum = |limits: &[&str]| total("", USES, limits);
    let unproved = format!("({} or vector(0)) / ({} > 0)", sum(&[THIS, UNPROVED]), sum(&[THIS]));
    let unknown = sum(&[THIS, "verdict=\"indeterminate\""]);
    let unknown = format!("({unknown} or vector(0)) / ({} > 0)", sum(&[THIS]));
    let pages = findings_of("", &[PAGES, THIS]);
    let switches = total("", "leasewarden_tenant_switches_total", &[THIS]);
    vec![
        Panel::new(
            Draw::Stat,
            "Tenants",
            "short",
            (4, 4),
            "Distinct labelled tenants that used this service, over all chosen nodes, since the agents started.",
            "no labelled tenant",
        )
        .query(tenants, ""),
        Panel::new(
            Draw::Stat,
            "Uses",
            "ops",
            (4, 4),
            "Data operations per second, now.",
            "no data operation",
        )
        .query(rate("", USES, &[THIS]), ""),
        Panel::new(
            Draw::Stat,
            "Tenant switches",
            "short",
            (4, 4),
            "How often, in the chosen time, a connection's next data operation was another tenant's. Reuse is what pools are \
             for; it is safe where each switch is proved.",
            "no agent is scraped",
        )
        .query(or_nought(&format!("round({switches})")), ""),
        Panel::new(
            Draw::Stat,
            "Unproved uses",
            "percentunit",
            (4, 4),
            "Share of the uses in the chosen time that came after another tenant's, with nothing on the wire that proved the \
             present tenant.",
            "no use in this time",
        )
        .query(unproved, "")
        .steps(&[(0.0, "green"), (0.000_001, "orange"), (0.1, "red")]),
        Panel::new(
            Draw::Stat,
            "Not known",
            "percentunit",
            (4, 4),
            "Share of the uses in the chosen time whose verdict is indeterminate: the tenant, or the connection's past, is \
             not known. These never raise a finding.",
            "no use in this time",
        )
        .query(unknown, "")
        .steps(&[(0.0, "green"), (0.1, "orange"), (0.5, "red")]),
        Panel::new(
            Draw::Stat,
            "Findings to act on",
            "short",
            (4, 4),
            "Different findings of severity high or critical with wire or endpoint evidence, of the kinds that were seen in \
             the chosen time.",
            "no agent is scraped",
        )
        .query(or_nought(&pages), "")
        .beside(NEXT)
        .steps(&[(0.0, "green"), (1.0, "red")]),
    ]
}

fn tenants() -> Vec<Panel> {
    vec![
        Panel::new(
            Draw::Stack,
            "Tenants over time",
            "ops",
            (12, 8),
            "Data operations per second by the tenant they were for. Operations whose tenant is not known are not in it.",
            "no use by a known tenant in this time",
        )
        .query(rate("tenant", USES, &[THIS, "tenant!=\"\""]), "{{tenant}}"),
        Panel::new(
            Draw::Lines,
            "Distinct tenants by node",
            "short",
            (12, 8),
            "Distinct tenants that each node's agent saw here in the last hour. More than one on any node: connections can \
             cross tenants.",
            "the service was not seen in this time",
        )
        .query(format!("max by (node) ({})", of("leasewarden_shared_service_tenants", &[THIS])), "{{node}}"),
    ]
}

fn proof() -> Vec<Panel> {
    vec![
        Panel::new(
            Draw::Stack,
            "Verdicts",
            "ops",
            (12, 8),
            "Data operations per second by what their connection had proved: revalidated (proved anew for this tenant), \
             single-tenant (only one has ever used it), reset-only, unbound, stale-bound (bound to another tenant), \
             indeterminate (not known).",
            "no use in this time",
        )
        .query(rate("verdict", USES, &[THIS]), "{{verdict}}")
        .colours(VERDICTS),
        Panel::new(
            Draw::Lines,
            "Switches by verdict",
            "ops",
            (12, 8),
            "Data operations per second on a connection whose previous one was another tenant's, by verdict. All green is \
             reuse as it should be.",
            "no connection went from one tenant to another in this time",
        )
        .query(rate("verdict", "leasewarden_tenant_switches_total", &[THIS]), "{{verdict}}")
        .colours(VERDICTS),
        Panel::new(
            Draw::Lines,
            "Bindings",
            "ops",
            (12, 8),
            "Bindings per second that the server acknowledged, by the tenant they named. A tenant that uses the service and \
             never binds has no line here.",
            "nobody has bound a connection to a tenant: whatever keeps the tenants apart is inside the applications",
        )
        .query(rate("tenant", "leasewarden_tenant_bindings_total", &[THIS]), "{{tenant}}"),
        Panel::new(
            Draw::Lines,
            "Operations by kind",
            "ops",
            (12, 8),
            "Decoded operations per second: bind and reset prove and clear, data uses, publish, deliver and ack are a \
             queue's, discover and control are neither.",
            "no decoded operation in this time",
        )
        .query(rate("kind", "leasewarden_operations_total", &[THIS]), "{{kind}}"),
    ]
}

fn findings() -> Vec<Panel> {
    let uses = total("tenant, verdict", USES, &[THIS, "tenant!=\"\""]);
    vec![
        Panel::new(
            Draw::Table,
            "Uses by tenant and verdict",
            "short",
            (8, 8),
            "Data operations in the chosen time.",
            "no use by a known tenant in this time",
        )
        .query(format!("round({uses}) > 0"), "")
        .columns(&[("tenant", "Tenant"), ("verdict", "Verdict"), ("Value", "Uses")])
        .words(super::VERDICT_WORDS)
        .leads_to("Tenant", "leasewarden-tenant", "tenant"),
        Panel::new(
            Draw::Lines,
            "Hits by severity",
            "cpm",
            (16, 8),
            "Hits of rules at this service per minute.",
            "no rule hit at this service in this time",
        )
        .query(format!("60 * {}", rate("severity", "leasewarden_findings_total", &[THIS])), "{{severity}}")
        .colours(SEVERITIES)
        .steps(FIGURES),
        findings_table(
            "Findings here",
            "What was seen at this service in the chosen time: for whom a connection was used and whose it was. A rule leads to \
             what it means and how to mend it; the evidence is in the log, and on /findings of the agent on that node.",
            "no rule hit at this service in this time",
            &[THIS],
            &["service"],
        ),
    ]
}
