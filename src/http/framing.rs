//! Watches what a client sends for heads that say in two ways where their body ends.
//!
//! Two parties that read such a head differently disagree about where the next request begins, and what one takes for
//! a body the other takes for a request: request smuggling. hyper settles on one reading and does not tell that there
//! was another (of `Transfer-Encoding` and `Content-Length` it drops the second), so it cannot be refused above it.
//!
//! This does not parse HTTP. It counts the two headers between one empty line and the next, wherever they stand, which
//! costs a search for line ends. A body with such lines in it would count, too; no JSON has them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Conn, Stream};
use super::socket::Outflow;

const LENGTH: &[u8] = b"content-length:";
const CODING: &[u8] = b"transfer-encoding:";
/// As much of a line as has to be known.
const PREFIX_BYTES: usize = CODING.len();

/// What was seen since the last empty line.
#[derive(Default)]
struct Framing {
    /// The beginning of the line that has not ended.
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    /// Lines that say where the body ends.
    said: usize,
}

impl Framing {
    /// Takes the next bytes; true when a head says more than once where its body ends.
    fn is_ambiguous_after(&mut self, mut bytes: &[u8]) -> bool {
        let mut ambiguous = false;
        while let Some(end) = memchr(b'\n', bytes) {
            self.keep(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = &self.prefix[..self.prefix_len];
            self.prefix_len = 0;
            if line.is_empty() || line == b"\r" {
                self.said = 0;
            } else if starts_with(line, LENGTH) || starts_with(line, CODING) {
                self.said += 1;
                ambiguous |= self.said > 1;
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

fn starts_with(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// A stream whose incoming bytes are watched. What is found is told to the connection, and how much comes in one turn is
/// limited.
pub(super) struct Watched<S> {
    inner: S,
    framing: Framing,
    conn: Arc<Conn>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, conn: Arc<Conn>) -> Self {
        Watched { inner, framing: Framing::default(), conn }
    }
}

impl<S: Stream> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.conn.is_turn_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let came = &buf.filled()[before..];
        this.conn.has_read(came.len());
        if this.framing.is_ambiguous_after(came) {
            this.conn.distrust();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
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
