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

/// Different findings of the chosen time, one series each, as far as their labels tell them apart: not how often they hit.
pub(super) fn findings(limits: &[&str]) -> String {
    format!("{} > 0", total("cluster, node, rule, service, tenant", "leasewarden_findings_total", limits))
}

/// Nought, as long as an agent is there to say so: a figure that is missing means that nobody looked.
pub(super) fn or_nought(expr: &str) -> String {
    format!("({expr}) or (0 * count({}))", of("leasewarden_build_info", &[]))
}
