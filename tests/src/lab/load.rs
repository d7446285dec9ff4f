//! A tenant's HTTP client on a shared service: keep-alive connections with one request in flight on each.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::certificate::Certificate;
use super::containers::Home;
use super::python::{Packages, program};
use super::talk::Talk;

/// What a client got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Got {
    /// Requests that were answered.
    pub n_answers: u64,
    /// Requests that it gave up.
    pub n_gave_up: u64,
    /// Rows that came back, by the tenant that they belong to.
    pub rows: BTreeMap<String, u64>,
}

impl Got {
    /// Rows that belong to somebody else.
    #[must_use]
    pub fn foreign(&self, own: &str) -> u64 {
        self.rows.iter().filter(|(tenant, _)| *tenant != own).map(|(_, n)| n).sum()
    }

    /// Takes over what came later.
    pub fn add(&mut self, other: &Self) {
        self.n_answers += other.n_answers;
        self.n_gave_up += other.n_gave_up;
        for (tenant, n) in &other.rows {
            *self.rows.entry(tenant.clone()).or_default() += n;
        }
    }

    fn parse(value: &Value) -> Result<Self> {
        let count = |v: Option<&Value>| v.and_then(Value::as_u64).with_context(|| format!("no count: {value}"));
        let rows = value.pointer("/rows").and_then(Value::as_object).context("no rows")?;
        Ok(Self {
            n_answers: count(value.pointer("/answers"))?,
            n_gave_up: count(value.pointer("/gave_up"))?,
            rows: rows.iter().map(|(k, v)| Ok((k.clone(), count(Some(v))?))).collect::<Result<_>>()?,
        })
    }
}

/// A client that waits for orders.
#[derive(Debug)]
pub struct Load {
    talk: Talk,
    /// Everything that it got so far.
    got: Got,
}

/// How a client is run.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// The service's port on 127.0.0.1.
    pub port: u16,
    /// The tenant's bearer token.
    pub token: &'a str,
    /// Connections.
    pub workers: u32,
    /// A `traceparent` header in each request.
    pub traced: bool,
    /// The token is the cookie of a session.
    pub cookie: bool,
    /// The service's, where it speaks TLS.
    pub certificate: Option<&'a Certificate>,
}

impl Load {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(name: &str, home: impl Into<Home>, how: How<'_>, logs: &Path) -> Result<Self> {
        let launch = program(name, Packages::Current, "load.py")?
            .arg(how.port.to_string())
            .arg(how.token)
            .args(["--workers", &how.workers.to_string()])
            .args(how.traced.then_some("--trace"))
            .args(how.cookie.then_some("--cookie"))
            .envs(how.certificate.iter().flat_map(|c| c.environment()));
        Ok(Self { talk: Talk::start(launch.home(home.into()), name, logs)?, got: Got::default() })
    }

    /// Lets each connection carry out these steps so often; does not wait. With `patience_ms`, a request that takes
    /// longer is given up and its connection closed.
    ///
    /// # Errors
    /// When it has gone.
    pub fn order(&mut self, rounds: u32, steps: &[&str], patience_ms: Option<u32>) -> Result<()> {
        self.talk.order(&json!({ "rounds": rounds, "steps": steps, "hang_up": patience_ms }))
    }

    /// Waits until the last order is carried out.
    ///
    /// # Errors
    /// When a request failed.
    pub fn done(&mut self) -> Result<Got> {
        let got = Got::parse(&self.talk.answer()?)?;
        self.got.add(&got);
        Ok(got)
    }

    /// [`Self::order`] and [`Self::done`].
    ///
    /// # Errors
    /// As these.
    pub fn ask(&mut self, rounds: u32, steps: &[&str], patience_ms: Option<u32>) -> Result<Got> {
        self.order(rounds, steps, patience_ms)?;
        self.done()
    }

    /// Ends it; gives everything that it got.
    ///
    /// # Errors
    /// When it failed.
    pub fn finish(self) -> Result<Got> {
        self.talk.finish()?;
        Ok(self.got)
    }
}
