//! One tenant: what it uses, with whom it shares that, and what was found.

use super::expr::{PAGES, UNPROVED, findings as findings_of, of, or_nought, rate, total};
use super::panel::{Dashboard, Draw, Panel};
use super::{NEXT, VERDICTS, findings_table, places};

/// The tenant that the dashboard is about.
const THIS: &str = "tenant=\"$tenant\"";
/// Findings whose victim it is.
const VICTIM: &str = "bound=\"$tenant\"";
const USES: &str = "leasewarden_tenant_operations_total";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "tenant",
        title: "Tenant",
        description: "One tenant: the services it uses, which other tenants use them too, and where its uses were not proved.",
        variables: places(false, true),
        rows: vec![
            ("Now", now()),
            ("What it shares, and with whom", shares()),
            ("Its uses", uses()),
            ("Findings", findings()),
        ],
    }
}

/// Uses by other tenants, of services that this one uses.
fn beside() -> String {
    let service = "service=~\"$service\"";
    format!(
        "(sum by (cluster, service, protocol, tenant) ({}) > 0) and on (cluster, service) (sum by (cluster, service) ({}) > 0)",
        of(USES, &["tenant!=\"$tenant\"", "tenant!=\"\"", service]),
        of(USES, &[THIS, service]),
    )
}

fn now() -> Vec<Panel> {
    let own = format!("count(sum by (cluster, service) ({}) > 0)", of(USES, &[THIS]));
    let beside = beside();
    let shared = format!("count(count by (cluster, service) ({beside}))");
    let others = format!("count(count by (tenant) ({beside}))");
    let unproved = total("", USES, &[THIS, UNPROVED]);
    let pages = findings_of("", &[PAGES, THIS]);
    let suffered = findings_of("", &[PAGES, VICTIM]);
    vec![
        Panel::new(
            Draw::Stat,
            "Services used",
            "short",
            (4, 4),
            "Decoded services that this tenant has used since the agents started.",
            "none seen",
        )
        .query(own, ""),
        Panel::new(
            Draw::Stat,
            "Of them shared",
            "short",
            (4, 4),
            "How many of them another labelled tenant has used too.",
            "no agent is scraped",
        )
        .query(or_nought(&shared), ""),
        Panel::new(
            Draw::Stat,
            "Shared with",
            "short",
            (4, 4),
            "How many other tenants use a service that this tenant uses.",
            "no agent is scraped",
        )
        .query(or_nought(&others), ""),
        Panel::new(
            Draw::Stat,
            "Unproved uses",
            "short",
            (4, 4),
            "Data operations for this tenant, in the chosen time, on a connection that another tenant had used before and \
             with nothing on the wire that proved this one.",
            "no agent is scraped",
        )
        .query(or_nought(&format!("round({unproved})")), "")
        .steps(&[(0.0, "green"), (1.0, "orange")]),
        Panel::new(
            Draw::Stat,
            "Findings to act on",
            "short",
            (4, 4),
            "Different findings of severity high or critical with wire or endpoint evidence where a connection was used for this \
             tenant, of the kinds that were seen in the chosen time.",
            "no agent is scraped",
        )
        .query(or_nought(&pages), "")
        .beside(NEXT)
        .steps(&[(0.0, "green"), (1.0, "red")]),
        Panel::new(
            Draw::Stat,
            "As the victim",
            "short",
            (4, 4),
            "The same where the connection was this tenant's: bound to it, or used by it before.",
            "no agent is scraped",
        )
        .query(or_nought(&suffered), "")
        .beside(NEXT)
        .steps(&[(0.0, "green"), (1.0, "red")]),
    ]
}

fn shares() -> Vec<Panel> {
    vec![
        Panel::new(
            Draw::Table,
            "Whom it shares with",
            "short",
            (12, 9),
            "Each service that this tenant uses, with the other tenants that use it too and their data operations since the \
             agents started. Over all chosen nodes: the two need not meet on one node.",
            "this tenant shares no decoded service with a labelled tenant",
        )
        .query(beside(), "")
        .columns(&[("service", "Service"), ("protocol", "Protocol"), ("tenant", "Other tenant"), ("Value", "Its operations")])
        .leads_to("Service", "leasewarden-shared-service", "service")
        .leads_to("Other tenant", "leasewarden-tenant", "tenant"),
        Panel::new(
            Draw::Table,
            "Uses by service and verdict",
            "short",
            (12, 9),
            "This tenant's data operations in the chosen time, by what their connection had proved.",
            "this tenant has used no decoded service in this time",
        )
        .query(format!("round({}) > 0", total("service, protocol, verdict", USES, &[THIS, "service=~\"$service\""])), "")
        .columns(&[("service", "Service"), ("protocol", "Protocol"), ("verdict", "Verdict"), ("Value", "Uses")])
        .words(super::VERDICT_WORDS)
        .leads_to("Service", "leasewarden-shared-service", "service"),
    ]
}

fn uses() -> Vec<Panel> {
    let chosen = [THIS, "service=~\"$service\""];
    vec![
        Panel::new(
            Draw::Stack,
            "Uses by service",
            "ops",
            (8, 8),
            "Data operations per second for this tenant.",
            "no use in this time",
        )
        .query(rate("service", USES, &chosen), "{{service}}"),
        Panel::new(
            Draw::Stack,
            "Uses by verdict",
            "ops",
            (8, 8),
            "Data operations per second for this tenant, by what their connection had proved.",
            "no use in this time",
        )
        .query(rate("verdict", USES, &chosen), "{{verdict}}")
        .colours(VERDICTS),
        Panel::new(
            Draw::Lines,
            "Bindings by service",
            "ops",
            (8, 8),
            "Bindings per second to this tenant that the server acknowledged. A service that it uses and that has no line \
             here is used without any proof on the wire.",
            "nobody has bound a connection to this tenant",
        )
        .query(rate("service", "leasewarden_tenant_bindings_total", &chosen), "{{service}}"),
    ]
}

fn findings() -> Vec<Panel> {
    vec![
        findings_table(
            "Findings",
            "What was seen in the chosen time where a connection was used for this tenant, and whose it was. A rule leads to what \
             it means and how to mend it; the evidence is in the log, and on /findings of the agent on that node.",
            "no rule hit for this tenant in this time",
            &[THIS, "service=~\"$service\""],
            &["tenant"],
        ),
        findings_table(
            "Findings whose victim it is",
            "What was seen in the chosen time where a connection of this tenant's was used for another.",
            "no rule hit in this time where a connection of this tenant's was used",
            &[VICTIM, "service=~\"$service\""],
            &["bound"],
        ),
    ]
}
