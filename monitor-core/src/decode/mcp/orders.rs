//! Orders to a model, told by their structure: what is to be ignored, whom not to tell, what to read and where to send it,
//! whose other tool to change. Words alone ("all customers", `/etc/passwd`, "important") stand in manuals, too.

mod everybody;
mod overriding;
mod phrases;
mod reading;
mod role;
mod secrecy;
mod sending;
mod sentence;
mod tools;

use smallvec::SmallVec;

use crate::model::mcp::Pattern;
use everybody::orders_everybody;
use overriding::overrides;
use phrases::{ADDRESSED, CHANGES_TOOLS, ELSEWHERE, TAGS, WORDS};
use reading::{bulk, reads};
use role::changes_role;
use secrecy::{is_quiet, keeps_secret};
use sending::{SEND, literal_target, passes, says_result};
use sentence::{Word, each_sentence, has, is_any, split};
use tools::{MODAL, names_other_tool, speaks_of_use_before};

/// What a sentence holds.
#[derive(Clone, Copy, Default)]
struct Traits {
    overrides: bool,
    keeps_secret: bool,
    /// Somebody is not to be told or asked: may be said of what the tool does.
    quiet: bool,
    /// Reads a file of secrets.
    reads_file: bool,
    /// Reads something else that is secret, or everything.
    reads: bool,
    /// Sends something to an address that is told.
    sends: bool,
    /// Passes what was read as an argument.
    passes: bool,
    /// Says what another tool must do, to an address that is told.
    shadows: bool,
    /// Orders something about everybody's data.
    everybody: bool,
}

/// What is suspicious in a text in lower case with single blanks.
pub(super) fn orders(text: &str, out: &mut SmallVec<[Pattern; 1]>) {
    let holds = |all: &[&str]| all.iter().any(|p| memchr::memmem::find(text.as_bytes(), p.as_bytes()).is_some());
    let tagged = holds(TAGS);
    let addressed = holds(ADDRESSED);
    let (mut all, mut before_file, mut before) = (Traits::default(), false, false);
    let mut before_tool = false;
    let mut exfiltrates = false;
    let mut words: SmallVec<[Word<'_>; 64]> = SmallVec::new();
    each_sentence(text, &mut |sentence, quoted| {
        words.clear();
        split(sentence, text, quoted, &mut words);
        let t = traits(&words);
        let file = t.reads_file || before_file;
        exfiltrates |=
            (t.sends && (file || t.reads || before || (t.everybody && says_result(&words)))) || (t.passes && file);
        before_tool |= (t.reads_file || (t.reads && t.passes)) && speaks_of_use_before(&words);
        (before_file, before) = (t.reads_file, t.reads);
        all.overrides |= t.overrides;
        all.keeps_secret |= t.keeps_secret;
        all.quiet |= t.quiet;
        all.reads_file |= t.reads_file;
        all.reads |= t.reads;
        all.sends |= t.sends;
        all.passes |= t.passes;
        all.shadows |= t.shadows;
        all.everybody |= t.everybody;
    });
    let context = tagged || addressed || all.quiet || all.keeps_secret;
    exfiltrates |= context && all.reads && (all.passes || all.sends);
    let acts = exfiltrates || all.reads_file || all.shadows || (all.everybody && (all.sends || all.quiet));
    let instructs = all.overrides || all.keeps_secret || holds(ELSEWHERE) || (context && acts);
    let others = all.shadows || before_tool || holds(CHANGES_TOOLS);
    let crosses = all.everybody
        && (all.sends
            || instructs
            || addressed
            || holds(&["ignore the tenant", "without the tenant filter", "remove the tenant filter"]));
    let only_told = documents(text);
    let mut push = |is: bool, pattern: Pattern| {
        if is && !out.contains(&pattern) {
            out.push(pattern);
        }
    };
    let strong = instructs || others || exfiltrates || crosses;
    push(!only_told && instructs, Pattern::Instructions);
    push(!only_told && others, Pattern::OtherTools);
    push(!only_told && exfiltrates, Pattern::Exfiltration);
    push(!only_told && crosses, Pattern::CrossTenant);
    let weak = holds(WORDS) || tagged || all.everybody || all.reads_file || (only_told && strong);
    push(weak && (only_told || !strong), Pattern::Words);
}

/// Whether a text speaks about such orders instead of giving one.
fn documents(text: &str) -> bool {
    let has = |all: &[&str]| all.iter().any(|p| memchr::memmem::find(text.as_bytes(), p.as_bytes()).is_some());
    has(&[
        "prompt injection",
        "prompt-injection",
        "jailbreak",
        "tool poisoning",
        "injection attack",
        "injection attempt",
    ]) && has(&[
        "attacker",
        "attack",
        "owasp",
        "mitigat",
        "detect",
        "defen",
        "guard",
        "threat",
        "adversar",
        "sanitiz",
        "sanitis",
        "vulnerab",
        "untrusted",
        "red team",
        "classif",
        "malicious",
        "for example",
        "such as",
    ])
}

fn traits(words: &[Word<'_>]) -> Traits {
    let (reads_file, reads) = reads(words);
    let to = literal_target(words);
    let sends = to && words.iter().any(|w| !w.quoted && is_any(w.text, SEND));
    Traits {
        overrides: overrides(words) || changes_role(words),
        keeps_secret: keeps_secret(words),
        quiet: is_quiet(words),
        reads_file,
        reads: reads || bulk(words),
        sends,
        passes: passes(words),
        shadows: to && names_other_tool(words) && has(words, MODAL),
        everybody: orders_everybody(words),
    }
}
