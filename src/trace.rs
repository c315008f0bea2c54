//! For whose request something is done: the request's id, for every line of the log, and its span.
//!
//! While a thread works for a request, the request is its *current* one. A message to an actor takes the current request
//! along, and whoever handles the message works for it; so it goes through a whole saga, and what is logged anywhere on the
//! way has the id: the log asks [`current`] at each line.
//!
//! While nobody listens to [`TARGET`], a request without an id of its own is a number: no text is made of it, nothing is
//! allocated, no span is there. Whether somebody listens is one relaxed load. Then each request has a span, and each message
//! of its saga one below it.
//!
//! Nothing in here knows HTTP, actors or engines.

use std::cell::RefCell;
use std::fmt::{self, Display};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use tracing::field::{Empty, display};
use tracing::span::EnteredSpan;
use tracing::{Level, Span, debug, debug_span};

/// The target of the spans of requests and of the lines about their steps, all of level debug.
pub(crate) const TARGET: &str = "bookstore::saga";

/// Digits of an id that was made here.
pub(crate) const MADE_ID_DIGITS: usize = 24;

/// The first digits of each id made by this process.
static PREFIX: LazyLock<[u8; 8]> = LazyLock::new(|| hexadecimal(RandomState::new().build_hasher().finish() as u32));
static MADE: AtomicU64 = AtomicU64::new(0);
/// What this process mixes its numbers with.
static MIX: LazyLock<[u64; 3]> = LazyLock::new(|| {
    let random = || RandomState::new().build_hasher().finish();
    [random(), random() | 1, random() | 1]
});

thread_local! {
    static CURRENT: RefCell<Request> = const { RefCell::new(Request::None) };
}

/// Whether somebody listens to [`TARGET`]. One relaxed load if not.
#[inline]
pub(crate) fn is_on() -> bool {
    tracing::enabled!(target: TARGET, Level::DEBUG)
}

/// For whose request something is done. A clone costs next to nothing.
#[derive(Clone, Default)]
pub(crate) enum Request {
    /// For nobody's.
    #[default]
    None,
    /// One whose id was made here, and nobody listens.
    Made(u64),
    /// Any other.
    Shared(Arc<Shared>),
}

/// What those who work for one request share.
pub(crate) struct Shared {
    id: Id,
    /// Disabled when nobody listens.
    span: Span,
    about: Mutex<About>,
}

/// Whom and what a request is about, as far as it was noted.
#[derive(Clone, Default)]
pub(crate) struct About {
    pub(crate) user_id: Option<String>,
    pub(crate) store_id: Option<String>,
    pub(crate) order_id: Option<String>,
}

/// The id of a request.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Id {
    /// Made here; the number of the request in this process.
    Made(u64),
    /// It came along.
    Taken(Box<str>),
}

impl Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Made(number) => f.write_str(std::str::from_utf8(&digits(*number)).unwrap_or_default()),
            Id::Taken(text) => f.write_str(text),
        }
    }
}

/// The digits of an id that was made here: the process, then the number, mixed: two answers do not tell everybody how many
/// requests there were between them.
pub(crate) fn digits(number: u64) -> [u8; MADE_ID_DIGITS] {
    let mut digits = [0; MADE_ID_DIGITS];
    let number = mixed(number, &MIX);
    digits[..8].copy_from_slice(&*PREFIX);
    digits[8..16].copy_from_slice(&hexadecimal((number >> 32) as u32));
    digits[16..].copy_from_slice(&hexadecimal(number as u32));
    digits
}

/// Another number for each; an odd factor and a shift can be undone, so no two become the same.
fn mixed(number: u64, [key, first, second]: &[u64; 3]) -> u64 {
    let number = (number ^ key).wrapping_mul(*first);
    let number = (number ^ number >> 32).wrapping_mul(*second);
    number ^ number >> 29
}

/// Eight digits at once: each answer has such an id.
fn hexadecimal(number: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let spread = u64::from(number);
    let spread = (spread & 0xffff_0000) << 16 | spread & 0xffff;
    let spread = (spread & 0x0000_ff00_0000_ff00) << 8 | spread & 0x0000_00ff_0000_00ff;
    let spread = (spread & 0x00f0_00f0_00f0_00f0) << 4 | spread & 0x000f_000f_000f_000f;
    let letters = (spread + 6 * ONES) >> 4 & ONES;
    let digits = spread + u64::from(b'0') * ONES + letters * u64::from(b'a' - b'0' - 10);
    digits.to_be_bytes()
}

impl Request {
    /// A request that begins. `taken` is its id if it brought one. The caller tells what `route` it is for, in a word that
    /// is the same for all of its kind.
    pub(crate) fn begin(taken: Option<&str>, route: &'static str) -> Self {
        let id = match taken {
            Some(text) => Id::Taken(text.into()),
            None => Id::Made(MADE.fetch_add(1, Ordering::Relaxed)),
        };
        if is_on() {
            return Self::spanned(id, route);
        }
        match id {
            Id::Made(number) => Request::Made(number),
            id => Request::Shared(Arc::new(Shared { id, span: Span::none(), about: Mutex::default() })),
        }
    }

    #[cold]
    fn spanned(id: Id, route: &'static str) -> Self {
        let span = debug_span!(
            target: TARGET,
            "request",
            otel.name = route,
            otel.kind = "server",
            request_id = %id,
            route,
            user_id = Empty,
            store_id = Empty,
            order_id = Empty,
            code = Empty,
        );
        Request::Shared(Arc::new(Shared { id, span, about: Mutex::default() }))
    }

    /// Its id.
    pub(crate) fn id(&self) -> Option<Id> {
        match self {
            Request::None => None,
            Request::Made(number) => Some(Id::Made(*number)),
            Request::Shared(shared) => Some(shared.id.clone()),
        }
    }
}

impl Request {
    /// The span, if somebody listens.
    pub(crate) fn span(&self) -> Option<&Span> {
        match self {
            Request::Shared(shared) if !shared.span.is_disabled() => Some(&shared.span),
            _ => None,
        }
    }

    /// Whom and what it is about, as far as somebody listened.
    pub(crate) fn about(&self) -> About {
        match self {
            Request::Shared(shared) => shared.about.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            _ => About::default(),
        }
    }

    /// Does something for this request.
    pub(crate) fn run<T>(mut self, work: impl FnOnce() -> T) -> T {
        let _back = Swapped::with(&mut self);
        work()
    }
}

/// The request that this thread works for.
pub(crate) fn current() -> Request {
    CURRENT.with_borrow(Request::clone)
}

/// Exchanges the current request for another, and back when it is dropped.
struct Swapped<'a>(&'a mut Request);

impl<'a> Swapped<'a> {
    fn with(request: &'a mut Request) -> Self {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, request));
        Swapped(request)
    }
}

impl Drop for Swapped<'_> {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, self.0));
    }
}

/// A future that is polled for a request.
pub(crate) struct Within<'a, F> {
    request: &'a mut Request,
    work: Pin<&'a mut F>,
}

/// Polls `work` for `request`.
pub(crate) fn within<'a, F: Future>(request: &'a mut Request, work: Pin<&'a mut F>) -> Within<'a, F> {
    Within { request, work }
}

/// `work` for the request of who calls this, wherever it is polled: for a task that does a part of it.
pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let mut request = current();
    async move { within(&mut request, std::pin::pin!(work)).await }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Within { request, work } = self.get_mut();
        let span = request.span().cloned();
        let _span = span.as_ref().map(Span::enter);
        let _back = Swapped::with(request);
        work.as_mut().poll(context)
    }
}

/// Notes whom or what the current request is about, if somebody listens: `user_id`, `store_id`, `order_id`. Other fields are
/// passed over.
#[inline]
pub(crate) fn note(field: &'static str, value: impl Display) {
    if is_on() {
        note_down(field, &value);
    }
}

#[cold]
fn note_down(field: &'static str, value: &dyn Display) {
    CURRENT.with_borrow(|request| {
        let (Request::Shared(shared), Some(span)) = (request, request.span()) else { return };
        let mut about = shared.about.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = match field {
            "user_id" => &mut about.user_id,
            "store_id" => &mut about.store_id,
            "order_id" => &mut about.order_id,
            _ => return,
        };
        *noted = Some(value.to_string());
        span.record(field, display(value));
    });
}

/// A step of a saga: an entity handles a message. It lasts until it is dropped, and is told then.
pub(crate) struct Step {
    what: What,
    began: Instant,
    /// Left after the line about it.
    _span: EnteredSpan,
}

/// Which step it is, and whose.
#[derive(Default)]
pub(crate) struct What {
    /// What the message asks for.
    pub(crate) step: &'static str,
    /// The account that handles it, if one does.
    pub(crate) user: Option<String>,
    /// The store that does.
    pub(crate) store: Option<String>,
    /// The order that it is about.
    pub(crate) order: Option<String>,
}

impl Step {
    /// Begins a step of the current request, if somebody listens.
    #[inline]
    pub(crate) fn begin(what: impl FnOnce() -> What) -> Option<Step> {
        if is_on() { Self::begin_told(what()) } else { None }
    }

    #[cold]
    fn begin_told(what: What) -> Option<Step> {
        CURRENT.with_borrow(|request| {
            let (Request::Shared(shared), Some(parent)) = (request, request.span()) else { return None };
            let span = debug_span!(
                target: TARGET,
                parent: parent,
                "step",
                otel.name = what.step,
                request_id = %shared.id,
                step = what.step,
                user_id = what.user.as_deref(),
                store_id = what.store.as_deref(),
                order_id = what.order.as_deref(),
            );
            Some(Step { what, began: Instant::now(), _span: span.entered() })
        })
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let What { step, user, store, order } = &self.what;
        let took_us = self.began.elapsed().as_micros() as u64;
        debug!(target: TARGET, step, user_id = user, store_id = store, order_id = order, took_us);
    }
}

/// An answer that waits until the journal is durable up to what it rests on: the last step of a request. It lasts until it
/// is dropped, and is told then.
pub(crate) struct Commit {
    request: Request,
    span: Span,
    began: Instant,
}

impl Request {
    /// The answer to this request begins to wait, if somebody listens.
    pub(crate) fn commit(&self) -> Option<Box<Commit>> {
        let Request::Shared(shared) = self else { return None };
        let parent = self.span()?;
        let step = "journal_commit";
        let span = debug_span!(
            target: TARGET,
            parent: parent,
            "step",
            otel.name = step,
            request_id = %shared.id,
            step,
        );
        Some(Box::new(Commit { request: self.clone(), span, began: Instant::now() }))
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        let took_us = self.began.elapsed().as_micros() as u64;
        let span = &self.span;
        let told = || span.in_scope(|| debug!(target: TARGET, step = "journal_commit", took_us));
        std::mem::take(&mut self.request).run(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_digits_are_those_of_the_number() {
        for number in [0, 1, 9, 10, 15, 16, 0x1234_5678, 0x9abc_def0, 0xa9f0_0fa9, u32::MAX] {
            assert_eq!(hexadecimal(number), *format!("{number:08x}").as_bytes());
        }
        assert_eq!(digits(7)[..8], PREFIX[..]);
    }

    #[test]
    fn numbers_are_mixed_and_stay_different() {
        let keys = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3211, 0x9e37_79b9_7f4a_7c15];
        let some: std::collections::HashSet<u64> = (0..10_000).map(|number| mixed(number, &keys)).collect();
        assert_eq!(some.len(), 10_000);
        // The next number is not the next digit.
        assert!((0..1_000).all(|number| mixed(number + 1, &keys).abs_diff(mixed(number, &keys)) > 1 << 20));
    }

    #[test]
    fn a_thread_works_for_one_request_at_a_time_and_comes_back_to_it() {
        let is = |number| matches!(current(), Request::Made(it) if it == number);
        assert!(matches!(current(), Request::None));
        Request::Made(1).run(|| {
            assert!(is(1));
            let panicked = std::panic::catch_unwind(|| Request::Made(2).run(|| assert!(!is(2), "on purpose")));
            assert!(panicked.is_err() && is(1));
        });
        assert!(matches!(current(), Request::None));
    }
}
