//! `kafka-protocol` over the recordings of Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, OffsetCommitRequest, OffsetCommitResponse, ProduceRequest, ProduceResponse,
    RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, decode_request_header_from_buffer};
use kafka_protocol::records::{Compression, Record, RecordBatchDecoder};
use monitor_core::model::queue::{Confirmation, QueueEvent};
use monitor_core::model::{Outcome, Side};

use crate::common::Segments;
use crate::common::suites::KAFKA as SUITE;
use crate::{Frames, Told, every, frames};

/// A request with its header, or an answer whose header is read with its request.
enum Frame {
    Request(RequestHeader, Bytes),
    Answer(Bytes),
}

fn read(segments: &Segments) -> Frames<Frame> {
    frames(segments, |from, bytes: &mut BytesMut| {
        let Some(n) = bytes.first_chunk().map(|n| u32::from_be_bytes(*n) as usize) else { return Ok(None) };
        if bytes.len() < n + 4 {
            return Ok(None);
        }
        bytes.advance(4);
        let mut frame = bytes.split_to(n).freeze();
        if from == Side::Server {
            return Ok(Some(Frame::Answer(frame)));
        }
        let header = decode_request_header_from_buffer(&mut frame).map_err(|e| format!("{e:#}"))?;
        Ok(Some(Frame::Request(header, frame)))
    })
}

/// Reads the whole of a body in a version.
fn body<T: Decodable>(mut bytes: Bytes, version: i16) -> T {
    let read = T::decode(&mut bytes, version).unwrap();
    assert!(bytes.is_empty(), "{} bytes are left of a body of version {version}", bytes.len());
    read
}

/// The records of a partition, in batches of any compression. A last batch that a broker has cut is left out.
fn records(bytes: Option<&Bytes>) -> Vec<Record> {
    let (mut rest, mut all) = (bytes.cloned().unwrap_or_default(), Vec::new());
    while rest.has_remaining() {
        let batch = RecordBatchDecoder::decode_with_custom_compression(&mut rest, Some(unpacked)).unwrap();
        all.extend(batch.records);
    }
    all
}

#[expect(clippy::unnecessary_wraps, reason = "as the codec wants it")]
fn unpacked(packed: &mut Bytes, how: Compression) -> anyhow::Result<Bytes> {
    let mut out = Vec::new();
    match how {
        Compression::None => out.extend_from_slice(packed),
        Compression::Gzip => {
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut out).unwrap();
        }
        Compression::Lz4 => {
            lz4_flex::frame::FrameDecoder::new(&packed[..]).read_to_end(&mut out).unwrap();
        }
        Compression::Zstd => {
            ruzstd::decoding::StreamingDecoder::new(&packed[..]).unwrap().read_to_end(&mut out).unwrap();
        }
        // Java's clients and those that copy them put blocks into a frame of their own.
        Compression::Snappy => match packed.strip_prefix(b"\x82SNAPPY\0") {
            Some(framed) => {
                let mut blocks = &framed[8..];
                while let Some((n, rest)) = blocks.split_first_chunk() {
                    let (block, rest) = rest.split_at(u32::from_be_bytes(*n) as usize);
                    out.extend(snap::raw::Decoder::new().decompress_vec(block).unwrap());
                    blocks = rest;
                }
            }
            None => out = snap::raw::Decoder::new().decompress_vec(packed).unwrap(),
        },
    }
    Ok(out.into())
}

/// A request that an answer may come to.
struct Asked {
    /// Its number on the connection.
    n: u64,
    key: ApiKey,
    header: RequestHeader,
    body: Bytes,
}

#[derive(Default)]
struct Conversation {
    /// The kinds of the requests, in order.
    keys: Vec<ApiKey>,
    waiting: BTreeMap<i32, Asked>,
    /// Requests that want no answer.
    silent: BTreeSet<i32>,
    /// Requests that were answered, or that nobody answers.
    n_ended: usize,
    /// For each request that was accepted: topic and length of each record's value.
    published: BTreeMap<u64, Vec<(String, u64)>>,
    refused: Vec<u64>,
    /// Offset and length of each record that was asked for.
    delivered: BTreeMap<u64, Vec<(i64, u64)>>,
    committed: Vec<i64>,
    /// From where each partition is read: topic's name and id, number of the partition.
    positions: BTreeMap<(String, [u8; 16], i32), i64>,
}

fn size(record: &Record) -> u64 {
    record.value.as_ref().map_or(0, |v| v.len() as u64)
}

impl Conversation {
    fn request(&mut self, header: RequestHeader, bytes: Bytes) {
        let key = ApiKey::try_from(header.request_api_key).unwrap();
        self.keys.push(key);
        let (n, version) = (self.keys.len() as u64, header.request_api_version);
        if key == ApiKey::Fetch {
            let fetch: FetchRequest = body(bytes.clone(), version);
            for topic in &fetch.topics {
                for p in &topic.partitions {
                    let place = (topic.topic.0.to_string(), *topic.topic_id.as_bytes(), p.partition);
                    self.positions.insert(place, p.fetch_offset);
                }
            }
        }
        if key == ApiKey::Produce && body::<ProduceRequest>(bytes.clone(), version).acks == 0 {
            self.n_ended += 1;
            self.silent.insert(header.correlation_id);
            return self.publish(n, &body(bytes, version));
        }
        self.waiting.insert(header.correlation_id, Asked { n, key, header, body: bytes });
    }

    fn publish(&mut self, n: u64, request: &ProduceRequest) {
        let mut all = Vec::new();
        for topic in &request.topic_data {
            for partition in &topic.partition_data {
                let records = records(partition.records.as_ref());
                all.extend(records.iter().map(|r| (topic.name.0.to_string(), size(r))));
            }
        }
        self.published.insert(n, all);
    }

    fn answer(&mut self, mut bytes: Bytes) {
        let correlation = i32::from_be_bytes(*bytes.first_chunk().unwrap());
        // The mock cluster answers even where no answer was asked for.
        if self.silent.remove(&correlation) {
            return;
        }
        let asked = self.waiting.remove(&correlation).expect("an answer is to a request");
        self.n_ended += 1;
        let version = asked.header.request_api_version;
        ResponseHeader::decode(&mut bytes, asked.key.response_header_version(version)).unwrap();
        match asked.key {
            ApiKey::Produce => {
                let response: ProduceResponse = body(bytes, version);
                let mut partitions = response.responses.iter().flat_map(|t| &t.partition_responses);
                if partitions.all(|p| p.error_code == 0) {
                    self.publish(asked.n, &body(asked.body, version));
                } else {
                    self.refused.push(asked.n);
                }
            }
            ApiKey::Fetch => self.deliver(asked.n, &body(bytes, version)),
            ApiKey::OffsetCommit => {
                let request: OffsetCommitRequest = body(asked.body, version);
                let response: OffsetCommitResponse = body(bytes, version);
                let results = response.topics.iter().flat_map(|t| &t.partitions);
                let wanted = request.topics.iter().flat_map(|t| &t.partitions);
                let taken = wanted.zip(results).filter(|(_, result)| result.error_code == 0);
                self.committed.extend(taken.map(|(wanted, _)| wanted.committed_offset));
            }
            _ => {}
        }
    }

    /// A broker answers with whole batches, which may begin before what was asked for.
    fn deliver(&mut self, n: u64, response: &FetchResponse) {
        let mut all = Vec::new();
        for topic in &response.responses {
            for p in &topic.partitions {
                let place = (topic.topic.0.to_string(), *topic.topic_id.as_bytes(), p.partition_index);
                let from = self.positions[&place];
                let records = records(p.records.as_ref());
                all.extend(records.iter().filter(|r| r.offset >= from).map(|r| (r.offset, size(r))));
            }
        }
        self.delivered.insert(n, all);
    }
}

#[test]
fn requests_records_and_commits_are_what_kafka_protocol_reads() {
    every(&SUITE, &[], read, |name, frames, told| {
        let mut talk = Conversation::default();
        for (_, frame) in frames {
            match frame {
                Frame::Request(header, bytes) => talk.request(header, bytes),
                Frame::Answer(bytes) => talk.answer(bytes),
            }
        }
        compare(name, &talk, told);
    });
}

fn compare(name: &str, talk: &Conversation, told: &Told) {
    assert_eq!(told.n_begun(), talk.keys.len(), "{name}: each of them is a request");
    assert_eq!(told.n_answered(), talk.n_ended, "{name}: each answer ends one");
    let operations = told.by_request();
    for (n, key) in talk.keys.iter().enumerate() {
        let of_it = operations.get(&(n as u64 + 1)).map_or(&[][..], Vec::as_slice);
        let verb = format!("{key:?}");
        assert!(of_it.iter().all(|op| told.name(op.verb) == verb), "{name}: {} {verb}", n + 1);
    }
    for n in &talk.refused {
        assert!(operations[n].iter().all(|op| op.outcome == Outcome::Error), "{name}: {n} was refused");
    }
    let mut n_published = 0;
    for (n, records) in &talk.published {
        let ours: Vec<_> = told.published().filter(|m| m.request == *n).collect();
        let sizes: Vec<u64> = ours.iter().map(|m| m.bytes).collect();
        assert_eq!(sizes, records.iter().map(|(_, size)| *size).collect::<Vec<_>>(), "{name}: {n}");
        assert!(ours.iter().zip(records).all(|(m, (topic, _))| told.shows(m.queue, topic)), "{name}: {n}");
        n_published += records.len();
    }
    assert_eq!(told.published().count(), n_published, "{name}: nothing else was published");
    let mut n_delivered = 0;
    for (n, records) in &talk.delivered {
        let ours = told.delivered().filter(|d| d.message.request == *n).map(|d| {
            let Confirmation::Past(position) = d.confirmation else { panic!("{name}: {n} {d:?}") };
            (position.offset, d.message.bytes)
        });
        assert_eq!(ours.collect::<Vec<_>>(), *records, "{name}: {n}: offsets and sizes");
        n_delivered += records.len();
    }
    assert_eq!(told.delivered().count(), n_delivered, "{name}: nothing else was delivered");
    let passed = told.queue().filter_map(|e| if let QueueEvent::Passed(p) = e { Some(p.to.offset) } else { None });
    assert_eq!(passed.collect::<Vec<_>>(), talk.committed, "{name}: commits");
}
