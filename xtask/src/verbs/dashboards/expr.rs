//! Pieces of PromQL that the dashboards share.

/// Verdicts of a use for which nothing on the wire proved the tenant anew, or which was bound to another.
pub(super) const UNPROVED: &str = "verdict=~\"unbound|reset-only|stale-bound\"";
/// What a page is worth: evidence from the wire or from both endpoints' labels, severity high or critical.
pub(super) const PAGES: &str = "severity=~\"high|critical\", evidence_class=~\"wire|endpoint\"";

/// A metric of the chosen clusters and nodes, further limited.
pub(super) fn of(metric: &str, limits: &[&str]) -> String {
    let mut all = vec!["cluster=~\"$cluster\"", "node=~\"$node\""];
    all.extend(limits);
    format!("{metric}{{{}}}", all.join(", "))
}

/// Sum of rates, by labels.
pub(super) fn rate(by: &str, metric: &str, limits: &[&str]) -> String {
    format!("sum by ({by}) (rate({}[$__rate_interval]))", of(metric, limits))
}

/// How much a counter rose over the chosen time, by labels. `increase` alone misses what a series began with: a finding
/// that happened once would not be counted at all.
pub(super) fn total(by: &str, metric: &str, limits: &[&str]) -> String {
    let m = of(metric, limits);
    let began = format!("(min_over_time({m}[$__range]) unless {m} offset $__range)");
    format!("sum by ({by}) ((increase({m}[$__range]) + {began}) or increase({m}[$__range]) or {began})")
}

/// What tells one kind of findings from another.
pub(super) const KINDS: &str = "severity, rule, service, tenant, bound, evidence_class, cluster, node";

/// What the agents last said of a kind of findings, where one of them was seen in the chosen time. An agent that has been
/// replaced meanwhile still counts with what it said last.
fn of_those_seen(metric: &str, limits: &[&str]) -> String {
    let last = |metric| format!("last_over_time({}[$__range])", of(metric, limits));
    format!(
        "({} and ({} > time() - $__range_s))",
        last(metric),
        last("leasewarden_finding_last_seen_timestamp_seconds")
    )
}

/// How many different findings there are, by labels, of the kinds that were seen in the chosen time; not how often they hit.
pub(super) fn findings(by: &str, limits: &[&str]) -> String {
    format!("sum by ({by}) (max by ({KINDS}) {})", of_those_seen("leasewarden_findings_kept", limits))
}

/// When the first of each kind was seen and when the last, in milliseconds since the epoch as Grafana has it.
pub(super) fn seen(limits: &[&str]) -> [String; 2] {
    [("min", "first"), ("max", "last")].map(|(pick, end)| {
        let metric = format!("leasewarden_finding_{end}_seen_timestamp_seconds");
        format!("1000 * {pick} by ({KINDS}) {}", of_those_seen(&metric, limits))
    })
}

/// Nought, as long as an agent is there to say so: a figure that is missing means that nobody looked.
pub(super) fn or_nought(expr: &str) -> String {
    format!("({expr}) or (0 * count({}))", of("leasewarden_build_info", &[]))
}
