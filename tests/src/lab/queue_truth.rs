//! What producers and workers of a queue know of their own work: whose job is which, and what came of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

/// A job, as the worker has done it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Names the job.
    pub reference: String,
    /// Rows that it got, by the tenant that they belong to.
    pub rows: BTreeMap<String, u64>,
    /// The broker told the worker that it had been delivered before.
    pub again: bool,
}

impl Done {
    /// Reads the worker's file; a line without its end is one being written.
    ///
    /// # Errors
    /// When a line is something else.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| {
                let value: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
                let rows = value.get("rows").and_then(Value::as_object).context("no rows")?;
                Ok(Self {
                    reference: value.get("ref").and_then(Value::as_str).context("no ref")?.to_owned(),
                    rows: rows.iter().map(|(k, v)| (k.clone(), v.as_u64().unwrap_or(0))).collect(),
                    again: value.get("again").and_then(Value::as_bool).unwrap_or(false),
                })
            })
            .collect()
    }
}

/// Everything that was published and done.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Whose each job is.
    pub published: BTreeMap<String, String>,
    /// What was done, in order.
    pub done: Vec<Done>,
}

impl Truth {
    /// Jobs that are published and not done.
    #[must_use]
    pub fn open(&self) -> usize {
        let done: BTreeSet<&str> = self.done.iter().map(|d| d.reference.as_str()).collect();
        self.published.keys().filter(|r| !done.contains(r.as_str())).count()
    }

    /// Rows that jobs of `tenant`, or of anybody, got of somebody else.
    #[must_use]
    pub fn foreign(&self, tenant: Option<&str>) -> u64 {
        let whose = |done: &Done| self.published.get(&done.reference).map(String::as_str);
        let of_whom = |done: &&Done| tenant.is_none() || whose(done) == tenant;
        self.done
            .iter()
            .filter(of_whom)
            .map(|done| done.rows.iter().filter(|(t, _)| Some(t.as_str()) != whose(done)).map(|(_, n)| n).sum::<u64>())
            .sum()
    }

    /// Jobs that were done twice, the second time with the broker's word that it is the second.
    #[must_use]
    pub fn twice(&self) -> usize {
        let mut seen = BTreeSet::new();
        self.done.iter().filter(|done| !seen.insert(done.reference.as_str()) && done.again).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_rows_are_those_of_others_than_the_producer() {
        let done = Done::parse(concat!(
            "{\"ref\":\"a\",\"rows\":{\"acme\":3},\"again\":false}\n",
            "{\"ref\":\"g\",\"rows\":{\"acme\":2,\"globex\":1},\"again\":false}\n",
            "{\"ref\":\"a\",\"rows\":{},\"again\":true}\n",
            "{\"ref\":\"unfini",
        ))
        .unwrap();
        let published = [("a", "acme"), ("g", "globex"), ("h", "globex")];
        let truth = Truth { published: published.map(|(r, t)| (r.to_owned(), t.to_owned())).into(), done };
        assert_eq!((truth.foreign(Some("acme")), truth.foreign(Some("globex")), truth.foreign(None)), (0, 2, 2));
        assert_eq!((truth.open(), truth.twice()), (1, 1));
    }
}
