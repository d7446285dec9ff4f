//! Every metric, declared once: name, kind, labels, meaning. Registration, `docs/metrics.md` and the dashboards' test
//! all read this list.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A metric's declaration.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Info {
    /// Full name.
    pub name: &'static str,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal $kind:ident [$($label:literal),*];)*) => {
        /// A metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric {
            $($(#[doc = $doc])* $variant,)*
        }

        /// Every metric, in the order of [`Metric`].
        pub const ALL: &[Info] = &[
            $(Info {
                name: concat!("leasewarden_", $name),
                kind: Kind::$kind,
                labels: &[$($label),*],
                // The doc comment is the help text; a comment's leading space is not part of it.
                help: concat!($($doc),*).trim_ascii_start(),
            },)*
        ];
    };
}

metrics! {
    /// Hits of rules that were not suppressed: a finding counts once each time it happens. `tenant`: for whom the connection
    /// was used; `bound`: whose it was, the victim.
    FindingsTotal = "findings_total" Counter ["rule", "severity", "evidence_class", "service", "tenant", "bound"];
    /// Different findings that the agent keeps and no suppression silences, however often each was hit.
    FindingsKept = "findings_kept" Gauge ["rule", "severity", "evidence_class", "service", "tenant", "bound"];
    /// When the first of these findings was seen first, in seconds since the epoch.
    FindingFirstSeen = "finding_first_seen_timestamp_seconds" Gauge ["rule", "severity", "evidence_class", "service", "tenant", "bound"];
    /// When one of these findings was seen last, in seconds since the epoch.
    FindingLastSeen = "finding_last_seen_timestamp_seconds" Gauge ["rule", "severity", "evidence_class", "service", "tenant", "bound"];
    /// Hits that a suppression kept silent (`suppressed`), and findings that were forgotten to make room for new ones, those
    /// quiet for longest first (`table_full`).
    FindingsUnreportedTotal = "findings_unreported_total" Counter ["reason"];
    /// Suppressions of the configuration, by whether they hold (`active`) or have ended (`expired`).
    Suppressions = "suppressions" Gauge ["state"];
    /// When the next suppression of a rule that holds now ends, in seconds since the epoch.
    SuppressionNextExpiry = "suppression_next_expiry_timestamp_seconds" Gauge ["rule"];
    /// Whether the latest attempt to read the configuration was successful (1) or the agent runs by an older one (0).
    ConfigLastReloadSuccessful = "config_last_reload_successful" Gauge [];
    /// When the configuration was last read successfully, in seconds since the epoch.
    ConfigLastReloadSuccessTimestamp = "config_last_reload_success_timestamp_seconds" Gauge [];
    /// 48 bits of the digest of the configuration's text: equal on agents that run by equal texts.
    ConfigHash = "config_hash" Gauge [];
    /// Attempts to read the configuration, the first one at the start, by result: success, failure.
    ConfigReloadsTotal = "config_reloads_total" Counter ["result"];
    /// Decoded operations, by what the ledger says of them.
    OperationsTotal = "operations_total" Counter ["service", "protocol", "kind", "verdict"];
    /// Data operations on a connection whose previous data operation was another tenant's.
    TenantSwitchesTotal = "tenant_switches_total" Counter ["service", "protocol", "verdict"];
    /// Data operations for a known tenant, by what the ledger says of them.
    TenantOperationsTotal = "tenant_operations_total" Counter ["service", "protocol", "tenant", "verdict"];
    /// Acknowledged bindings, by the tenant that they named.
    TenantBindingsTotal = "tenant_bindings_total" Counter ["service", "protocol", "tenant"];
    /// Distinct tenants seen at a service in the last hour.
    SharedServiceTenants = "shared_service_tenants" Gauge ["service", "protocol"];
    /// Connections followed, by what can be read of them.
    Flows = "flows" Gauge ["state"];
    /// Payload bytes, by what became of them: decoded, opaque (unknown protocol), opaque_tls (TLS that is not read), truncated at capture, lost, of connections not followed (dropped to make room).
    CoverageBytesTotal = "coverage_bytes_total" Counter ["class"];
    /// Bytes of TLS that is not read, by why (docs/decisions/0032): a part of all payload.
    TlsUnreadBytesTotal = "tls_unread_bytes_total" Counter ["reason"];
    /// TLS connections that were read, or why they were not.
    TlsConnectionsTotal = "tls_connections_total" Counter ["result"];
    /// Bytes on the wire of TLS to a service, where TLS is to be read: `read`, or why they were not.
    TlsServiceBytesTotal = "tls_service_bytes_total" Counter ["service", "result"];
    /// TLS connections to a service, where TLS is to be read: `read`, or why they were not.
    TlsServiceConnectionsTotal = "tls_service_connections_total" Counter ["service", "result"];
    /// Open connections that would be read if they were opened anew, by why they are not; `/services` says whose they are.
    TlsRestartConnections = "tls_restart_connections" Gauge ["service", "reason"];
    /// Captured TCP segments, as the watched socket sees them.
    CaptureSegmentsTotal = "capture_segments_total" Counter ["direction"];
    /// Captured payload bytes, as the watched socket sees them.
    CaptureBytesTotal = "capture_bytes_total" Counter ["direction"];
    /// Events that were not delivered or not kept, by where and why.
    EventsLostTotal = "events_lost_total" Counter ["stage", "reason"];
    /// Malformed protocol input.
    DecodeErrorsTotal = "decode_errors_total" Counter ["protocol", "kind"];
    /// Times a connection's state became unknown: joined mid-stream, bytes missing, malformed input.
    FlowDisturbancesTotal = "flow_disturbances_total" Counter ["kind"];
    /// What each basis said of the units of work of shared processes: `spoke`, or why it abstained.
    AttributionBasesTotal = "attribution_bases_total" Counter ["basis", "result"];
    /// Times a rule had not enough to tell: silence, not safety.
    RuleInsufficientTotal = "rule_insufficient_total" Counter ["rule", "reason"];
    /// Whether every source of this kind has told what it knows at least once (1) or not (0).
    IdentitySynced = "identity_synced" Gauge ["source"];
    /// Whether a source of this kind cannot be asked now (1): what it told last still holds, and may be out of date.
    IdentityStale = "identity_stale" Gauge ["source"];
    /// What sources of identity have told of, by kind of things.
    IdentityObjects = "identity_objects" Gauge ["source", "kind"];
    /// Containers that events waited for, by how that ended: labelled, timeout, overflow.
    IdentityWaitsTotal = "identity_waits_total" Counter ["result"];
    /// Things told by sources of identity that found no room.
    IdentityOverflowTotal = "identity_overflow_total" Counter [];
    /// Whether a kernel hook is attached (1) or its coverage is lost (0).
    HookAttached = "hook_attached" Gauge ["hook"];
    /// Functions of TLS libraries that are probed now; only where `tls.enabled` is set, as all of these.
    TlsProbes = "tls_probes" Gauge [];
    /// Processes whose TLS is to be read, and that were looked at.
    TlsProcesses = "tls_processes" Gauge [];
    /// Files that such processes run and that hold TLS, by whether their function is probed (`probed`) or why not: several may
    /// be it (`ambiguous`), none was found (`none`), the kernel refuses (`refused`), it cannot be read (`unreadable`), it
    /// was called and never told a secret (`silent`), or it is Java's (`java`).
    TlsFiles = "tls_files" Gauge ["result"];
    /// Calls of probed functions by such processes: a secret was delivered, it was none that is of use (`other`), it could not
    /// be read (`unreadable`), or there was no room (`lost`).
    TlsSecretsTotal = "tls_secrets_total" Counter ["result"];
    /// Run time of a kernel program, while the kernel's BPF statistics are on.
    BpfRunSecondsTotal = "bpf_run_seconds_total" Counter ["program"];
    /// Runs of a kernel program, while the kernel's BPF statistics are on.
    BpfRunsTotal = "bpf_runs_total" Counter ["program"];
    /// Findings for an OpenTelemetry collector: sent, or dropped and why (queue_full, refused, rejected, shutdown).
    OtlpRecordsTotal = "otlp_records_total" Counter ["result"];
    /// Requests to an OpenTelemetry collector: ok, refused, or tried again and why (busy, timeout, unreachable).
    OtlpRequestsTotal = "otlp_requests_total" Counter ["result"];
    /// Seconds from the kernel time of the last byte to the finding.
    DetectionDelaySeconds = "detection_delay_seconds" Histogram [];
    /// Entries of a bounded table.
    TableEntries = "table_entries" Gauge ["table"];
    /// Most entries of a bounded table.
    TableLimit = "table_limit" Gauge ["table"];
    /// 1; what is running is in the labels.
    BuildInfo = "build_info" Gauge ["version", "revision", "kernel"];
}

impl Metric {
    /// Its declaration.
    pub fn info(self) -> &'static Info {
        // The enum and the list come from one macro: the index is always in range.
        ALL.get(self as usize).unwrap_or(&UNDECLARED)
    }
}

const UNDECLARED: Info = Info { name: "leasewarden_undeclared", kind: Kind::Gauge, labels: &[], help: "" };

/// The list as JSON, with a final newline.
pub fn json() -> String {
    let mut text = serde_json::to_string_pretty(ALL).unwrap_or_default();
    text.push('\n');
    text
}

/// The list as `docs/metrics.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Metrics\n\nServed in the Prometheus text format on `/metrics` of `export.listen`. This page is generated from the\n\
         declarations in the code (`cargo xtask docs`).\n\n\
         Label values are bounded: at most `limits.tenants` tenants and `limits.services` services are told apart, further\n\
         ones share `_other`. Absent ones are empty. Of pairs of service and tenant 4096 are told apart.\n\n\
         The agent's own process is told by the usual names: `process_cpu_seconds_total`, `process_resident_memory_bytes`,\n\
         `process_virtual_memory_bytes`, `process_open_fds`, `process_max_fds`, `process_threads`,\n\
         `process_start_time_seconds`.\n\n\
         | Metric | Type | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for m in ALL {
        let kind = format!("{:?}", m.kind).to_lowercase();
        let labels = if m.labels.is_empty() { "—".to_owned() } else { m.labels.join(", ") };
        out.push_str(&format!("| `{}` | {kind} | {labels} | {} |\n", m.name, m.help));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_current() {
        crate::testing::assert_current("docs/metrics.md", &markdown());
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = std::collections::HashSet::new();
        for m in ALL {
            assert!(seen.insert(m.name), "{} is declared twice", m.name);
            assert_eq!(m.kind == Kind::Counter, m.name.ends_with("_total"), "{}", m.name);
            assert!(!m.help.is_empty() && m.help.ends_with(['.', 's', 'd', 'g']), "{}", m.name);
        }
        assert_eq!(Metric::BuildInfo.info().name, "leasewarden_build_info");
        assert_eq!(Metric::FindingsTotal.info().name, "leasewarden_findings_total");
    }
}
