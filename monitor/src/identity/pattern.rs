//! Path patterns that name a tenant: `tenant-{tenant}.slice`, `/tenants/{tenant}/`.

use super::path::{UNIT_SUFFIXES, unescape};

const PLACE: &str = "{tenant}";

/// A pattern with `{tenant}` once, compared with one directory name or with consecutive ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantPattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Tenant { before: String, after: String },
}

impl TenantPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// What is wrong with it, as text.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.matches(PLACE).count() != 1 {
            return Err(format!("expected a pattern with `{PLACE}` once, such as `tenant-{PLACE}.slice`"));
        }
        let segments: Vec<Segment> = text
            .split('/')
            .filter(|s| !s.is_empty())
            .map(|s| match s.split_once(PLACE) {
                Some((before, after)) => Segment::Tenant { before: before.to_owned(), after: after.to_owned() },
                None => Segment::Literal(s.to_owned()),
            })
            .collect();
        match segments.as_slice() {
            [Segment::Tenant { before, after }] if before.is_empty() && after.is_empty() => {
                Err("would take every directory name for a tenant; expected something around `{tenant}`".to_owned())
            }
            _ => Ok(Self { segments }),
        }
    }

    /// The patterns used unless the configuration has its own.
    pub fn defaults() -> Vec<Self> {
        ["tenant-{tenant}.slice", "tenants-{tenant}.slice", "tenant-{tenant}", "/tenants/{tenant}/"]
            .iter()
            .filter_map(|p| Self::new(p).ok())
            .collect()
    }

    /// The tenant that `path` names. The outermost match counts: systemd nests `tenant-acme-web.slice` in
    /// `tenant-acme.slice`, and that is a part of acme's. (A tenant with a dash in its name is written
    /// `tenant-acme\x2deast.slice`, as systemd escapes it.)
    pub fn tenant(&self, path: &str) -> Option<String> {
        let names: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        names.windows(self.segments.len()).find_map(|window| {
            let mut found = None;
            for (segment, name) in self.segments.iter().zip(window) {
                match segment {
                    Segment::Literal(literal) if literal == name => {}
                    Segment::Literal(_) => return None,
                    Segment::Tenant { before, after } => {
                        let inner = name.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?;
                        found = Some(self.clean(inner)?);
                    }
                }
            }
            found
        })
    }

    /// The tenant's name as it is meant. `tenant-{tenant}` does not take `tenant-api.service` for a tenant: a unit is
    /// named by its pattern's own suffix. Below a directory of tenants the suffix says nothing and is dropped.
    fn clean(&self, inner: &str) -> Option<String> {
        let unit = UNIT_SUFFIXES.iter().find_map(|s| inner.strip_suffix(s));
        let name = match unit {
            Some(stem) if self.segments.len() > 1 => stem,
            Some(_) => return None,
            None => inner,
        };
        (!name.is_empty()).then(|| unescape(name))
    }
}
