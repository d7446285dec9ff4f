//! Messages of job libraries whose content is not where their queue is: in a hash beside it, or in a script's arguments.

use std::io::Write as _;

use super::super::*;
use crate::decode::testing::Told;
use crate::model::queue::{Confirmation, Delivery, Message, Settlement};
use crate::model::{Claim, MarkerPlace, TenantId};

/// Knows acme.
fn listener() -> Told {
    let marker = |place: MarkerPlace, _: &str, value: &str| match place {
        _ if value == "acme" => Claim::Tenant(TenantId(0)),
        MarkerPlace::KeyPrefix => Claim::Neutral,
        _ => Claim::Unreadable,
    };
    Told::default().marking(marker)
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for w in words {
        out.extend(format!("${}\r\n", w.len()).into_bytes());
        out.extend_from_slice(w);
        out.extend(b"\r\n");
    }
    out
}

struct Talk {
    redis: Lifecycle<Redis>,
    told: Told,
}

impl Talk {
    fn new() -> Self {
        Self::among(&Shared::default())
    }

    /// One of several connections.
    fn among(shared: &Shared) -> Self {
        Self { redis: Redis::new(Salt(1, 2), false, shared), told: listener() }
    }

    /// A transaction, its replies as they come in the array.
    fn transaction(&mut self, commands: &[&[&[u8]]], replies: &[&[u8]]) {
        self.run(&[b"MULTI"], b"+OK\r\n");
        for words in commands {
            self.run(words, b"+QUEUED\r\n");
        }
        let reply = [format!("*{}\r\n", replies.len()).as_bytes(), &replies.concat()].concat();
        self.run(&[b"EXEC"], &reply);
    }

    fn published(&self) -> Vec<&Message> {
        let all = self.told.queue().into_iter();
        let all = all.filter_map(|e| if let QueueEvent::Published(m) = e { Some(m) } else { None });
        all.filter(|m| !m.body).collect()
    }

    fn deliveries(&self) -> Vec<&Delivery> {
        let all = self.told.queue().into_iter();
        all.filter_map(|e| if let QueueEvent::Delivered(d) = e { Some(d) } else { None }).collect()
    }

    fn settled(&self) -> Vec<(u64, Settlement)> {
        let of = |e: &QueueEvent| if let QueueEvent::Settled(s) = e { Some((s.handle, s.how)) } else { None };
        self.told.queue().into_iter().filter_map(of).collect()
    }

    fn from(&mut self, side: Side, bytes: &[u8]) {
        self.redis.bytes(side, Chunk { at: Nanos(1), bytes, ends_segment: true }, &mut self.told.sink());
    }

    fn run(&mut self, words: &[&[u8]], reply: &[u8]) {
        self.from(Side::Client, &command(words));
        self.from(Side::Server, reply);
    }
}

const ID: &[u8] = b"7f3d9a52-0c41-4be8-9d17-62ab8e50f1c9";

/// As `pickle.dumps(("app.send", None, (), {name: …}), protocol=4)`, compressed as RQ does.
fn job(name: &str) -> Vec<u8> {
    let mut pickle = b"\x80\x04(\x8c\x08app.send\x94N)}\x94\x8c".to_vec();
    pickle.push(u8::try_from(name.len()).unwrap());
    pickle.extend(name.as_bytes());
    pickle.extend(b"\x94\x8c\x04");
    pickle.extend(if name == "tenant_id" { b"acme" } else { b"4711" });
    pickle.extend(b"\x94s\x86\x94.");
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(&pickle).unwrap();
    out.finish().unwrap()
}

/// RQ's own way to hand over a job, with so many bytes missing of its data.
fn enqueued(data: &[u8], description: &[u8], missing: u64) -> Message {
    let mut t = Talk::new();
    t.run(&[b"MULTI"], b"+OK\r\n");
    let key = [b"rq:job:", ID].concat();
    let whole = command(&[b"HSET", &key, b"status", b"queued", b"data", data, b"description", description]);
    let at = memchr::memmem::find(&whole, data).unwrap();
    let cut = usize::try_from(missing).unwrap();
    t.from(Side::Client, &whole[..at]);
    if missing > 0 {
        t.redis.missing(Side::Client, Nanos(1), missing, &mut t.told.sink());
    }
    t.from(Side::Client, &whole[at + cut..]);
    t.from(Side::Server, b"+QUEUED\r\n");
    t.run(&[b"RPUSH", b"rq:queue:default", ID], b"+QUEUED\r\n");
    t.run(&[b"EXEC"], b"*2\r\n:8\r\n:1\r\n");
    let published = t.published().into_iter().next().cloned();
    published.expect("published")
}

#[test]
fn an_id_is_followed_to_what_was_said_of_it() {
    let m = enqueued(&job("tenant_id"), b"app.send(7)", 0);
    assert_eq!((m.labelled, m.marker, m.readable), (true, Claim::Tenant(TenantId(0)), true));
    let m = enqueued(&job("order"), b"app.send(7)", 0);
    assert_eq!((m.labelled, m.marker, m.readable), (false, Claim::Neutral, true), "all was read, and it names nobody");
    let m = enqueued(&job("order"), b"app.send('acme', 7)", 0);
    assert_eq!((m.labelled, m.readable), (true, true), "an argument without a name");
}

#[test]
fn what_was_not_seen_whole_is_not_read() {
    let m = enqueued(&job("order"), b"app.send(7)", 5);
    assert_eq!((m.labelled, m.readable), (false, false));
    let m = enqueued(b"\x80\xff\xfe sealed \x00\x01", b"app.send(7)", 0);
    assert!(!m.readable, "nobody can read it");
    let mut t = Talk::new();
    t.run(&[b"RPUSH", b"rq:queue:default", ID], b":1\r\n");
    assert!(matches!(&t.told.queue()[..], [QueueEvent::Published(m)] if !m.readable));
}

fn dispatch<'a>(order: &'a [u8], more: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let head: [&[u8]; 12] = [
        b"EVALSHA",
        b"0123456789012345678901234567890123456789",
        b"1",
        b"dramatiq",
        order,
        b"1700000000000",
        b"default",
        b"5e2f",
        b"60000",
        b"604800000",
        b"0",
        b"7999",
    ];
    head.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn dramatiqs_script_adds_takes_and_ends_jobs() {
    use crate::model::OpKind::{Ack, Control, Deliver, Publish};
    let body = format!(
        "{{\"queue_name\":\"default\",\"args\":[],\"kwargs\":{{\"tenant\":\"acme\"}},\"options\":{{\"redis_message_id\":\"{}\"}},\
         \"message_id\":\"m1\"}}",
        std::str::from_utf8(ID).unwrap()
    );
    let mut t = Talk::new();
    t.run(&dispatch(b"enqueue", &[ID, body.as_bytes()]), b"$-1\r\n");
    t.run(&dispatch(b"fetch", &[b"2"]), b"*0\r\n");
    let handed = format!("*1\r\n${}\r\n{body}\r\n", body.len());
    t.run(&dispatch(b"fetch", &[b"2"]), handed.as_bytes());
    t.run(&dispatch(b"ack", &[ID]), b"$-1\r\n");
    t.run(&dispatch(b"qsize", &[]), b":0\r\n");
    assert_eq!(t.told.kinds(), [Publish, Control, Deliver, Ack, Control]);
    let [QueueEvent::Published(m), QueueEvent::Delivered(d), QueueEvent::Settled(s)] = &t.told.queue()[..] else {
        panic!("{:#?}", t.told.queue())
    };
    assert!(m.labelled && m.readable);
    assert_eq!((m.address, m.print, &m.ids), (d.message.address, d.message.print, &d.message.ids));
    assert_eq!(d.confirmation, Confirmation::Anywhere(s.handle));
    // Somebody else's script of one key is no queue.
    let mut t = Talk::new();
    t.run(&[b"EVALSHA", b"0123", b"1", b"counters", b"enqueue", b"now"], b":1\r\n");
    assert!(t.told.queue().is_empty());
}

fn bulk(text: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

/// What RQ's worker does with a job that it has taken; `books`: that it is in work is seen.
fn works_as_rq(t: &mut Talk, books: bool) {
    let attempt = [ID, b":6fd82c14bac1427c8250eb29129f0bdc"].concat();
    if books {
        t.transaction(&[&[b"ZADD", b"rq:wip:default", b"1796041449", &attempt]], &[b":1\r\n"]);
    }
    t.transaction(&[&[b"LREM", b"rq:queue:default:intermediate", b"1", ID]], &[b":1\r\n"]);
    assert_eq!(t.settled().len(), usize::from(!books), "it leaves the queue, and the work begins");
    t.transaction(&[&[b"ZREM", b"rq:wip:default", &attempt]], &[b":1\r\n"]);
}

#[test]
fn a_job_of_rqs_ends_where_it_leaves_the_work() {
    for (take, reply) in [
        (&[&b"LMOVE"[..], b"rq:queue:default", b"rq:queue:default:intermediate", b"LEFT", b"RIGHT"][..], bulk(ID)),
        (
            &[b"BLPOP", b"rq:queue:high", b"rq:queue:default", b"5"],
            [b"*2\r\n", &*bulk(b"rq:queue:default"), &bulk(ID)].concat(),
        ),
    ] {
        let mut t = Talk::new();
        t.run(take, &reply);
        if take.len() == 5 {
            works_as_rq(&mut t, true);
        } else {
            t.run(&[b"ZADD", b"rq:wip:default", b"1796041449", ID], b":1\r\n");
            t.run(&[b"ZREM", b"rq:wip:default", ID], b":1\r\n");
        }
        let [d] = &t.deliveries()[..] else { panic!("{:#?}", t.told.queue()) };
        assert_eq!(t.settled(), [(d.confirmation.handle().unwrap(), Settlement::Done)]);
    }
    // That it is in work was not seen: it has left the queue, and when the work ends is not known.
    let mut t = Talk::new();
    t.run(&[b"LMOVE", b"rq:queue:default", b"rq:queue:default:intermediate", b"LEFT", b"RIGHT"], &bulk(ID));
    works_as_rq(&mut t, false);
    // A set of somebody else's is none of RQ's.
    let mut t = Talk::new();
    t.run(&[b"ZREM", b"wip:default", ID], b":1\r\n");
    assert!(t.settled().is_empty());
}

#[test]
fn a_job_of_rqs_that_must_be_the_only_one_is_added_by_a_script() {
    let key = [b"rq:job:", ID].concat();
    let data = job("tenant_id");
    let add = |side: &'static [u8], reply: &[u8]| {
        let mut t = Talk::new();
        let head: [&[u8]; 8] = [b"EVALSHA", b"0123", b"2", &key, b"rq:queue:default", ID, side, b"-1"];
        let words: Vec<&[u8]> = head.into_iter().chain([&b"data"[..], &data, b"status", b"queued"]).collect();
        t.run(&words, reply);
        t
    };
    let t = add(b"R", b":1\r\n");
    let [m] = &t.published()[..] else { panic!("{:#?}", t.told.queue()) };
    assert_eq!((m.labelled, m.marker, m.readable), (true, Claim::Tenant(TenantId(0)), true));
    assert_eq!(m.address, enqueued(&data, b"", 0).address);
    assert!(add(b"R", b":0\r\n").told.queue().is_empty(), "there was one already");
    assert!(add(b"N", b":1\r\n").published().is_empty(), "it is kept, and not put into the queue");
    assert!(add(b"X", b":1\r\n").told.queue().is_empty(), "another script");
}

#[test]
fn an_id_is_followed_from_connection_to_connection() {
    let shared = Shared::default();
    let (mut writes, mut pushes) = (Talk::among(&shared), Talk::among(&shared));
    writes.run(&[b"HSET", &[b"rq:job:", ID].concat(), b"data", &job("tenant_id")], b":1\r\n");
    pushes.run(&[b"RPUSH", b"rq:queue:default", ID], b":1\r\n");
    let [m] = &pushes.published()[..] else { panic!("{:#?}", pushes.told.queue()) };
    assert!(m.labelled && m.readable);
    let [QueueEvent::Published(body)] = &writes.told.queue()[..] else { panic!("{:#?}", writes.told.queue()) };
    assert!(body.body && m.ids.iter().any(|id| body.ids.contains(id)), "whose it is, is whose the text is");
    let mut takes = Talk::among(&shared);
    takes.run(&[b"LPOP", b"rq:queue:default"], &bulk(ID));
    assert!(takes.deliveries().iter().all(|d| d.message.ids == m.ids));
    // How far it is says nothing new.
    writes.run(&[b"HSET", &[b"rq:job:", ID].concat(), b"status", b"started"], b":0\r\n");
    assert_eq!(writes.told.queue().len(), 1);
    pushes.run(&[b"RPUSH", b"rq:queue:default", ID], b":1\r\n");
    assert!(pushes.published().iter().all(|m| m.labelled));
}

/// As `pickle.dumps({"t": None, "f": "send", "a": (…,), "k": {}, "et": 7}, protocol=4)`, and as MessagePack.
fn job_of_arq(argument: &str, packed: bool) -> Vec<u8> {
    let text = |text: &str| {
        let head = if packed { vec![0xa0 | text.len() as u8] } else { vec![0x8c, text.len() as u8] };
        [head, text.as_bytes().to_vec(), if packed { vec![] } else { vec![0x94] }].concat()
    };
    let n = |bytes: &[u8]| bytes.to_vec();
    if packed {
        return [
            n(b"\x84"),
            text("t"),
            n(b"\xc0"),
            text("f"),
            text("send"),
            text("a"),
            n(b"\x91"),
            text(argument),
            text("et"),
            n(b"\x07"),
        ]
        .concat();
    }
    [
        n(b"\x80\x04}\x94("),
        text("t"),
        n(b"N"),
        text("f"),
        text("send"),
        text("a"),
        text(argument),
        n(b"\x85\x94"),
        text("et"),
        n(b"K\x07u."),
    ]
    .concat()
}

fn key_of_arq(of: &str) -> Vec<u8> {
    [b"arq:", of.as_bytes(), b":", ID].concat()
}

fn enqueues_as_arq(t: &mut Talk, body: &[u8]) {
    let (key, add): (_, &[&[u8]]) = (key_of_arq("job"), &[b"ZADD", b"jobs.q1", b"1796041364525", ID]);
    t.transaction(&[&[b"PSETEX", &key, b"86400000", body], add], &[b"+OK\r\n", b":1\r\n"]);
}

#[test]
fn arqs_jobs_are_texts_whose_ids_are_in_a_sorted_set() {
    use crate::model::OpKind::{Ack, Control, Data, Deliver, Publish};
    for packed in [false, true] {
        let shared = Shared::default();
        let (mut producer, mut looks, mut works) = (Talk::among(&shared), Talk::among(&shared), Talk::among(&shared));
        let body = job_of_arq("acme", packed);
        enqueues_as_arq(&mut producer, &body);
        let [m] = &producer.published()[..] else { panic!("{:#?}", producer.told.queue()) };
        assert!(m.labelled && m.readable, "{packed}");
        assert_eq!(producer.told.kinds()[1..], [Data, Publish, Control]);
        // Who looks whether there is work has not touched any job.
        looks.run(
            &[b"ZRANGEBYSCORE", b"jobs.q1", b"-inf", b"1796041364530", b"LIMIT", b"0", b"1"],
            &[b"*1\r\n", &*bulk(ID)].concat(),
        );
        looks.run(&[b"ZSCORE", b"jobs.q1", ID], &bulk(b"1796041364525"));
        assert_eq!(looks.told.kinds(), [Control, Control]);
        let takes: &[&[&[u8]]] = &[&[b"GET", &key_of_arq("job")], &[b"INCRBY", &key_of_arq("retry"), b"1"]];
        works.transaction(takes, &[&bulk(&body), b":1\r\n"]);
        let [d] = &works.deliveries()[..] else { panic!("{:#?}", works.told.queue()) };
        assert!(d.confirmation.is_awaited() && works.told.kinds().contains(&Deliver));
        assert_eq!((&d.message.ids, d.message.address), (&m.ids, m.address));
        let handle = d.confirmation.handle().unwrap();
        // It will be tried again.
        works.transaction(
            &[&[b"ZINCRBY", b"jobs.q1", b"209", ID], &[b"DEL", &key_of_arq("in-progress")]],
            &[b"$1\r\n1\r\n", b":1\r\n"],
        );
        assert_eq!(works.settled(), [(handle, Settlement::Returned)]);
        let keys: [&[u8]; 4] = [b"DEL", &key_of_arq("in-progress"), &key_of_arq("retry"), &key_of_arq("job")];
        works.transaction(&[&[b"ZREM", b"jobs.q1", ID], &keys], &[b":1\r\n", b":3\r\n"]);
        assert_eq!(works.settled()[1..], [(handle, Settlement::Done)]);
        assert!(works.told.kinds().contains(&Ack));
    }
}

#[test]
fn sorted_sets_and_texts_of_others_are_no_queue() {
    let mut t = Talk::new();
    t.run(&[b"SET", &[b"message:", ID].concat(), b"{\"tenant\":\"acme\"}"], b"+OK\r\n");
    t.run(&[b"ZADD", b"board", b"1", ID], b":1\r\n");
    t.run(&[b"ZRANGE", b"board", b"0", b"-1"], &[b"*1\r\n", &*bulk(ID)].concat());
    t.run(&[b"GET", &[b"message:", ID].concat()], &bulk(b"{\"tenant\":\"acme\"}"));
    t.run(&[b"DEL", &[b"message:", ID].concat()], b":1\r\n");
    assert!(t.told.queue().is_empty() && t.told.kinds().iter().all(|k| *k == crate::model::OpKind::Data));
    // A job that is not there any more was given to nobody.
    t.run(&[b"GET", &key_of_arq("job")], b"$-1\r\n");
    assert!(t.told.queue().is_empty());
}

#[test]
fn an_arq_job_of_which_something_is_missing_says_nothing() {
    let body = job_of_arq("acme", false);
    let mut t = Talk::new();
    t.run(&[b"MULTI"], b"+OK\r\n");
    let whole = command(&[b"PSETEX", &key_of_arq("job"), b"86400000", &body]);
    let at = memchr::memmem::find(&whole, b"acme").unwrap();
    t.from(Side::Client, &whole[..at]);
    t.redis.missing(Side::Client, Nanos(1), 3, &mut t.told.sink());
    t.from(Side::Client, &whole[at + 3..]);
    t.from(Side::Server, b"+QUEUED\r\n");
    t.run(&[b"ZADD", b"jobs.q1", b"1", ID], b"+QUEUED\r\n");
    t.run(&[b"EXEC"], b"*2\r\n+OK\r\n:1\r\n");
    assert!(t.published().iter().all(|m| !m.labelled && !m.readable), "{:#?}", t.told.queue());
}

/// Celery with the serializer `msgpack`: the body is that, in base64.
#[test]
fn a_packed_body_of_celerys_is_read() {
    use base64::Engine as _;
    let with = |name: &str| {
        let mut body = b"\x93\x90\x81".to_vec();
        body.push(0xa0 | u8::try_from(name.len()).unwrap());
        body.extend(name.as_bytes());
        body.extend(b"\xa4acme\x81\xa9callbacks\xc0");
        let body = base64::engine::general_purpose::STANDARD.encode(body);
        let envelope = format!(
            "{{\"body\":\"{body}\",\"content-encoding\":\"binary\",\"content-type\":\"application/x-msgpack\",\
             \"headers\":{{\"id\":\"7f3d\",\"task\":\"send\"}},\"properties\":{{\"body_encoding\":\"base64\",\"delivery_tag\":\"t1\"}}}}"
        );
        let mut t = Talk::new();
        t.run(&[b"LPUSH", b"celery", envelope.as_bytes()], b":1\r\n");
        let m = t.published()[0];
        (m.labelled, m.marker, m.readable)
    };
    assert_eq!(with("tenant_id"), (true, Claim::Tenant(TenantId(0)), true));
    assert_eq!(with("order"), (true, Claim::Neutral, true), "a word alone may be whom it is for");
}
