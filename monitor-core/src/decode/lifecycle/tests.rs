//! The life cycle on a protocol of single bytes.

use super::*;
use crate::decode::WireEvent;
use crate::decode::testing::Told;
use crate::model::Fingerprint;

/// A protocol of single bytes: the client asks (`?`), the server answers (`!`), `[` begins a body that goes on until
/// `]`; nothing else means anything.
struct Toy {
    life: Life,
    asked: u64,
    waiting: u64,
    inside: Sides<bool>,
}

impl Toy {
    fn decoder(mid_stream: bool) -> Lifecycle<Self> {
        let talk = Self { life: Life::new(mid_stream), asked: 0, waiting: 0, inside: Sides::default() };
        Lifecycle::new(talk, ())
    }
}

impl Conversation for Toy {
    const PROTOCOL: Protocol = Protocol::Unknown;
    const MAX_WANDERED: Option<u64> = Some(100);
    type Frames = ();

    fn life(&self) -> &Life {
        &self.life
    }
    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }
    fn opens(&self, _: Side, bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|b| matches!(b, b'?' | b'!'))
    }
    fn read(&mut self, (): &mut (), from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) -> Result<(), Fault> {
        for b in chunk.bytes {
            match (b, from) {
                (b'?', Side::Client) => {
                    self.asked += 1;
                    self.waiting += 1;
                    sink.begun(self.asked, chunk.at, None);
                }
                (b'!', Side::Server) if self.waiting > 0 => {
                    self.waiting -= 1;
                    self.life.sound();
                    sink.answered(self.asked - self.waiting, chunk.at, Some(Fingerprint(1)));
                }
                (b'[', _) => self.inside[from] = true,
                (b']', _) => self.inside[from] = false,
                (b'x', _) => self.lose(DecodeError::Message.into(), chunk.at, sink),
                (b'.', _) => self.leave(Some("left"), chunk.at, sink),
                _ => return Err(DecodeError::BadFrame.into()),
            }
        }
        Ok(())
    }
    fn skip(&mut self, (): &mut (), from: Side, _: u64, _: Nanos, _: &mut dyn Sink) -> Result<(), Fault> {
        if self.inside[from] { Ok(()) } else { Err(Fault::Gap) }
    }
    fn forget(&mut self, (): &mut (), from: Side, _: End, _: Nanos, _: &mut dyn Sink) {
        self.inside[from] = false;
    }
    fn abandon(&mut self, _: End, at: Nanos, sink: &mut dyn Sink) {
        for n in 0..std::mem::take(&mut self.waiting) {
            sink.answered(self.asked - n, at, None);
        }
    }
    fn memory(&self, (): &()) -> usize {
        0
    }
}

fn lines(told: &Told) -> Vec<String> {
    told.lines(|event| match event {
        WireEvent::Begun { request, .. } => Some(format!("begun {request}")),
        WireEvent::Answered { request, print, .. } => {
            Some(format!("{} {request}", if print.is_some() { "answered" } else { "abandoned" }))
        }
        WireEvent::Opaque { why, .. } => Some(format!("opaque {why}")),
        _ => None,
    })
}

/// What is told of pieces: `c` and `s` say who speaks, `(` and `)` are holes of the client's and the server's. A piece
/// that ends with a blank goes on in the next segment.
fn told(mid_stream: bool, pieces: &[&str]) -> Vec<String> {
    let (mut d, mut told) = (Toy::decoder(mid_stream), Told::default());
    for piece in pieces {
        let (who, said) = piece.split_at(1);
        let ends_segment = !said.ends_with(' ');
        let mut say = |from, text: &str| {
            d.bytes(from, Chunk { at: Nanos(1), bytes: text.trim_end().as_bytes(), ends_segment }, &mut told.sink());
        };
        match who {
            "c" => say(Side::Client, said),
            "s" => say(Side::Server, said),
            "(" => d.missing(Side::Client, Nanos(1), 9, &mut told.sink()),
            _ => d.missing(Side::Server, Nanos(1), 9, &mut told.sink()),
        }
    }
    d.closed(Nanos(2), &mut told.sink());
    d.closed(Nanos(2), &mut told.sink());
    lines(&told)
}

#[test]
fn an_older_connection_is_announced_once_and_read_from_a_beginning_on() {
    for first in ["c?", "s-", "(", "c- "] {
        let lines = told(true, &[first, "s-", "c-", "c?", "s!"]);
        assert_eq!(lines.iter().filter(|l| *l == "mid_stream").count(), 1, "{first}");
        assert!(lines[0] == "mid_stream" && lines.last().unwrap().starts_with("answered"), "{first}: {lines:?}");
    }
    assert_eq!(told(true, &[]), ["mid_stream"], "even where nothing is said");
    assert!(told(false, &["c", "s"]).is_empty());
}

#[test]
fn a_loss_is_told_before_anybody_is_abandoned_for_it() {
    assert_eq!(told(false, &["c??", "("]), ["begun 1", "begun 2", "gap", "abandoned 2", "abandoned 1"]);
    assert_eq!(told(false, &["c?", ")"]), ["begun 1", "gap", "abandoned 1"]);
    assert_eq!(told(false, &["c?-"]), ["begun 1", "bad_frame", "malformed", "abandoned 1"]);
    assert_eq!(told(false, &["c?x?"]), ["begun 1", "message", "malformed", "abandoned 1", "begun 2", "abandoned 2"]);
    assert_eq!(told(false, &["c?"]), ["begun 1", "abandoned 1"], "the connection's end is no loss");
    assert_eq!(told(false, &["c?.?", "s!", ")"]), ["begun 1", "abandoned 1", "opaque left", "begun 2"]);
}

#[test]
fn a_lost_direction_is_found_where_a_segment_begins_a_frame() {
    let lines = told(false, &["c-", "c-?", "c?? ", "c?", "s!"]);
    assert_eq!(
        lines,
        ["bad_frame", "malformed", "begun 1", "begun 2", "begun 3", "answered 1", "abandoned 3", "abandoned 2"]
    );
    // Not inside one; but what follows a hole begins one.
    assert_eq!(told(false, &["c- ", "c?"]), ["bad_frame", "malformed"]);
    assert_eq!(told(false, &["c- ", "(", "c?"]), ["bad_frame", "malformed", "begun 1", "abandoned 1"]);
    // The other direction goes on meanwhile.
    assert_eq!(told(false, &["s-", "c?", "s!"]), ["bad_frame", "malformed", "begun 1", "answered 1"]);
    assert_eq!(told(false, &["c[", "(", "c]?", "s!"]), ["begun 1", "answered 1"], "nothing is lost inside a body");
}

#[test]
fn malformed_input_in_a_row_is_given_up_and_something_sound_begins_the_count_anew() {
    let n = |lines: &[String], what: &str| lines.iter().filter(|l| *l == what).count();
    let lines = told(false, &["c?-"].repeat(20));
    assert_eq!((n(&lines, "malformed"), lines.last().unwrap().as_str()), (8, "opaque malformed"));
    // Those who wait are not left without an end, and the loss is told first.
    let last: Vec<&str> = lines.iter().rev().take(4).rev().map(String::as_str).collect();
    assert_eq!(last[..], ["bad_frame", "malformed", "abandoned 8", "opaque malformed"]);
    let lines = told(false, &["c?x"].repeat(20));
    assert_eq!((n(&lines, "malformed"), lines.last().unwrap().as_str()), (8, "opaque malformed"));
    let lines = told(false, &["c?", "s!", "c?-"].repeat(20));
    assert_eq!((n(&lines, "malformed"), n(&lines, "opaque malformed")), (20, 0));
    let lines = told(false, &["c?", ")", "s-"].repeat(20));
    assert_eq!(n(&lines, "opaque malformed"), 0, "what is missing is nobody's fault");
}

#[test]
fn who_wanders_for_long_is_left() {
    let long = format!("c{}", "-".repeat(60));
    let lines = told(false, &["c-", &long, "c?", "c-", &long, &long, "c?"]);
    let want = ["bad_frame", "malformed", "begun 1", "bad_frame", "malformed", "abandoned 1", "opaque frames_lost"];
    assert_eq!(lines, want);
    let mut d = Toy::decoder(false);
    assert_eq!(d.appetite(Side::Client), Appetite::Everything);
    d.closed(Nanos(1), &mut Told::default().sink());
    assert_eq!(d.appetite(Side::Client), Appetite::Nothing);
}
