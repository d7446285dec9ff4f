//! One channel: what was asked on it, what was published and not confirmed, what was delivered and not settled.

mod ending;

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::content::{Content, Purpose, Tagged};
use super::core::Core;
use super::method::Id;
use crate::decode::Sink;
use crate::decode::begun::Begun;
use crate::decode::fifo::Fifo;
use crate::model::queue::{Confirmation, Delivery, Message, QueueEvent, Settlement};
use crate::model::steps::step;
use crate::model::{Fingerprint, Nanos, OpKind, Outcome, Side, Sides, Sym};
use ending::end_publication;

/// Most requests without an answer, over all channels.
pub(super) const MAX_PENDING: usize = 2048;
/// Most publications without a confirmation, over all channels.
const MAX_WAITING: usize = 512;
/// Most deliveries that are not settled, over all channels.
const MAX_UNACKED: usize = 16_384;
/// Most consumers, over all channels.
const MAX_CONSUMERS: usize = 4096;
/// Most steps of one transaction.
const MAX_STEPS: usize = 1024;

/// What is special about a request's answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Special {
    /// Nothing.
    None,
    /// A consumer of this queue begins; the broker may name it.
    Consume(Consumer),
    /// A message, or none.
    Get { no_ack: bool },
    /// Everything unsettled is delivered again.
    Recover,
    /// A transaction ends.
    Commit,
    /// It is undone.
    Rollback,
    /// The channel is gone, or with it the connection.
    Close,
}

/// A request that awaits its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) what: Begun,
    pub(super) answer: Id,
    pub(super) special: Special,
}

/// Somebody who takes messages from a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Consumer {
    queue: Sym,
    no_ack: bool,
}

/// A publication that awaits its confirmation.
#[derive(Debug)]
struct Waiting {
    what: Begun,
    /// The broker could not route it.
    returned: bool,
    message: Option<Box<Message>>,
}

/// Whether the broker confirms what is published on a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Confirms {
    /// It does not, as far as is known.
    #[default]
    No,
    /// It does; the next publication has this number.
    From(u64),
    /// It does, and not every publication was seen.
    Unnumbered,
}

/// A message that is complete.
struct Come {
    message: Option<Message>,
    /// When its method was seen.
    begun: Nanos,
    /// It is a reply to one caller.
    direct: bool,
}

/// What a client says of deliveries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settles {
    pub(super) tag: u64,
    /// All up to this tag are meant.
    pub(super) multiple: bool,
    pub(super) how: Settlement,
}

/// A step of a transaction, which comes about at its end.
#[derive(Debug)]
enum Step {
    Publish(Waiting),
    Settle(u64, Settlement),
}

/// The channel.
#[derive(Debug, Default)]
pub(super) struct Channel {
    number: u16,
    pending: Fifo<Id, Pending>,
    /// On their way: from the client, from the server.
    coming: Sides<Option<Box<Content>>>,
    confirms: Confirms,
    /// Publications without a confirmation, by their numbers on the channel.
    waiting: VecDeque<(u64, Waiting)>,
    consumers: FxHashMap<Fingerprint, Consumer>,
    /// Tags of deliveries that are not settled, ascending.
    unacked: VecDeque<u64>,
    /// Steps of a transaction.
    steps: Option<Vec<Step>>,
}

impl Channel {
    /// A channel that was just opened, or is seen for the first time.
    pub(super) fn new(number: u16) -> Self {
        Self { number, ..Self::default() }
    }

    // === What the client asks ===

    /// A request. The caller has looked at how many there are.
    pub(super) fn ask(&mut self, pending: Pending, core: &mut Core) {
        core.n_pending += 1;
        self.pending.push(pending.answer, pending);
    }

    /// The latest request that awaits its answer.
    pub(super) fn last_asked(&mut self) -> Option<&mut Begun> {
        self.pending.back_mut().map(|p| &mut p.what)
    }

    /// The answer `id` has come; the request it answers.
    pub(super) fn answered(&mut self, id: Id, core: &mut Core) -> Option<Pending> {
        let pending = self.pending.take(id)?;
        core.n_pending = core.n_pending.saturating_sub(1);
        core.life.sound();
        Some(pending)
    }

    /// From now on the broker confirms what is published.
    pub(super) fn confirm(&mut self, core: &Core) {
        // Whether it did so before is not known of a connection that was not seen from its start.
        if self.confirms == Confirms::No {
            self.confirms = if core.life.is_whole() { Confirms::From(1) } else { Confirms::Unnumbered };
        }
    }

    /// From now on what is published and settled comes about with the transaction.
    pub(super) fn transact(&mut self) {
        self.steps.get_or_insert_default();
    }

    /// A consumer of `queue`.
    pub(super) fn consumer(queue: Sym, no_ack: bool) -> Consumer {
        Consumer { queue, no_ack }
    }

    /// It goes by this tag.
    pub(super) fn consume(&mut self, tag: &[u8], consumer: Consumer, core: &mut Core) {
        if !tag.is_empty() && core.n_consumers < MAX_CONSUMERS {
            let new = self.consumers.insert(core.salt.fingerprint(tag), consumer).is_none();
            core.n_consumers += usize::from(new);
        }
    }

    /// The consumer with this tag is no more.
    pub(super) fn cancel(&mut self, tag: &[u8], core: &mut Core) {
        if self.consumers.remove(&core.salt.fingerprint(tag)).is_some() {
            core.n_consumers = core.n_consumers.saturating_sub(1);
        }
    }

    /// What is delivered to this tag. Of a consumer that is not known: most want their messages confirmed.
    pub(super) fn delivers_to(&self, tag: &[u8], core: &Core) -> (Sym, bool) {
        let consumer = self.consumers.get(&core.salt.fingerprint(tag));
        consumer.map_or((Sym::EMPTY, true), |c| (c.queue, !c.no_ack))
    }

    // === Messages ===

    /// A message is on its way; none other is in the same direction.
    pub(super) fn comes(&mut self, from: Side, content: Box<Content>) {
        self.coming[from] = Some(content);
    }

    /// The message on its way in this direction.
    pub(super) fn coming(&mut self, from: Side) -> Option<&mut Box<Content>> {
        self.coming[from].as_mut()
    }

    /// It has come.
    pub(super) fn take(&mut self, from: Side) -> Option<Box<Content>> {
        self.coming[from].take()
    }

    /// What became of a message that is complete.
    pub(super) fn complete(&mut self, content: Box<Content>, at: Nanos, core: &mut Core, sink: &mut dyn Sink) {
        let (purpose, begun, direct) = (content.purpose, content.begun, content.direct);
        let come = Come { message: content.finish(at, core, sink), begun, direct };
        match purpose {
            Purpose::Publish => self.publish(come, at, core, sink),
            Purpose::Return => self.returned(come.message.as_ref(), at, sink),
            Purpose::Deliver { tagged, queue } => {
                let mut what = Begun::control(0, begun, sink.word("basic.deliver"));
                (what.kind, what.target) = (OpKind::Deliver, queue);
                self.deliver((what, tagged), come, at, core, sink);
            }
            Purpose::Got { what, tagged } => {
                self.deliver((what, tagged), come, at, core, sink);
                core.end(what.request, at, sink);
                core.rest(at, sink);
            }
        }
    }

    fn publish(&mut self, come: Come, at: Nanos, core: &mut Core, sink: &mut dyn Sink) {
        let Come { message, begun, direct } = come;
        let request = core.begin(at, message.as_ref().and_then(|m| m.print), sink);
        let mut what = Begun::control(request, begun, sink.word("basic.publish"));
        what.kind = if direct { OpKind::Data } else { OpKind::Publish };
        let message = message.map(|mut m| {
            m.request = request;
            (what.target, what.marker, what.proved) = (m.queue, m.marker, m.proved);
            marks(&m, request, sink);
            m
        });
        let message = message.filter(|_| !direct).map(Box::new);
        let number = match &mut self.confirms {
            Confirms::From(next) => {
                *next += 1;
                Some(*next - 1)
            }
            Confirms::No | Confirms::Unnumbered => None,
        };
        let waiting = Waiting { what, returned: false, message };
        if let Some(steps) = self.steps.as_mut().filter(|steps| steps.len() < MAX_STEPS)
            && core.n_waiting < MAX_WAITING
        {
            core.n_waiting += 1;
            steps.push(Step::Publish(waiting));
        } else if let Some(number) = number.filter(|_| self.steps.is_none()) {
            self.waiting.push_back((number, waiting));
            core.n_waiting += 1;
            if core.n_waiting > MAX_WAITING
                && let Some((_, oldest)) = self.waiting.pop_front()
            {
                core.n_waiting -= 1;
                end_publication(oldest, Outcome::Unknown, at, core, sink);
            }
        } else {
            end_publication(waiting, Outcome::Unknown, at, core, sink);
            core.rest(at, sink);
        }
    }

    fn returned(&mut self, message: Option<&Message>, at: Nanos, sink: &mut dyn Sink) {
        let mut what = Begun::control(0, at, sink.word("basic.return"));
        if let Some(m) = message {
            what.target = m.queue;
            let same = |w: &&mut Waiting| {
                !w.returned && w.message.as_ref().is_some_and(|w| (w.address, w.print) == (m.address, m.print))
            };
            // It is confirmed all the same, after this (rabbitmq.com/docs/confirms).
            if let Some(w) = self.waiting.iter_mut().inspect(|_| step()).map(|(_, w)| w).find(same) {
                w.returned = true;
                return;
            }
            let steps = self.steps.iter_mut().flatten().filter_map(|s| match s {
                Step::Publish(w) => Some(w),
                Step::Settle(..) => None,
            });
            if let Some(w) = steps.into_iter().find(|w| same(w)) {
                w.returned = true;
                return;
            }
        }
        what.tell(at, Outcome::Error, sink);
    }

    fn deliver(
        &mut self,
        (mut what, tagged): (Begun, Tagged),
        come: Come,
        at: Nanos,
        core: &mut Core,
        sink: &mut dyn Sink,
    ) {
        let (Come { message, direct, .. }, Tagged { tag, again, awaits_ack }) = (come, tagged);
        what.kind = if direct { OpKind::Data } else { OpKind::Deliver };
        if let Some(m) = &message {
            (what.marker, what.proved) = (m.marker, m.proved);
            if what.target == Sym::EMPTY {
                what.target = m.queue;
            }
        }
        core.life.sound();
        what.tell(at, Outcome::Ok, sink);
        let Some(message) = message.filter(|_| !direct) else { return };
        // Tags count up. A delivery whose tag does not is not followed, because its settlement would be ambiguous.
        let in_order = self.unacked.back().is_none_or(|last| *last < tag);
        let confirmation = if awaits_ack && in_order && core.n_unacked < MAX_UNACKED {
            self.unacked.push_back(tag);
            core.n_unacked += 1;
            Confirmation::Here(self.handle(tag))
        } else {
            Confirmation::None
        };
        sink.queue(QueueEvent::Delivered(Delivery { message, again, confirmation }));
    }

    /// Unique among the connection's deliveries that are not settled.
    fn handle(&self, tag: u64) -> u64 {
        u64::from(self.number) << 48 | tag & 0xffff_ffff_ffff
    }

    /// The channel is taken out of use.
    pub(super) fn forget(self, core: &mut Core) {
        core.n_consumers = core.n_consumers.saturating_sub(self.consumers.len());
    }

    /// Bytes held, over what is counted for the whole connection.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.pending.memory()
            + self.waiting.capacity() * size_of::<(u64, Waiting)>()
            + self.unacked.capacity() * size_of::<u64>()
            + self.steps.as_ref().map_or(0, |s| s.capacity() * size_of::<Step>())
            + self.consumers.capacity() * size_of::<(Fingerprint, Consumer)>()
    }
}

/// What a message carries may turn up again in the work done for it.
fn marks(m: &Message, request: u64, sink: &mut dyn Sink) {
    use crate::decode::Mark;
    for id in &m.traces {
        sink.mark(request, Side::Client, Mark::Trace(*id));
    }
    if sink.wants_values(Side::Client) {
        for value in &m.values {
            sink.mark(request, Side::Client, Mark::Value(*value));
        }
    }
}

/// A request, that nothing more is known of.
pub(super) fn pending(request: u64, at: Nanos, verb: Sym, answer: Id, special: Special) -> Pending {
    Pending { what: Begun::control(request, at, verb), answer, special }
}
