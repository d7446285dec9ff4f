//! Checks of `tokens`, and the keys it names.

use std::time::Duration;

use monitor_core::decode::token::{Verifier, names_no_tenant};
use monitor_core::model::{Nanos, Salt};

use super::Check;
use crate::config::file;
use crate::config::located::Located;

/// Largest file of keys that is read, in bytes.
const MAX_KEYS: u64 = 1 << 20;
/// Longest lifetime that may be asked for.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 366 * 86_400);

impl Check<'_> {
    pub(super) fn tokens(&mut self, tokens: file::Tokens) {
        let mut read = Vec::new();
        for (i, name) in tokens.keys.iter().enumerate() {
            if let Some(text) = self.text_of(name, &format!("tokens.keys[{i}]"), MAX_KEYS) {
                self.config.settings.tokens.keys.push(text);
                read.push((i, name));
            }
        }
        // What is wrong is what the verifier cannot use. It names no value.
        let (_, problems) = Verifier::new(&self.config.settings.tokens, Salt(0, 0));
        for p in problems {
            let Some((i, name)) = read.get(p.document) else { continue };
            self.problem(name.at, format!("tokens.keys[{i}]"), format!("{}:{}: {}", name.value, p.line, p.message));
        }
        if let Some(claims) = tokens.tenant_claims {
            for (i, claim) in claims.iter().enumerate() {
                self.tenant_claim(claim, format!("tokens.tenant_claims[{i}]"));
            }
            self.config.settings.tokens.tenant_claims = claims.into_iter().map(|c| c.value).collect();
        }
        for (service, accepted) in tokens.audiences.0 {
            let path = format!("tokens.audiences.{}", service.value);
            self.name(&service, path.clone());
            for (i, audience) in accepted.iter().enumerate() {
                if audience.trim().is_empty() {
                    self.problem(audience.at, format!("{path}[{i}]"), "expected an audience, found empty text");
                }
            }
            let accepted = accepted.into_iter().map(|a| a.value).collect();
            self.config.settings.tokens.audiences.push((service.value, accepted));
        }
        if let Some(text) = tokens.max_lifetime {
            match humantime::parse_duration(&text) {
                Ok(d) if (Duration::from_secs(1)..=MAX_LIFETIME).contains(&d) => {
                    self.config.settings.tokens.max_lifetime = Nanos::secs(d.as_secs());
                }
                _ => {
                    let message =
                        format!("expected a duration from 1s to 10years, such as `15m`, found `{}`", text.value);
                    self.problem(text.at, "tokens.max_lifetime", message);
                }
            }
        }
    }

    fn tenant_claim(&mut self, claim: &Located<String>, path: String) {
        if claim.trim().is_empty() {
            self.problem(claim.at, path, "expected the name of a claim, found empty text");
        } else if names_no_tenant(claim) {
            let message = format!("`{}` names an application or a receiver, never the tenant", claim.value);
            self.problem(claim.at, path, message);
        } else if let Some((before, last)) = claim.split_once('*') {
            let namespaced = before.ends_with("://") && last.len() > 1 && last.starts_with('/');
            if !namespaced || last.contains('*') {
                let message = "expected a claim's name, or a pattern such as `https://*/tenant`";
                self.problem(claim.at, path, format!("{message}, found `{}`", claim.value));
            }
        }
    }
}
