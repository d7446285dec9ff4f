//! Which metrics, labels and label values a PromQL expression names, and which labels its result has.

use std::collections::{BTreeMap, BTreeSet};

use monitor::metrics;
use monitor_core::model::{EvidenceClass, Severity, Verdict};
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, MatrixSelector, VectorSelector, parse,
};

/// Labels that the scrape adds: `instance` and `job` by Prometheus, the others by configuration (dashboards/README.md).
const OF_THE_SCRAPE: [&str; 4] = ["cluster", "node", "instance", "job"];

/// What there is.
pub(crate) struct Known {
    /// Metrics and their labels.
    metrics: BTreeMap<String, BTreeSet<String>>,
    /// Labels with a fixed set of values.
    values: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

/// What an expression names, and what its result is labelled with.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Labels that the result can have.
    pub(crate) labels: BTreeSet<String>,
    /// Metrics that are named, histograms by their family.
    pub(crate) metrics: BTreeSet<String>,
    /// Selectors that a value of the result can come from: metric, and what labels have to match.
    pub(crate) sources: Vec<(String, BTreeMap<String, String>)>,
}

impl Output {
    pub(crate) fn has(&self, label: &str) -> bool {
        self.labels.contains(label)
    }

    /// Takes over what `other` names; its values do not reach the result.
    fn names(&mut self, other: Self) {
        self.metrics.extend(other.metrics);
    }

    fn joins(mut self, other: Self) -> Self {
        self.labels.extend(other.labels);
        self.metrics.extend(other.metrics);
        self.sources.extend(other.sources);
        self
    }
}

impl Known {
    /// The agent's registry, its process' metrics, and what every scrape has.
    pub(crate) fn of_the_agent() -> Self {
        let mut known = BTreeMap::new();
        let with = |labels: &[&str]| -> BTreeSet<String> {
            labels.iter().chain(&OF_THE_SCRAPE).map(|l| (*l).to_owned()).collect()
        };
        for metric in metrics::ALL {
            if metric.kind == metrics::Kind::Histogram {
                let bucket: Vec<&str> = metric.labels.iter().copied().chain(["le"]).collect();
                known.insert(format!("{}_bucket", metric.name), with(&bucket));
                known.insert(format!("{}_sum", metric.name), with(metric.labels));
                known.insert(format!("{}_count", metric.name), with(metric.labels));
            } else {
                known.insert(metric.name.to_owned(), with(metric.labels));
            }
        }
        // Really in the registry, not only written down.
        let rendered = metrics::Metrics::new().and_then(|m| m.render()).unwrap_or_else(|e| panic!("no metrics: {e}"));
        for line in rendered.lines().filter_map(|l| l.strip_prefix("# TYPE process_")) {
            let name = line.split_whitespace().next().unwrap_or_default();
            known.insert(format!("process_{name}"), with(&[]));
        }
        known.insert("up".to_owned(), with(&[]));
        let classes = [EvidenceClass::Wire, EvidenceClass::Endpoint, EvidenceClass::Inferred];
        let values = BTreeMap::from([
            ("verdict", Verdict::ALL.iter().map(|v| v.name()).collect()),
            ("severity", Severity::ALL.iter().map(|s| s.name()).collect()),
            ("evidence_class", classes.iter().map(|c| c.name()).collect()),
            ("class", BTreeSet::from(["decoded", "opaque", "truncated", "lost"])),
        ]);
        Self { metrics: known, values }
    }

    /// What an expression names.
    ///
    /// # Errors
    /// It does not parse, or names a metric, label or value that there is not.
    pub(crate) fn check(&self, expr: &str) -> Result<Output, String> {
        let parsed = parse(expr).map_err(|e| format!("does not parse: {e}: {expr}"))?;
        self.expr(&parsed).map_err(|e| format!("{e}: {expr}"))
    }

    fn expr(&self, expr: &Expr) -> Result<Output, String> {
        match expr {
            Expr::Aggregate(a) => self.aggregate(a),
            Expr::Unary(u) => self.expr(&u.expr),
            Expr::Binary(b) => self.binary(b),
            Expr::Paren(p) => self.expr(&p.expr),
            Expr::Subquery(s) => self.expr(&s.expr),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(Output::default()),
            Expr::VectorSelector(v) | Expr::MatrixSelector(MatrixSelector { vs: v, .. }) => self.selector(v),
            Expr::Call(c) => self.call(c),
            Expr::Extension(_) => Err("an extension".to_owned()),
        }
    }

    fn aggregate(&self, a: &AggregateExpr) -> Result<Output, String> {
        let mut inner = self.expr(&a.expr)?;
        // `topk` keeps labels, whatever it groups by.
        let keeps = matches!(a.op.to_string().as_str(), "topk" | "bottomk");
        let by: BTreeSet<String> = match &a.modifier {
            Some(LabelModifier::Include(l)) => l.labels.iter().cloned().collect(),
            Some(LabelModifier::Exclude(l)) => inner.labels.iter().filter(|i| !l.labels.contains(i)).cloned().collect(),
            None => BTreeSet::new(),
        };
        known_labels(&by, &inner)?;
        if !keeps {
            inner.labels = by;
        }
        Ok(inner)
    }

    fn binary(&self, b: &BinaryExpr) -> Result<Output, String> {
        let (mut left, right) = (self.expr(&b.lhs)?, self.expr(&b.rhs)?);
        let modifier = b.modifier.as_ref();
        if let Some(LabelModifier::Include(on)) = modifier.and_then(|m| m.matching.as_ref()) {
            let on: BTreeSet<String> = on.labels.iter().cloned().collect();
            known_labels(&on, &left)?;
            known_labels(&on, &right)?;
        }
        match b.op.to_string().as_str() {
            "or" => return Ok(left.joins(right)),
            "and" | "unless" => left.names(right),
            _ => {
                let grouped = modifier.and_then(|m| m.card.labels()).map(|l| l.labels.clone()).unwrap_or_default();
                known_labels(&grouped.iter().cloned().collect(), &right)?;
                left.labels.extend(grouped);
                // A number has no labels; the other side's are the result's.
                if left.labels.is_empty() {
                    left.labels.clone_from(&right.labels);
                }
                left.metrics.extend(right.metrics);
                left.sources.extend(right.sources);
            }
        }
        Ok(left)
    }

    fn call(&self, c: &Call) -> Result<Output, String> {
        let mut out = Output::default();
        for argument in &c.args.args {
            out = out.joins(self.expr(argument)?);
        }
        match c.func.name {
            "histogram_quantile" if !out.labels.remove("le") => {
                return Err("histogram_quantile without the label le".to_owned());
            }
            "histogram_quantile" => {}
            "label_replace" => {
                if let Some(Expr::StringLiteral(made)) = c.args.args.get(1).map(|a| &**a) {
                    out.labels.insert(made.val.clone());
                }
                if let Some(Expr::StringLiteral(from)) = c.args.args.get(3).map(|a| &**a)
                    && !out.has(&from.val)
                {
                    return Err(format!("no label {}", from.val));
                }
            }
            "absent" | "vector" => out.labels.clear(),
            _ => {}
        }
        Ok(out)
    }

    fn selector(&self, v: &VectorSelector) -> Result<Output, String> {
        let name = v.name.as_deref().ok_or("a selector without a name")?;
        let labels = self.metrics.get(name).ok_or_else(|| format!("no metric {name}"))?;
        for m in &v.matchers.matchers {
            if !labels.contains(&m.name) {
                return Err(format!("no label {} at {name}", m.name));
            }
            self.value(m)?;
        }
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let matched = v.matchers.matchers.iter().filter(|m| matches!(m.op, MatchOp::Equal | MatchOp::Re(_)));
        Ok(Output {
            labels: labels.clone(),
            metrics: BTreeSet::from([family.to_owned()]),
            sources: vec![(name.to_owned(), matched.map(|m| (m.name.clone(), m.value.clone())).collect())],
        })
    }

    fn value(&self, m: &Matcher) -> Result<(), String> {
        let Some(values) = self.values.get(m.name.as_str()) else { return Ok(()) };
        let wrong = m.value.split('|').find(|v| !matches!(*v, "" | ".+" | ".*") && !values.contains(v));
        wrong.map_or(Ok(()), |v| Err(format!("no value {v} of {}", m.name)))
    }
}

fn known_labels(named: &BTreeSet<String>, of: &Output) -> Result<(), String> {
    named.iter().find(|l| !of.has(l)).map_or(Ok(()), |l| Err(format!("no label {l}")))
}
