//! Dramatiq's one script, told by its arguments: one key, the namespace, then a command, the time and a queue, and what the
//! command is about from the ninth on (Dramatiq 2.2, `brokers/redis/dispatch.lua`).

use crate::model::queue::Settlement;

/// Where a command's own arguments begin.
const OWN: u64 = 12;
/// Longest name of a queue that is kept.
const MAX_TEXT: usize = 256;

/// What the script is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// A message is added.
    Add,
    /// Messages are taken.
    Take,
    /// These are done with.
    End(Settlement),
    /// It looks after its queues.
    Other,
}

/// One call, as far as its arguments have come.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    one_key: bool,
    timed: bool,
    order: Option<Order>,
    queue: Vec<u8>,
}

impl Dispatch {
    pub(super) fn reset(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        queue.clear();
        *self = Self { queue, ..Self::default() };
    }

    /// Argument `index`: 2 is the number of keys.
    pub(super) fn argument(&mut self, index: u64, text: &[u8]) {
        match index {
            2 => self.one_key = text == b"1",
            3 if text.len() <= MAX_TEXT => self.queue.extend_from_slice(text),
            4 if self.one_key => {
                self.order = match text {
                    b"enqueue" => Some(Order::Add),
                    b"fetch" => Some(Order::Take),
                    b"ack" => Some(Order::End(Settlement::Done)),
                    b"nack" => Some(Order::End(Settlement::Dropped)),
                    b"requeue" => Some(Order::End(Settlement::Returned)),
                    b"purge" | b"qsize" => Some(Order::Other),
                    _ => None,
                }
            }
            // Milliseconds since 1970.
            5 => self.timed = text.len() == 13 && text.iter().all(u8::is_ascii_digit),
            6 if self.order.is_some() && text.len() <= MAX_TEXT => {
                self.queue.push(b':');
                self.queue.extend_from_slice(text);
            }
            _ => {}
        }
    }

    /// What it is told to do, if it is this script.
    pub(super) fn order(&self) -> Option<Order> {
        self.order.filter(|_| self.timed)
    }

    /// Namespace and name of the queue.
    pub(super) fn queue(&self) -> &[u8] {
        &self.queue
    }

    /// Whether argument `index` is the message that is added.
    pub(super) fn is_job(&self, index: u64) -> bool {
        index == OWN + 1 && self.order() == Some(Order::Add)
    }

    /// How the message ends that argument `index` names.
    pub(super) fn ends(&self, index: u64) -> Option<Settlement> {
        match self.order() {
            Some(Order::End(how)) if index >= OWN => Some(how),
            _ => None,
        }
    }
}
