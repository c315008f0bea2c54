//! The socket as hyper sees it.
//!
//! hyper answers a head that it cannot parse by itself, with an empty body, and has no hook for it. The contract
//! wants JSON for every error, so this wrapper recognises such an answer on its way out and gives it a body. Our
//! own answers never end in an empty line, so ordinary traffic pays one comparison of four bytes a write.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::routes::ROUTES;
use super::{answer, request_id, told};

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";
/// What hyper writes for an answer without a body. Ours all have one.
const EMPTY_BODY: &[u8] = b"content-length: 0\r\n";
/// hyper's error heads are status, date, length and `connection: close`: much shorter than this.
const HEAD_BYTES_MAX: usize = 256;

pub(super) struct Io<S> {
    inner: TokioIo<S>,
    rewriting: Option<Rewriting>,
}

/// An error answer in place of hyper's. hyper is told that its own was written when all of this one is.
struct Rewriting {
    bytes: Vec<u8>,
    sent: usize,
}

impl<S> Io<S> {
    pub(super) fn new(stream: S) -> Self {
        Io { inner: TokioIo::new(stream), rewriting: None }
    }

    pub(super) fn into_inner(self) -> S {
        self.inner.into_inner()
    }
}

impl<S: AsyncWrite + Unpin> Io<S> {
    fn poll_rewritten(&mut self, cx: &mut Context<'_>, replaced: usize) -> Poll<std::io::Result<usize>> {
        while let Some(rewriting) = &mut self.rewriting {
            let rest = &rewriting.bytes[rewriting.sent..];
            if rest.is_empty() {
                self.rewriting = None;
                break;
            }
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Ok(0));
            }
            rewriting.sent += sent;
        }
        Poll::Ready(Ok(replaced))
    }
}

impl<S: AsyncRead + Unpin> Read for Io<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> Write for Io<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let mut ours = buf;
        if buf.ends_with(END)
            && let Some(start) = error_head(buf)
        {
            if start == 0 {
                if this.rewriting.is_none() {
                    this.rewriting = Some(Rewriting { bytes: with_body(buf), sent: 0 });
                }
                return this.poll_rewritten(cx, buf.len());
            }
            ours = &buf[..start];
        }
        Pin::new(&mut this.inner).poll_write(cx, ours)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    /// hyper then puts head and body into one buffer, which is what a short answer wants and what
    /// [`error_head`] relies on.
    fn is_write_vectored(&self) -> bool {
        false
    }
}

/// Where hyper's own error head begins, if `buf` ends with one.
fn error_head(buf: &[u8]) -> Option<usize> {
    let from = buf.len().saturating_sub(HEAD_BYTES_MAX);
    let tail = &buf[from..];
    let start = tail.windows(7).rposition(|window| window == b"HTTP/1.")?;
    let head = &tail[start..];
    let is_error = matches!(head.get(8..12), Some(b" 400" | b" 414" | b" 431"));
    let is_empty = head.windows(EMPTY_BODY.len()).any(|window| window == EMPTY_BODY);
    (is_error && is_empty).then_some(from + start)
}

/// The same head, with a body.
fn with_body(head: &[u8]) -> Vec<u8> {
    let (code, message) = match &head[9..12] {
        b"414" => (414, "request target too long"),
        b"431" => (431, "headers too large"),
        _ => (400, "malformed request"),
    };
    let request = request_id::begin_unrouted();
    told::answered(&request, ROUTES.len(), code, Duration::ZERO);
    let body = answer::plain_body(code, message);
    let mut out = Vec::with_capacity(head.len() + body.len() + 64);
    for line in head[..head.len() - END.len()].split_inclusive(|byte| *byte == b'\n') {
        if !line.starts_with(b"content-length: 0") {
            out.extend_from_slice(line);
        }
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    request_id::put_line(&mut out, &request);
    out.extend_from_slice(
        format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(),
    );
    out.extend_from_slice(&body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\
        date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";

    #[test]
    fn an_error_head_is_found_behind_other_answers() {
        assert_eq!(error_head(HEAD), Some(0));
        let mut both = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec();
        let first = both.len();
        both.extend_from_slice(HEAD);
        assert_eq!(error_head(&both), Some(first));
        assert_eq!(error_head(&both[10..]), Some(first - 10), "also when the first answer was written in part");
    }

    #[test]
    fn other_heads_are_left_alone() {
        assert_eq!(error_head(b"HTTP/1.1 100 Continue\r\n\r\n"), None);
        assert_eq!(error_head(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"), None);
        assert_eq!(error_head(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 27\r\n\r\n"), None);
        assert_eq!(error_head(b"\r\n\r\n"), None);
    }

    #[test]
    fn the_new_answer_keeps_the_head_and_has_one_length() {
        for head in [HEAD.to_vec(), b"HTTP/1.0 431 X\r\ncontent-length: 0\r\n\r\n".to_vec()] {
            let text = String::from_utf8(with_body(&head)).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(head.matches("content-length").count(), 1, "{head}");
            assert!(head.contains(&format!("content-length: {}", body.len())), "{text}");
            assert!(!head.contains("\n\r\n") && !head.contains("\n\n"), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(body).unwrap()["code"].is_u64());
        }
    }
}
