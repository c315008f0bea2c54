//! Reads the body of a request within its limits, and limits the bytes of long answers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::Body;

/// A body that is refused is read and thrown away up to this, so that the client gets to read the answer.
const DISCARDED_BYTES_MAX: u64 = 64 << 20;
/// What is reserved for a body before any of it has come. Little, because it does not count: who announces much and
/// sends nothing must not cost more than who says nothing.
const FIRST_RESERVE_BYTES_MAX: usize = 4 << 10;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    /// Longer than the route allows. 413.
    TooLarge,
    /// Did not arrive in time. 408.
    Slow,
    /// The connection broke or the transfer coding is malformed. 400.
    Broken,
    /// All bodies together take too much memory. 503.
    OverBudget,
}

/// Bytes of all bodies in flight.
pub(super) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Self {
        Budget { used: AtomicUsize::new(0), max }
    }

    /// Bytes held now.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn hold(&self) -> Held<'_> {
        Held { budget: self, bytes: 0 }
    }

    /// The share of an answer of so many bytes. `None` if all together are too many; one alone never is.
    pub(super) fn share(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let share = Share { budget: self.clone(), bytes };
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        (before == 0 || before.saturating_add(bytes) <= self.max).then_some(share)
    }

    /// The same bytes, with a share that comes back when they are dropped: when they were sent, or their reader is gone.
    pub(super) fn weigh(self: &Arc<Self>, bytes: Bytes) -> Option<Bytes> {
        let share = self.share(bytes.len())?;
        Some(Bytes::from_owner(Weighed { bytes, _share: share }))
    }
}

/// A share of the budget, given back on drop.
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes that count.
struct Weighed {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Weighed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body's share of the budget, given back on drop.
pub(super) struct Held<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Held<'_> {
    fn add(&mut self, bytes: usize) -> Result<(), BodyError> {
        let before = self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before.saturating_add(bytes) > self.budget.max { Err(BodyError::OverBudget) } else { Ok(()) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// Reads a whole body. The share of the budget is held until the request is answered.
pub(super) async fn read<'a, B: Body + Unpin>(
    body: &mut B,
    bytes_max: usize,
    budget: &'a Budget,
    timeout: Duration,
) -> Result<(Bytes, Held<'a>), BodyError> {
    let mut held = budget.hold();
    if body.is_end_stream() {
        return Ok((Bytes::new(), held));
    }
    // A short body has come along with its head and is one frame: no copy and no timer for it.
    let mut first = Bytes::new();
    if let Poll::Ready(frame) = poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await {
        match frame {
            None => return Ok((first, held)),
            Some(Err(_)) => return Err(BodyError::Broken),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    first = within(data, bytes_max)?;
                }
            }
        }
        held.add(first.len())?;
        if body.is_end_stream() {
            return Ok((first, held));
        }
    }
    let whole = tokio::time::timeout(timeout, collect(body, first, bytes_max, &mut held))
        .await
        .map_err(|_elapsed| BodyError::Slow)??;
    Ok((whole, held))
}

/// The bytes of one frame; no copy if they are `Bytes` already, as hyper's are.
fn within(mut data: impl Buf, bytes_max: usize) -> Result<Bytes, BodyError> {
    let bytes = data.remaining();
    if bytes > bytes_max { Err(BodyError::TooLarge) } else { Ok(data.copy_to_bytes(bytes)) }
}

async fn collect<B: Body + Unpin>(
    body: &mut B,
    first: Bytes,
    bytes_max: usize,
    held: &mut Held<'_>,
) -> Result<Bytes, BodyError> {
    let expected = body.size_hint().exact().map_or(0, |rest| usize::try_from(rest).unwrap_or(usize::MAX));
    let mut whole = Vec::with_capacity(first.len() + expected.min(FIRST_RESERVE_BYTES_MAX));
    whole.extend_from_slice(&first);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_broken| BodyError::Broken)?.into_data() else { continue };
        let data = within(data, bytes_max - whole.len())?;
        held.add(data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok(Bytes::from(whole))
}

/// Reads and throws away the rest of a body that is not wanted. Returns whether all of it came.
pub(super) async fn discard<B: Body + Unpin>(body: &mut B, timeout: Duration) -> bool {
    let declared = body.size_hint().exact();
    if body.is_end_stream() {
        return true;
    }
    if declared.is_some_and(|bytes| bytes > DISCARDED_BYTES_MAX) {
        return false;
    }
    let reading = async {
        let mut left = DISCARDED_BYTES_MAX;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let bytes = frame.data_ref().map_or(0, |data| data.remaining() as u64);
            let Some(rest) = left.checked_sub(bytes) else { return false };
            left = rest;
        }
        true
    };
    tokio::time::timeout(timeout, reading).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_comes_back() {
        let budget = Budget::new(10);
        let mut first = budget.hold();
        assert_eq!(first.add(10), Ok(()));
        let mut second = budget.hold();
        assert_eq!(second.add(1), Err(BodyError::OverBudget));
        drop(second);
        assert_eq!(budget.used(), 10);
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn long_answers_are_limited_together_and_one_alone_is_not() {
        let budget = Arc::new(Budget::new(10));
        let long = budget.weigh(Bytes::from(vec![1; 20])).unwrap();
        assert!(budget.weigh(Bytes::from_static(b"x")).is_none());
        assert_eq!((long.len(), budget.used()), (20, 20));
        drop(long);
        let two = [budget.weigh(Bytes::from(vec![1; 5])), budget.weigh(Bytes::from(vec![1; 5]))];
        assert!(two.iter().all(Option::is_some));
        assert!(budget.weigh(Bytes::from_static(b"x")).is_none());
        drop(two);
        assert_eq!(budget.used(), 0);
    }
}
