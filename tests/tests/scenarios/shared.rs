//! Through a shared process: services that take requests of both tenants and pool what is behind them. What runs, and
//! what must and may be found, is `tests::lab::cases`; here it is demanded.

use anyhow::{Context, Result, bail};
use tests::lab::agent::binary;
use tests::lab::cases::{Case, Twin};
use tests::lab::shared::Stage;

/// `NAME::with_N` for each case and number of requests in flight.
macro_rules! shared {
    ($($module:ident: $case:literal [$($with:ident = $n:literal),+];)+) => {$(
        mod $module {
            $(#[test]
            fn $with() {
                crate::shared::perform($case, $n, false);
            })+
        }
    )+};
    (encrypted: $($module:ident: $case:literal [$($with:ident = $n:literal),+];)+) => {$(
        mod $module {
            $(#[test]
            fn $with() {
                crate::shared::perform($case, $n, true);
            })+
        }
    )+};
}
pub(crate) use shared;

/// Plays a case and demands what it says of itself.
pub(crate) fn perform(name: &str, concurrency: u32, encrypted: bool) {
    let _seat = crate::room::enter(concurrency);
    let mut report = String::new();
    if let Err(error) = play(name, concurrency, encrypted, &mut report) {
        panic!("{name} with {concurrency}: {error:#}\n{report}");
    }
}

fn play(name: &str, concurrency: u32, encrypted: bool, report: &mut String) -> Result<()> {
    let case = Case::named(name).with_context(|| format!("no case {name}"))?;
    let kind = if encrypted { "-encrypted" } else { "" };
    let mut stage = Stage::new(case, concurrency, &format!("{name}-{concurrency}{kind}"))?;
    if encrypted {
        stage = stage.encrypted()?;
    }
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
    if case.twin == Twin::Clean {
        played.outcome.quiet()?;
    }
    Ok(())
}
