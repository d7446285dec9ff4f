//! A finding as a log record, and records as a request.
//!
//! Neither evidence nor anything that came over a wire is in a record: it says what was found, where and how often; the
//! evidence is in `export.findings` and on `/findings`.

use monitor_core::detect::FindingEvent;
use monitor_core::model::{Finding, Nanos, Severity};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::Origin;
use super::queue::Frame;
use crate::export::time::rfc3339;

/// What every record's `event_name` is.
pub(super) const EVENT: &str = "leasewarden.finding";

const NAME: &str = "leasewarden";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `ExportLogsServiceRequest.resource_logs`, field 1, and `ResourceLogs.scope_logs`, field 2: with a length before
/// them, as protobuf writes their keys.
const RESOURCE_LOGS: u8 = 1 << 3 | 2;
const SCOPE_LOGS: u8 = 2 << 3 | 2;

fn value(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn text(key: &str, of: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value(Value::StringValue(of.to_owned())), ..KeyValue::default() }
}

fn number(key: &str, of: u64) -> KeyValue {
    let of = i64::try_from(of).unwrap_or(i64::MAX);
    KeyValue { key: key.to_owned(), value: value(Value::IntValue(of)), ..KeyValue::default() }
}

/// `FATAL` is a crash in OpenTelemetry's words: a finding, however bad, is none.
fn severity(of: Severity) -> SeverityNumber {
    match of {
        Severity::Critical => SeverityNumber::Error4,
        Severity::High => SeverityNumber::Error,
        Severity::Medium => SeverityNumber::Warn,
        Severity::Low => SeverityNumber::Info2,
        Severity::Info => SeverityNumber::Info,
    }
}

fn event(of: FindingEvent) -> &'static str {
    match of {
        FindingEvent::New => "new",
        FindingEvent::Repeated => "repeated",
        FindingEvent::Ended => "ended",
    }
}

fn record(f: &Finding, what: FindingEvent, observed: Nanos) -> LogRecord {
    let mut attributes = vec![
        text("leasewarden.finding.id", &f.id),
        text("leasewarden.finding.event", event(what)),
        number("leasewarden.finding.count", f.count),
        text("leasewarden.finding.first_seen", &rfc3339(f.first_seen)),
        text("leasewarden.rule", f.rule),
        text("leasewarden.severity", f.severity.name()),
        text("leasewarden.evidence_class", f.class.name()),
        text("leasewarden.remediation", f.remediation),
    ];
    let mut add = |key: &str, of: Option<&str>| {
        attributes.extend(of.filter(|v| !v.is_empty()).map(|v| text(key, v)));
    };
    add("leasewarden.tenant.use", f.tenants.used.as_deref());
    add("leasewarden.tenant.bound", f.tenants.bound.as_deref());
    add("leasewarden.workload.name", Some(&f.workload.name));
    add("leasewarden.workload.cgroup", f.workload.cgroup.as_deref());
    if let Some(owner) = &f.workload.owner {
        add("leasewarden.workload.owner.kind", Some(&owner.kind));
        add("leasewarden.workload.owner.name", Some(&owner.name));
        // The names that OpenTelemetry has for them, where there is a pod.
        add("k8s.namespace.name", owner.namespace.as_deref().filter(|_| f.workload.pod.is_some()));
        add("k8s.pod.name", f.workload.pod.as_deref());
    }
    if let Some(service) = &f.service {
        add("leasewarden.service.name", Some(&service.name));
        add("leasewarden.service.protocol", Some(service.protocol));
        add("leasewarden.service.address", service.address.map(|a| a.to_string()).as_deref());
    }
    LogRecord {
        time_unix_nano: f.last_seen.0,
        observed_time_unix_nano: observed.0,
        severity_number: severity(f.severity).into(),
        severity_text: f.severity.name().to_owned(),
        body: value(Value::StringValue(f.message.clone())),
        attributes,
        event_name: EVENT.to_owned(),
        ..LogRecord::default()
    }
}

/// One record, encoded as a `ScopeLogs` that holds nothing else: protobuf joins messages by putting their bytes one
/// after the other.
pub(super) fn frame(f: &Finding, what: FindingEvent, observed: Nanos) -> Frame {
    let alone = ScopeLogs { log_records: vec![record(f, what, observed)], ..ScopeLogs::default() };
    alone.encode_to_vec().into()
}

/// What every request begins with, encoded.
#[derive(Debug)]
pub(super) struct Head {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl Head {
    pub(super) fn new(origin: &Origin) -> Self {
        let mut attributes = vec![text("service.name", NAME), text("service.version", VERSION)];
        for (key, of) in
            [("host.name", &origin.host), ("k8s.node.name", &origin.node), ("k8s.cluster.name", &origin.cluster)]
        {
            attributes.extend((!of.is_empty()).then(|| text(key, of)));
        }
        let resource = Resource { attributes, ..Resource::default() };
        let scope = InstrumentationScope { name: NAME.to_owned(), version: VERSION.to_owned(), ..Default::default() };
        Self {
            resource: ResourceLogs { resource: Some(resource), ..ResourceLogs::default() }.encode_to_vec(),
            scope: ScopeLogs { scope: Some(scope), ..ScopeLogs::default() }.encode_to_vec(),
        }
    }

    /// An `ExportLogsServiceRequest` with these records.
    pub(super) fn request(&self, batch: &[Frame]) -> Vec<u8> {
        let in_scope = self.scope.len() + batch.iter().map(|f| f.len()).sum::<usize>();
        let in_resource = self.resource.len() + 1 + prost::length_delimiter_len(in_scope) + in_scope;
        let mut out = Vec::with_capacity(1 + prost::length_delimiter_len(in_resource) + in_resource);
        begin(RESOURCE_LOGS, in_resource, &mut out);
        out.extend_from_slice(&self.resource);
        begin(SCOPE_LOGS, in_scope, &mut out);
        out.extend_from_slice(&self.scope);
        for frame in batch {
            out.extend_from_slice(frame);
        }
        out
    }
}

fn begin(key: u8, length: usize, out: &mut Vec<u8>) {
    out.push(key);
    // Fails only where the buffer cannot grow.
    let _ = prost::encode_length_delimiter(length, out);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;

    use super::*;
    use crate::export::sample;

    const OBSERVED: Nanos = Nanos(1_795_219_300_000_000_000);

    fn shown(of: &[KeyValue]) -> Vec<(String, String)> {
        let one = |kv: &KeyValue| match kv.value.clone().and_then(|v| v.value) {
            Some(Value::StringValue(s)) => s,
            Some(Value::IntValue(n)) => n.to_string(),
            other => panic!("{other:?}"),
        };
        of.iter().map(|kv| (kv.key.clone(), one(kv))).collect()
    }

    #[test]
    fn joined_bytes_are_the_request_that_the_types_make() {
        let origin = Origin { host: "node-7".into(), node: "node-7".into(), ..Origin::default() };
        let mut second = sample::finding();
        second.message = "x".repeat(20_000);
        let batch =
            [frame(&sample::finding(), FindingEvent::New, OBSERVED), frame(&second, FindingEvent::Repeated, OBSERVED)];
        let bytes = Head::new(&origin).request(&batch);
        let read = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
        assert_eq!(read.resource_logs.len(), 1);
        let logs = read.resource_logs.first().unwrap();
        let resource = shown(&logs.resource.as_ref().unwrap().attributes);
        let version = env!("CARGO_PKG_VERSION");
        let expected = [
            ("service.name", "leasewarden"),
            ("service.version", version),
            ("host.name", "node-7"),
            ("k8s.node.name", "node-7"),
        ];
        assert_eq!(resource, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(logs.scope_logs.len(), 1);
        let scope = logs.scope_logs.first().unwrap();
        assert_eq!(scope.scope.as_ref().unwrap().name, "leasewarden");
        assert_eq!(
            scope.log_records,
            [
                record(&sample::finding(), FindingEvent::New, OBSERVED),
                record(&second, FindingEvent::Repeated, OBSERVED)
            ]
        );
        assert_eq!(read.encoded_len(), bytes.len());
    }

    #[test]
    fn a_record_says_what_was_found_and_no_evidence() {
        let r = record(&sample::finding(), FindingEvent::New, OBSERVED);
        assert_eq!((r.time_unix_nano, r.observed_time_unix_nano), (1_795_219_201_123_456_000, OBSERVED.0));
        assert_eq!((r.severity_number, r.severity_text.as_str()), (SeverityNumber::Error4.into(), "critical"));
        assert_eq!(r.event_name, "leasewarden.finding");
        assert_eq!(r.body, value(Value::StringValue("globex used a connection that was still bound to acme".into())));
        let expected = [
            ("leasewarden.finding.id", "6c1f"),
            ("leasewarden.finding.event", "new"),
            ("leasewarden.finding.count", "3"),
            ("leasewarden.finding.first_seen", "2026-11-21T00:00:00.123456Z"),
            ("leasewarden.rule", "pool-stale-binding"),
            ("leasewarden.severity", "critical"),
            ("leasewarden.evidence_class", "endpoint"),
            ("leasewarden.remediation", "Bind per unit of work."),
            ("leasewarden.tenant.use", "globex"),
            ("leasewarden.tenant.bound", "acme"),
            ("leasewarden.workload.name", "mcp-gateway"),
            ("leasewarden.workload.cgroup", "/shared/gateway"),
            ("leasewarden.service.name", "orders-db"),
            ("leasewarden.service.protocol", "postgres"),
            ("leasewarden.service.address", "127.0.0.1:5432"),
        ];
        assert_eq!(shown(&r.attributes), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert!(!format!("{r:?}").contains("SELECT"), "evidence stays here");
    }

    #[test]
    fn what_is_absent_is_left_out_and_severities_keep_their_order() {
        let mut f = sample::finding();
        f.tenants = Default::default();
        f.workload = Default::default();
        f.service = None;
        assert_eq!(record(&f, FindingEvent::Ended, OBSERVED).attributes.len(), 8);
        let mut levels = Severity::ALL;
        levels.sort();
        let numbers = levels.map(|s| i32::from(severity(s)));
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert!(numbers.iter().all(|n| *n < i32::from(SeverityNumber::Fatal)));
    }
}
