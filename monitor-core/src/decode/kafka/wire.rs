//! Just enough of Kafka's wire format to write conversations (Apache Kafka, "Kafka protocol guide").

/// The topic of all of them.
pub(crate) const TOPIC: &str = "jobs";

/// A record: key, value, headers.
pub(crate) type Record<'a> = (Option<&'a str>, &'a str, &'a [(&'a str, &'a str)]);

/// A request.
pub(crate) fn request(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let head = [key.to_be_bytes(), version.to_be_bytes()].concat();
    frame(&[&head[..], &correlation.to_be_bytes(), &string("client"), body].concat())
}

/// A response of the older layouts.
pub(crate) fn response(correlation: i32, body: &[u8]) -> Vec<u8> {
    frame(&[&correlation.to_be_bytes()[..], body].concat())
}

/// Bytes behind their length.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    [&len32(body.len())[..], body].concat()
}

/// `Produce`, version 3, to partition 0.
pub(crate) fn produce(correlation: i32, acks: i16, records: &[u8]) -> Vec<u8> {
    let head = [&(-1_i16).to_be_bytes()[..], &acks.to_be_bytes(), &5_000_i32.to_be_bytes()].concat();
    request(0, 3, correlation, &[head, topic(&frame(records))].concat())
}

/// Its answer: an error or 0, and the offset of the first record.
pub(crate) fn produced(correlation: i32, error: i16, base: i64) -> Vec<u8> {
    let part = [&error.to_be_bytes()[..], &base.to_be_bytes(), &(-1_i64).to_be_bytes()].concat();
    response(correlation, &[topic(&part), vec![0; 4]].concat())
}

/// `Fetch`, version 4, of partition 0.
pub(crate) fn fetch(correlation: i32, from: i64) -> Vec<u8> {
    let head =
        [&(-1_i32).to_be_bytes()[..], &500_i32.to_be_bytes(), &1_i32.to_be_bytes(), &1_000_000_i32.to_be_bytes()];
    let part = [&from.to_be_bytes()[..], &1_000_000_i32.to_be_bytes()].concat();
    request(1, 4, correlation, &[head.concat(), vec![0], topic(&part)].concat())
}

/// Its answer.
pub(crate) fn fetched(correlation: i32, records: &[u8]) -> Vec<u8> {
    let part =
        [&0_i16.to_be_bytes()[..], &9_i64.to_be_bytes(), &9_i64.to_be_bytes(), &[0; 4], &frame(records)].concat();
    response(correlation, &[vec![0; 4], topic(&part)].concat())
}

/// `OffsetCommit`, version 2, of partition 0.
pub(crate) fn commit(correlation: i32, offset: i64) -> Vec<u8> {
    let head = [&string("workers")[..], &7_i32.to_be_bytes(), &string("one"), &(-1_i64).to_be_bytes()].concat();
    let part = [&offset.to_be_bytes()[..], &(-1_i16).to_be_bytes()].concat();
    request(8, 2, correlation, &[head, topic(&part)].concat())
}

/// Its answer.
pub(crate) fn committed(correlation: i32, error: i16) -> Vec<u8> {
    response(correlation, &topic(&error.to_be_bytes()))
}

/// A batch of format 2; `codec` is said of what is `packed`, or of nothing.
pub(crate) fn batch(base: i64, records: &[Record<'_>]) -> Vec<u8> {
    let body: Vec<u8> = records.iter().enumerate().flat_map(|(i, r)| record(i, *r)).collect();
    packed(base, records.len(), 0, &body)
}

/// A batch of so many records, compressed or not.
pub(crate) fn packed(base: i64, n: usize, codec: i16, body: &[u8]) -> Vec<u8> {
    let last = len32(n.saturating_sub(1));
    let head: Vec<u8> =
        [&[0, 0, 0, 0, 2, 0, 0, 0, 0][..], &codec.to_be_bytes(), &last, &[0; 16], &[0xff; 14], &len32(n)].concat();
    [&base.to_be_bytes()[..], &frame(&[&head, body].concat())].concat()
}

/// A record, so many after its batch's first.
pub(crate) fn record(delta: usize, (key, value, headers): Record<'_>) -> Vec<u8> {
    let mut body = vec![0];
    for n in [0, delta] {
        body.extend(varint(n as i64));
    }
    body.extend(key.map_or(varint(-1), text));
    body.extend(text(value));
    body.extend(varint(headers.len() as i64));
    for (name, value) in headers {
        body.extend(text(name));
        body.extend(text(value));
    }
    [varint(body.len() as i64), body].concat()
}

/// A string behind two bytes of length.
pub(crate) fn string(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).expect("short").to_be_bytes()[..], text.as_bytes()].concat()
}

fn topic(partition: &[u8]) -> Vec<u8> {
    [&len32(1)[..], &string(TOPIC), &len32(1), &[0; 4], partition].concat()
}

fn text(text: &str) -> Vec<u8> {
    [varint(text.len() as i64), text.as_bytes().to_vec()].concat()
}

fn varint(n: i64) -> Vec<u8> {
    let mut rest = ((n << 1) ^ (n >> 63)).cast_unsigned();
    let mut out = Vec::new();
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
    out
}

fn len32(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("short").to_be_bytes()
}
