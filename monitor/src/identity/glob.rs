//! Globs on cgroup paths. A match covers everything nested below it.

use globset::{GlobBuilder, GlobMatcher};

/// A glob on the path below the cgroup v2 root.
#[derive(Clone, Debug)]
pub struct CgroupGlob {
    matcher: GlobMatcher,
}

impl CgroupGlob {
    /// Parses a glob such as `/tenants/*/agent` or `/tenants/acme/**`.
    ///
    /// # Errors
    /// What is wrong with it, as text.
    pub fn new(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("expected a path below the cgroup v2 root, beginning with `/`, found `{text}`"));
        }
        // A match covers what is nested anyway, so `/x/**` and `/x` are the same.
        let mut base = text.trim_end_matches('/');
        while let Some(rest) = base.strip_suffix("/**") {
            base = rest.trim_end_matches('/');
        }
        let base = if base.is_empty() { "/**" } else { base };
        let glob = GlobBuilder::new(base)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|e| format!("bad glob `{text}`: {}", e.kind()))?;
        Ok(Self { matcher: glob.compile_matcher() })
    }

    /// The outermost directory on `path` that the glob matches; `None`: it covers nothing of the path.
    pub fn covers<'p>(&self, path: &'p str) -> Option<&'p str> {
        super::path::prefixes(path).find(|prefix| self.matcher.is_match(prefix))
    }
}
