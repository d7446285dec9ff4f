//! Through a shared process: services that take requests of both tenants and pool what is behind them. What runs, and
//! what must and may be found, is `tests::lab::cases`; here it is demanded.

use anyhow::{Context, Result, bail};
use tests::lab::agent::binary;
use tests::lab::cases::{Case, Twin};
use tests::lab::shared::Stage;

/// How a case is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// As it is.
    Clear,
    /// In TLS.
    Encrypted,
    /// The agent comes later than the connections.
    Late,
}

/// `NAME::with_N` for each case and number of requests in flight.
macro_rules! shared {
    (@$how:ident $($module:ident: $case:literal [$($with:ident = $n:literal),+];)+) => {$(
        mod $module {
            $(#[test]
            fn $with() {
                crate::shared::perform($case, $n, crate::shared::How::$how);
            })+
        }
    )+};
    (encrypted: $($cases:tt)+) => {
        crate::shared::shared!(@Encrypted $($cases)+);
    };
    (late: $($cases:tt)+) => {
        crate::shared::shared!(@Late $($cases)+);
    };
    ($($cases:tt)+) => {
        crate::shared::shared!(@Clear $($cases)+);
    };
}
pub(crate) use shared;

/// Plays a case and demands what it says of itself.
pub(crate) fn perform(name: &str, concurrency: u32, how: How) {
    let _seat = crate::room::enter(concurrency);
    let mut report = String::new();
    if let Err(error) = play(name, concurrency, how, &mut report) {
        panic!("{name} with {concurrency}: {error:#}\n{report}");
    }
}

fn play(name: &str, concurrency: u32, how: How, report: &mut String) -> Result<()> {
    let case = Case::named(name).with_context(|| format!("no case {name}"))?;
    let stage = |kind: &str| Stage::new(case, concurrency, &format!("{name}-{concurrency}{kind}"));
    let mut stage = match how {
        How::Clear => stage("")?,
        How::Encrypted => stage("-encrypted")?.encrypted()?,
        How::Late => stage("-late")?.late(),
    };
    stage.counts = how == How::Late;
    let played = stage.play(&binary()?, false).inspect_err(|_| *report = stage.scene.report())?;
    let judged = case.judge(concurrency, &played.outcome.findings);
    if !judged.false_positives.is_empty() {
        bail!("{} findings are not true\n{}", judged.false_positives.len(), played.outcome);
    }
    // What no basis can know is shown by `cargo xtask accuracy`, not demanded.
    let demanded = !case.blind_together || concurrency == 1;
    if demanded && !judged.missed.is_empty() {
        bail!("not found: {}\n{}", judged.missed.join("; "), played.outcome);
    }
    match (case.twin, how) {
        (Twin::Violating, _) => Ok(()),
        // Not for having seen nothing.
        (Twin::Clean, How::Late) => played.outcome.silent(),
        (Twin::Clean, _) => played.outcome.quiet(),
    }
}
