//! `h2` as the server to which a client's bytes go, and as the client to which a server's bytes come.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::{RecvStream, client, server};
use http::{HeaderMap, Request};
use monitor_core::model::Side;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Asked, PREFACE};
use crate::Unreadable;
use crate::common::Segments;

/// Recordings that it cannot play.
pub(super) const UNREADABLE: &[Unreadable] = &[
    ("grpcio", "protocol error", "metadata in binary, as grpcio agrees upon with itself; `h2` takes texts alone"),
    ("nghttp", "protocol error", "it cancels pushes, which this server has not made"),
    ("nghttp_table", "another number", "nghttp's first stream is 13, `h2`'s is 1"),
];

/// Type and flags of an acknowledgement of settings.
const SETTINGS_ACK: (u8, u8) = (4, 1);
/// How often an end is asked for more: it works on a few frames at a time.
const TURNS: usize = 200;
/// Larger than all that was said: how much may be sent at once was agreed with another.
const WINDOW: u32 = 1 << 24;

/// A connection from which the recorded bytes come when they may, and where nobody listens.
struct Wire {
    from_peer: Vec<u8>,
    at: usize,
    open: Rc<Cell<bool>>,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let n = (self.from_peer.len() - self.at).min(into.remaining());
        if n == 0 || !self.open.get() {
            return Poll::Pending;
        }
        into.put_slice(&self.from_peer[self.at..self.at + n]);
        self.at += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What this side has said, but for acknowledgements of settings that `h2` does not make: it makes them once.
fn said_by(side: Side, segments: &Segments) -> Vec<u8> {
    let all: Vec<u8> = segments.iter().filter(|(from, _)| *from == side).flat_map(|(_, bytes)| bytes.clone()).collect();
    let preface = if all.starts_with(PREFACE) { PREFACE.len() } else { 0 };
    let (preface, mut rest) = all.split_at(preface);
    let (mut out, mut acknowledged) = (preface.to_vec(), false);
    while let Some([a, b, c, kind, flags, ..]) = rest.first_chunk::<9>().copied() {
        let (frame, after) = rest.split_at((9 + u32::from_be_bytes([0, a, b, c]) as usize).min(rest.len()));
        if (kind, flags) != SETTINGS_ACK || !std::mem::replace(&mut acknowledged, true) {
            out.extend(frame);
        }
        rest = after;
    }
    [&out, rest].concat()
}

/// Polls until it is ready, so often.
fn ready<T>(cx: &mut Context<'_>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    (0..TURNS).find_map(|_| if let Poll::Ready(got) = poll(cx) { Some(got) } else { None })
}

fn text(error: h2::Error) -> String {
    error.to_string()
}

/// What a body came to: whether it is whole, what stands behind it, the code with which it was broken off.
fn body(stream: &mut RecvStream, cx: &mut Context<'_>) -> (bool, Option<HeaderMap>, Option<u32>) {
    loop {
        match stream.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => drop(stream.flow_control().release_capacity(data.len())),
            Poll::Ready(Some(Err(error))) => return (false, None, error.reason().map(u32::from)),
            Poll::Ready(None) => {
                let behind = match stream.poll_trailers(cx) {
                    Poll::Ready(Ok(behind)) => behind,
                    _ => None,
                };
                return (true, behind, None);
            }
            Poll::Pending => return (false, None, None),
        }
    }
}

/// What a server is asked; and the streams' numbers.
fn asked(segments: &Segments, cx: &mut Context<'_>) -> Result<Vec<(u32, Asked)>, String> {
    let from_peer = said_by(Side::Client, segments);
    if !from_peer.starts_with(PREFACE) {
        return Err("no preface".to_owned());
    }
    let wire = Wire { from_peer, at: 0, open: Rc::new(Cell::new(true)) };
    let mut builder = server::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).max_header_list_size(WINDOW);
    let mut begins = pin!(builder.handshake::<_, Bytes>(wire));
    let mut connection = ready(cx, |cx| begins.as_mut().poll(cx)).ok_or("no handshake")?.map_err(text)?;
    let mut all = Vec::new();
    for _ in 0..TURNS {
        match connection.poll_accept(cx) {
            Poll::Ready(Some(request)) => all.push(request.map_err(text)?),
            Poll::Ready(None) => break,
            Poll::Pending => {}
        }
    }
    let mut out = Vec::new();
    for (request, answer) in &mut all {
        let reset = match answer.poll_reset(cx) {
            Poll::Ready(Ok(reason)) => Some(u32::from(reason)),
            _ => body(request.body_mut(), cx).2,
        };
        let kind = request.headers().get("content-type").map(|t| t.as_bytes().to_vec()).unwrap_or_default();
        let x = Asked {
            method: request.method().to_string(),
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            is_call: kind.starts_with(b"application/grpc"),
            reset,
            ..Asked::default()
        };
        out.push((answer.stream_id().as_u32(), x));
    }
    Ok(out)
}

/// What was asked, as a server has understood it, and answered, as a client has.
pub(super) fn play(segments: &Segments) -> Result<Vec<Asked>, String> {
    let mut cx = Context::from_waker(Waker::noop());
    let cx = &mut cx;
    let mut all = asked(segments, cx)?;
    let open = Rc::new(Cell::new(false));
    let wire = Wire { from_peer: said_by(Side::Server, segments), at: 0, open: Rc::clone(&open) };
    let mut builder = client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).max_header_list_size(WINDOW);
    builder.initial_max_send_streams(1_000);
    let mut begins = pin!(builder.handshake::<_, Bytes>(wire));
    let (mut sender, connection) = ready(cx, |cx| begins.as_mut().poll(cx)).ok_or("no handshake")?.map_err(text)?;
    let mut connection = pin!(connection);
    let mut answers = Vec::new();
    for (number, x) in &all {
        let uri = format!("http://server{}", x.path);
        let request = Request::builder().method(x.method.as_str()).uri(uri).body(()).map_err(|e| e.to_string())?;
        let (answer, _) = sender.send_request(request, true).map_err(text)?;
        if answer.stream_id().as_u32() != *number {
            return Err(format!("stream {number} would have another number"));
        }
        answers.push(answer);
    }
    // First everything is asked, then answered.
    for turn in 0..TURNS {
        open.set(turn > TURNS / 4);
        if let Poll::Ready(end) = connection.as_mut().poll(cx) {
            end.map_err(text)?;
            break;
        }
    }
    for (answer, (_, x)) in answers.into_iter().zip(&mut all) {
        let mut answer = pin!(answer);
        let mut got = match answer.as_mut().poll(cx) {
            Poll::Ready(Ok(got)) => got,
            Poll::Ready(Err(error)) => {
                x.reset = x.reset.or(error.reason().map(u32::from));
                continue;
            }
            Poll::Pending => continue,
        };
        x.status = Some(got.status().as_u16());
        let (whole, behind, reset) = body(got.body_mut(), cx);
        let code = |fields: &HeaderMap| fields.get("grpc-status")?.to_str().ok()?.parse().ok();
        x.call_status = behind.as_ref().and_then(code).or_else(|| code(got.headers()));
        x.answered = whole;
        x.reset = x.reset.or(reset);
    }
    Ok(all.into_iter().map(|(_, x)| x).collect())
}
