//! The socket at the bottom of a connection, below TLS. It remembers whether the client takes what is written.
//!
//! A client that asks and does not read holds its answer, and the answer's share of all long ones. What is written is
//! watched here and not above TLS, which takes a piece long before the socket does. The watch is one byte that only the
//! connection's own task touches; the clock is read by the connection's alarm, never by a write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Nothing waits to be written, or the last attempt took something.
const FLOWING: u8 = 0;
/// Bytes wait, and the socket takes none.
const STUCK: u8 = 1;
/// The same, and somebody looked since.
const STUCK_AT_LOOK: u8 = 2;

/// Whether bytes that are to be sent go.
#[derive(Default)]
pub(super) struct Outflow(AtomicU8);

impl Outflow {
    /// Looks. True when no byte went since the last look, though there were some to be sent all the time.
    pub(super) fn stood_still(&self) -> bool {
        let seen = self.0.load(Ordering::Relaxed);
        if seen == STUCK {
            self.0.store(STUCK_AT_LOOK, Ordering::Relaxed);
        }
        seen == STUCK_AT_LOOK
    }

    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        let before = self.0.load(Ordering::Relaxed);
        let now = match written {
            Poll::Ready(_) => FLOWING,
            Poll::Pending => before.max(STUCK),
        };
        if now != before {
            self.0.store(now, Ordering::Relaxed);
        }
        written
    }
}

/// A client's socket.
pub(super) struct Socket {
    inner: TcpStream,
    outflow: Arc<Outflow>,
}

impl Socket {
    pub(super) fn new(inner: TcpStream) -> Self {
        Socket { inner, outflow: Arc::default() }
    }

    pub(super) fn outflow(&self) -> Arc<Outflow> {
        Arc::clone(&self.outflow)
    }

    /// As that of the system's socket: looks at what has come and leaves it there.
    pub(super) async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.inner.peek(bytes).await
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.inner
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.outflow.note(Pin::new(&mut this.inner).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.outflow.note(Pin::new(&mut this.inner).poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_still_when_nothing_went_between_two_looks() {
        let outflow = Outflow::default();
        assert!(!outflow.stood_still() && !outflow.stood_still(), "nothing is to be sent");
        let _ = outflow.note(Poll::<()>::Pending);
        assert!(!outflow.stood_still(), "it may have got stuck just now");
        let _ = outflow.note(Poll::Ready(()));
        let _ = outflow.note(Poll::<()>::Pending);
        assert!(!outflow.stood_still(), "something went in between");
        let _ = outflow.note(Poll::<()>::Pending);
        assert!(outflow.stood_still());
        let _ = outflow.note(Poll::Ready(()));
        assert!(!outflow.stood_still() && !outflow.stood_still());
    }
}
