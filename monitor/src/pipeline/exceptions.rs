//! The end of an exception is told: its findings come again.

use monitor_core::model::Nanos;
use monitor_core::model::settings::Suppression;

/// Tells, in the log, of those that have ended after `since` and up to `now`.
pub(super) fn ended(all: &[Suppression], since: Nanos, now: Nanos) {
    for s in all.iter().filter(|s| since < s.until && s.until <= now) {
        tracing::warn!("{}", words(s));
    }
}

fn words(s: &Suppression) -> String {
    let of = |what: &str, value: &Option<String>| value.as_ref().map(|v| format!("{what} {v}"));
    let named = [
        of("service", &s.service),
        of("tenant", &s.tenant),
        of("finding", &s.finding),
        of("owner", &s.owner),
        of("ticket", &s.ticket),
    ];
    let named: Vec<String> = named.into_iter().flatten().collect();
    let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    format!("the suppression of `{}`{named} has expired: its findings come again", s.rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_names_who_answers_for_it() {
        let mut s = Suppression {
            rule: "cache-key-unscoped".into(),
            service: Some("flags".into()),
            tenant: None,
            finding: None,
            reason: "global".into(),
            owner: Some("team-a".into()),
            ticket: Some("OPS-1".into()),
            until: Nanos(5),
        };
        assert_eq!(
            words(&s),
            "the suppression of `cache-key-unscoped` (service flags, owner team-a, ticket OPS-1) has expired: its \
             findings come again"
        );
        (s.service, s.owner, s.ticket) = (None, None, None);
        assert_eq!(words(&s), "the suppression of `cache-key-unscoped` has expired: its findings come again");
    }
}
