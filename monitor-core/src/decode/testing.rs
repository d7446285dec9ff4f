//! What the tests of decoders share: a [`Lexicon`] that is told what to answer, and a record of what was told.

use smallvec::SmallVec;

use super::{Emitter, Lexicon, WireEvent};
use crate::model::mcp::Sender;
use crate::model::queue::{Message, QueueEvent};
use crate::model::token::Token;
use crate::model::{Claim, MarkerPlace, OpKind, Operation, Protocol, Side, Slot, Sym, TenantId};

/// Answers as a test wants it; knows nobody by default.
struct Words {
    claim: fn(&str) -> Claim,
    setting_binds: fn(&str) -> bool,
    marker: fn(MarkerPlace, &str, &str) -> Claim,
    values: bool,
    names: Vec<String>,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            claim: |_| Claim::Neutral,
            setting_binds: |_| false,
            marker: |_, _, _| Claim::Neutral,
            values: false,
            names: Vec::new(),
        }
    }
}

impl Lexicon for Words {
    fn claim(&mut self, _: Slot, _: &str, value: &str) -> Claim {
        (self.claim)(value)
    }
    fn setting_binds(&self, name: &str) -> bool {
        (self.setting_binds)(name)
    }
    fn marker(&mut self, place: MarkerPlace, name: &str, value: &str) -> Claim {
        (self.marker)(place, name, value)
    }
    fn wants_values(&self, _: Side) -> bool {
        self.values
    }
    fn wants_cached(&self) -> bool {
        false
    }
    fn intern(&mut self, name: &str) -> Sym {
        if name.is_empty() {
            return Sym::EMPTY;
        }
        let n = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        Sym(u32::try_from(n).unwrap() + 2)
    }
    fn word(&mut self, word: &'static str) -> Sym {
        self.intern(word)
    }
    fn token(&mut self, _: &str, _: &str) -> Option<Token> {
        None
    }
    fn canaries(&mut self, _: &str) -> SmallVec<[TenantId; 1]> {
        SmallVec::new()
    }
    fn sender(&self) -> Sender {
        Sender::default()
    }
    fn speaks(&mut self, _: Protocol) {}
}

/// What a decoder has told.
#[derive(Default)]
pub(crate) struct Told {
    words: Words,
    pub(crate) events: Vec<WireEvent>,
}

impl Told {
    /// Asked whom a value in a slot names, it says this.
    pub(crate) fn claiming(mut self, claim: fn(&str) -> Claim) -> Self {
        self.words.claim = claim;
        self
    }

    /// Asked whether a setting of a name binds, it says this.
    pub(crate) fn binding(mut self, setting_binds: fn(&str) -> bool) -> Self {
        self.words.setting_binds = setting_binds;
        self
    }

    /// Asked whom a marker of a name and a value names, it says this.
    pub(crate) fn marking(mut self, marker: fn(MarkerPlace, &str, &str) -> Claim) -> Self {
        self.words.marker = marker;
        self
    }

    /// Values are of use to it.
    pub(crate) fn with_values(mut self) -> Self {
        self.words.values = true;
        self
    }

    /// Where a decoder tells it to.
    pub(crate) fn sink(&mut self) -> Emitter<'_> {
        Emitter { lexicon: &mut self.words, events: &mut self.events, before: 0 }
    }

    /// A name as it was heard; that of nothing is empty.
    pub(crate) fn name(&self, name: Sym) -> &str {
        self.words.names.get((name.0 as usize).wrapping_sub(2)).map_or("", String::as_str)
    }

    /// The events that a test looks at, each as a line. What went wrong is a line in every test.
    pub(crate) fn lines(&self, of: impl Fn(&WireEvent) -> Option<String>) -> Vec<String> {
        let fault = |event: &WireEvent| match event {
            WireEvent::Disturbed { why, .. } => Some(why.name().to_owned()),
            WireEvent::Opaque { why, .. } => Some((*why).to_owned()),
            WireEvent::DecodeError(error) => Some(error.to_string()),
            WireEvent::UnmatchedReply { .. } => Some("unmatched".to_owned()),
            _ => None,
        };
        self.events.iter().filter_map(|event| of(event).or_else(|| fault(event))).collect()
    }

    pub(crate) fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.events.iter().filter_map(|e| if let WireEvent::Done(op) = e { Some(op) } else { None })
    }

    pub(crate) fn kinds(&self) -> Vec<OpKind> {
        self.operations().map(|op| op.kind).collect()
    }

    /// What happened to messages.
    pub(crate) fn queue(&self) -> Vec<&QueueEvent> {
        self.events.iter().filter_map(|e| if let WireEvent::Queue(event) = e { Some(&**event) } else { None }).collect()
    }

    /// The messages that were published or delivered.
    pub(crate) fn messages(&self) -> Vec<&Message> {
        let all = self.queue().into_iter().filter_map(|event| match event {
            QueueEvent::Published(m) => Some(m),
            QueueEvent::Delivered(d) => Some(&d.message),
            _ => None,
        });
        all.collect()
    }
}
