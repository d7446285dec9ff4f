//! Bases and headers.

use monitor_core::model::{BasisPolicy, HeaderPolicy};

use super::Check;
use crate::config::file;
use crate::config::located::Located;

impl Check<'_> {
    pub(super) fn attribution(&mut self, attribution: file::Attribution) {
        if let Some(on) = attribution.bases {
            self.config.settings.bases = BasisPolicy {
                trace: on.trace_id,
                bracketed: on.bracketed,
                value: on.value_flow,
                thread: on.same_thread,
                succession: on.succession,
                only_tenant: on.only_tenant,
            };
        }
        if let Some(headers) = attribution.headers {
            let default = HeaderPolicy::default();
            let mut list = |names: Option<Vec<Located<String>>>, key: &str, default: Vec<String>| match names {
                Some(names) => self.headers(&names, key),
                None => default,
            };
            let tenant = list(headers.tenant, "tenant", default.tenant);
            let credential = list(headers.credential, "credential", default.credential);
            let trace = list(headers.trace, "trace", default.trace);
            let baggage = list(headers.baggage, "baggage", default.baggage);
            self.config.settings.headers = HeaderPolicy { tenant, credential, trace, baggage };
        }
    }

    fn headers(&mut self, names: &[Located<String>], key: &str) -> Vec<String> {
        for (i, name) in names.iter().enumerate() {
            // A token, as RFC 9110 §5.6.2 has it.
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) {
                let message = format!("expected the name of a header, found `{}`", name.value);
                self.problem(name.at, format!("attribution.headers.{key}[{i}]"), message);
            }
        }
        names.iter().map(|n| n.to_lowercase()).collect()
    }
}
