//! Checks of `entitlements`, `canaries` and `locks`, and the files they name.

use std::collections::HashMap;

use monitor_core::decode::canary::{MAX_CANARIES, MAX_CANARY, MIN_CANARY};
use monitor_core::model::settings::{Canary, Entitlement};

use super::Check;
use crate::config::file;
use crate::config::located::Located;
use crate::config::problem::Pos;
use crate::tools::lock::{self, Lock};
use crate::tools::signing::{PublicKey, Worth};

/// Largest key file that is read, in bytes.
const MAX_KEY: u64 = 64 << 10;

impl Check<'_> {
    pub(super) fn entitlements(&mut self, entitlements: Vec<file::Entitlement>) {
        for (i, entry) in entitlements.into_iter().enumerate() {
            let path = format!("entitlements[{i}]");
            self.name(&entry.tenant, format!("{path}.tenant"));
            if let Some(service) = &entry.service {
                self.name(service, format!("{path}.service"));
            }
            for (j, tool) in entry.tools.iter().enumerate() {
                let name = tool.strip_suffix('*').unwrap_or(tool);
                if tool.trim().is_empty() || name.contains('*') {
                    let message = format!("expected a tool's name, with a `*` at its end only, found `{}`", tool.value);
                    self.problem(tool.at, format!("{path}.tools[{j}]"), message);
                }
            }
            self.config.settings.entitlements.push(Entitlement {
                tenant: entry.tenant.value,
                service: entry.service.map(|s| s.value),
                tools: entry.tools.into_iter().map(|t| t.value).collect(),
            });
        }
    }

    /// No message repeats a value.
    pub(super) fn canaries(&mut self, canaries: Vec<Located<file::Canary>>) {
        let mut known: HashMap<String, (String, Pos)> = HashMap::new();
        if let Some(first) = canaries.get(MAX_CANARIES) {
            self.problem(first.at, "canaries", format!("expected at most {MAX_CANARIES} canaries"));
        }
        for (i, Located { at, value: entry }) in canaries.into_iter().enumerate() {
            let path = format!("canaries[{i}]");
            self.name(&entry.tenant, format!("{path}.tenant"));
            let (at, value, path) = match (entry.value, entry.value_file) {
                (Some(value), None) => (value.at, value.value.0, format!("{path}.value")),
                (None, Some(file)) => {
                    let path = format!("{path}.value_file");
                    // Room for a line's end.
                    let Some(text) = self.text_of(&file, &path, MAX_CANARY as u64 + 2) else { continue };
                    let value = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
                    (file.at, value.to_owned(), path)
                }
                (Some(_), Some(file)) => {
                    self.problem(file.at, path, "expected `value` or `value_file`, found both");
                    continue;
                }
                (None, None) => {
                    if self.whole {
                        self.problem(at, path, "expected `value` or `value_file`");
                    }
                    continue;
                }
            };
            if !(MIN_CANARY..=MAX_CANARY).contains(&value.len()) {
                let message = format!("expected a value of {MIN_CANARY} to {MAX_CANARY} bytes, found {}", value.len());
                self.problem(at, path, message);
                continue;
            }
            match known.get(&value) {
                Some((owner, first)) if *owner != entry.tenant.value => {
                    let message = format!("the same value is tenant `{owner}`'s canary (line {})", first.line);
                    self.problem(at, path, message);
                }
                _ => {
                    known.insert(value.clone(), (entry.tenant.value.clone(), at));
                }
            }
            self.config.settings.canaries.push(Canary { tenant: entry.tenant.value, value });
        }
    }

    pub(super) fn locks(&mut self, locks: &[Located<String>], keys: &[Located<String>]) {
        let mut public = Vec::new();
        for (i, name) in keys.iter().enumerate() {
            let path = format!("lock_keys[{i}]");
            let Some(text) = self.text_of(name, &path, MAX_KEY) else { continue };
            match PublicKey::from_pem(&text) {
                Ok(key) => public.push(key),
                Err(why) => self.problem(name.at, path, format!("{}: {why}", name.value)),
            }
        }
        for (i, name) in locks.iter().enumerate() {
            let path = format!("locks[{i}]");
            let Some(text) = self.text_of(name, &path, lock::MAX_FILE) else { continue };
            let lock = match Lock::parse(&text) {
                Ok(lock) => lock,
                Err(error) => {
                    self.problem(name.at, path, format!("{}:{}: {}", name.value, error.line, error.message));
                    continue;
                }
            };
            let worth = lock.check(&public);
            match worth {
                Worth::Bad => {
                    let message = format!("{}: its signature is not its content's: it was changed", name.value);
                    self.problem(name.at, path, message);
                }
                Worth::NoKey if !keys.is_empty() => {
                    self.warn(name.at, path, format!("{}: signed by none of `lock_keys`", name.value));
                }
                Worth::NoKey | Worth::Unsigned | Worth::Good => {}
            }
            self.config.settings.locks.extend(lock.locked(worth == Worth::Good));
        }
    }
}
