//! Watches what a client sends for heads that say in two ways where their body ends.
//!
//! Two parties that read such a head differently disagree about where the next request begins, and what one takes for
//! a body the other takes for a request: request smuggling. hyper settles on one reading and does not tell that there
//! was another (of `Transfer-Encoding` and `Content-Length` it drops the second), so it cannot be refused above it.
//!
//! This does not parse HTTP. It counts the two headers between the beginning of a head and its empty line, which costs a
//! search for line ends. It knows where heads begin as long as each says a length, or nothing, and no read goes beyond the
//! end of a request; bodies are passed over then. At such a beginning a [turnstile](super::turnstile) may answer in place
//! of hyper. Once it does not know, it counts between one empty line and the next, wherever they stand, for good: a body
//! with such lines in it would count, too; no JSON has them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Conn, Stream};
use super::socket::Outflow;
use super::turnstile;

const LENGTH: &[u8] = b"content-length:";
const CODING: &[u8] = b"transfer-encoding:";
/// As much of a line as has to be known: the name, and a length with some blanks around it.
const PREFIX_BYTES: usize = 40;

/// Where the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It begins a request.
    Start,
    Head,
    /// So many bytes of the body are to come.
    Body(u64),
    /// It cannot be said any more.
    Unknown,
}

/// What was seen since the last empty line.
struct Framing {
    /// The beginning of the line that has not ended.
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    /// Lines that say where the body ends.
    said: usize,
    /// What they said, if it was a length; none if nothing was said.
    length: Option<u64>,
    place: Place,
}

impl Default for Framing {
    fn default() -> Self {
        Framing { prefix: [0; PREFIX_BYTES], prefix_len: 0, said: 0, length: Some(0), place: Place::Start }
    }
}

impl Framing {
    /// Whether the next byte begins a request.
    fn is_at_start(&self) -> bool {
        self.place == Place::Start
    }

    /// Takes the next bytes; true when a head says more than once where its body ends.
    fn is_ambiguous_after(&mut self, bytes: &[u8]) -> bool {
        let heads = match self.place {
            Place::Start if bytes.is_empty() => return false,
            // Nothing of what came before is a part of this head.
            Place::Start => {
                self.place = Place::Head;
                self.begin_head();
                bytes
            }
            Place::Body(left) => {
                self.place = in_body(left, bytes.len());
                self.begin_head();
                // A body is not looked at, whatever it says.
                bytes.get(usize::try_from(left).unwrap_or(usize::MAX)..).unwrap_or_default()
            }
            Place::Head | Place::Unknown => bytes,
        };
        self.look_for_heads(heads)
    }

    fn begin_head(&mut self) {
        self.prefix_len = 0;
        self.said = 0;
        self.length = Some(0);
    }

    /// Looks at lines. Once it cannot be said where a request begins, all that comes is looked at as if it were heads.
    fn look_for_heads(&mut self, mut bytes: &[u8]) -> bool {
        let mut ambiguous = false;
        while let Some(end) = memchr(b'\n', bytes) {
            self.keep(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = &self.prefix[..self.prefix_len];
            self.prefix_len = 0;
            if line.is_empty() || line == b"\r" {
                if self.place == Place::Head {
                    self.place = self.length.map_or(Place::Unknown, |length| in_body(length, bytes.len()));
                    if self.place != Place::Unknown {
                        return ambiguous;
                    }
                }
                self.begin_head();
            } else if matches!(line[0], b'c' | b'C' | b't' | b'T')
                && (starts_with(line, LENGTH) || starts_with(line, CODING))
            {
                self.said += 1;
                ambiguous |= self.said > 1;
                self.length = if self.said == 1 { length_of(line) } else { None };
            }
        }
        self.keep(bytes);
        ambiguous
    }

    fn keep(&mut self, part: &[u8]) {
        let room = &mut self.prefix[self.prefix_len..];
        let kept = part.len().min(room.len());
        room[..kept].copy_from_slice(&part[..kept]);
        self.prefix_len += kept;
    }
}

/// Where one is after `came` bytes, when so many of a body were to come. More than that is the next request, which hyper
/// has now, too.
fn in_body(left: u64, came: usize) -> Place {
    match left.checked_sub(came as u64) {
        Some(0) => Place::Start,
        Some(left) => Place::Body(left),
        None => Place::Unknown,
    }
}

/// The length that a header says. Whatever else it says is for hyper to judge.
fn length_of(line: &[u8]) -> Option<u64> {
    if line.len() == PREFIX_BYTES || !starts_with(line, LENGTH) {
        return None;
    }
    std::str::from_utf8(&line[LENGTH.len()..]).ok()?.trim().parse().ok()
}

fn starts_with(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// A stream whose incoming bytes are watched. What is found is told to the connection, and how much comes in one turn is
/// limited. A request that is turned away never gets above it.
pub(super) struct Watched<S> {
    inner: S,
    framing: Framing,
    conn: Arc<Conn>,
    /// Of an answer that was not hyper's: what has not been written.
    unsent: Vec<u8>,
    sent: usize,
    /// It is written, and perhaps kept back below.
    unflushed: bool,
    /// The last write did not take all that hyper had.
    holds_back: bool,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, conn: Arc<Conn>) -> Self {
        Watched {
            inner,
            framing: Framing::default(),
            conn,
            unsent: Vec::new(),
            sent: 0,
            unflushed: false,
            holds_back: false,
        }
    }
}

impl<S: Stream> Watched<S> {
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.unsent[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
            self.unflushed = true;
            if self.sent == self.unsent.len() {
                self.unsent.clear();
                self.sent = 0;
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.poll_unsent(cx))?;
            if this.conn.is_turn_over() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            let came = &buf.filled()[before..];
            this.conn.has_read(came.len());
            let was_at_start = this.framing.is_at_start();
            if this.framing.is_ambiguous_after(came) {
                this.conn.distrust();
            }
            // A whole request and nothing else, with nothing of hyper's before or behind it.
            let is_alone = was_at_start && this.framing.is_at_start() && !came.is_empty() && !this.holds_back;
            if !is_alone || turnstile::turn_away(&this.conn, came, &mut this.unsent).is_none() {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
        }
    }
}

impl<S: Stream> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // hyper writes while an answer of ours waits only when it has something to say on its own: after it.
        ready!(this.poll_unsent(cx))?;
        let written = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.holds_back = !matches!(written, Poll::Ready(Ok(taken)) if taken == bytes.len());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

impl<S: Stream> Stream for Watched<S> {
    fn into_socket(self) -> tokio::net::TcpStream {
        self.inner.into_socket()
    }

    fn outflow(&self) -> Arc<Outflow> {
        self.inner.outflow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ambiguous(text: &str, piece: usize) -> bool {
        let mut framing = Framing::default();
        text.as_bytes().chunks(piece).map(|bytes| framing.is_ambiguous_after(bytes)).fold(false, |a, b| a | b)
    }

    fn place_after(text: &str, piece: usize) -> Place {
        let mut framing = Framing::default();
        text.as_bytes().chunks(piece).for_each(|bytes| {
            framing.is_ambiguous_after(bytes);
        });
        framing.place
    }

    /// However the bytes come. Requests behind one another are told apart only when no read holds two of them.
    #[test]
    fn where_a_request_begins() {
        let request = |length: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{length}\r\n{body}");
        for (text, expected) in [
            (String::new(), Place::Start),
            (request("Content-Length: 2\r\n", "{}"), Place::Start),
            (request("content-length:2\r\n", "{}").replace("\r\n", "\n"), Place::Start),
            (request("Content-Length: \t 2 \r\n", "{}"), Place::Start),
            (request("", ""), Place::Start),
            (request("Content-Length: 4\r\n", "\r\n\r\n"), Place::Start),
            (request("Content-Length: 9\r\n", "\n\nabc"), Place::Body(4)),
            (request("Content-Length: 2\r\n", "{}P"), Place::Head),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n".to_owned(), Place::Head),
            (request("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), Place::Unknown),
            (request("Content-Length: x\r\n", ""), Place::Unknown),
            (request("Content-Length: -1\r\n", ""), Place::Unknown),
            (request(&format!("Content-Length: {}2\r\n", " ".repeat(40)), "{}"), Place::Unknown),
            (request("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"), Place::Unknown),
            (request("Content-Length: 2\r\nTransfer-Encoding: x\r\n", "{}"), Place::Unknown),
        ] {
            for piece in 1..=text.len().max(1) {
                let place = place_after(&text, piece);
                // A read that ends behind the body hides where the next head began.
                let hidden = expected == Place::Head && place == Place::Unknown;
                assert!(place == expected || hidden, "{piece}: {text:?}: {place:?}");
            }
        }
        let two = request("Content-Length: 2\r\n", "{}").repeat(2);
        assert_eq!(place_after(&two, 1), Place::Start);
        assert_eq!(place_after(&two, two.len()), Place::Unknown);
    }

    /// What a body says of lengths is nobody's head, wherever the reads end.
    #[test]
    fn a_body_that_looks_like_a_head_moves_nothing() {
        let post = |length: usize| format!("POST /x HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        for body in [
            "content-length: 40\n",
            "content-length: 40",
            "\r\ncontent-length: 4\r\n",
            "transfer-encoding: chunked\r\n",
        ] {
            let mut framing = Framing::default();
            let mut give = |text: &str| (framing.is_ambiguous_after(text.as_bytes()), framing.place);
            assert_eq!(give(&post(body.len())), (false, Place::Body(body.len() as u64)));
            assert_eq!(give(body), (false, Place::Start), "{body:?}");
            assert_eq!(give("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), (false, Place::Start), "{body:?}");
            assert_eq!(give(&post(70)), (false, Place::Body(70)), "{body:?}");
            assert_eq!(give(&post(2)[..30]), (false, Place::Body(40)), "a body, not a request");
            // In one read with its head, and in pieces.
            let whole = post(body.len()) + body;
            for piece in 1..=whole.len() {
                assert_eq!(place_after(&whole, piece), Place::Start, "{piece} {body:?}");
                assert!(!ambiguous(&whole.repeat(2), whole.len()), "{body:?}");
            }
        }
    }

    /// However the bytes come.
    #[test]
    fn a_head_that_says_it_twice_is_found() {
        let one = "POST / HTTP/1.1\r\nContent-Length: 2\r\nHost: x\r\n\r\n{}";
        for (text, expected) in [
            (one.to_owned(), false),
            (one.repeat(3), false),
            (one.replace("\r\n", "\n").repeat(3), false),
            ("POST / HTTP/1.1\r\nx-content-length: 2\r\nContent-Length: 2\r\n\r\n".into(), false),
            ("POST / HTTP/1.1\r\nContent-Lengthy: 2\r\nContent-Length: 2\r\n\r\n".into(), false),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".repeat(2), false),
            (one.replace("Host: x", "tRANSFER-eNCODING: chunked"), true),
            (one.replace("Host: x", "content-length:2"), true),
            (one.replace("\r\n", "\n").replace("Host: x", "Transfer-Encoding:x"), true),
            (one.to_owned() + &one.replace("Host: x", "Content-Length: 3"), true),
        ] {
            for piece in 1..=text.len() {
                assert_eq!(ambiguous(&text, piece), expected, "{piece}: {text:?}");
            }
        }
    }
}
