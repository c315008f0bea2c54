//! One task a connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tracing::debug;

use super::answer::ResponseBody;
use super::io::Io;
use super::shared::{Gate, Phase, Shared};
use super::{answer, routes, service};

/// hyper's buffer is at least this large, so that bodies are read in few pieces.
const READ_BUFFER_BYTES_MIN: usize = 400 << 10;
/// Room above our limit of header bytes: up to here a request is judged by us, with its route's failure values.
const HEADER_SLACK_BYTES: usize = 64 << 10;
/// How long a goodbye may take, and how much is read during it.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 16 << 20;

/// What the parts of one connection share: the service, the socket, the timer.
pub(super) struct Conn {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: IpAddr,
    /// An answer was given although the client may still be sending: do not slam the door.
    pub(super) linger: AtomicBool,
    opened: Instant,
    /// The deadline of the head that is awaited, in ns since `opened`.
    head_deadline_ns: AtomicU64,
}

impl Conn {
    pub(super) fn new(shared: Arc<Shared>, peer: IpAddr) -> Self {
        Conn {
            shared,
            peer,
            linger: AtomicBool::new(false),
            opened: Instant::now(),
            head_deadline_ns: AtomicU64::new(0),
        }
    }

    fn head_deadline(&self) -> Instant {
        self.opened + Duration::from_nanos(self.head_deadline_ns.load(Ordering::Relaxed))
    }
}

/// The timer that hyper uses for the head of a request.
///
/// hyper wants a new sleep for every request, which costs an entry in the runtime's timer wheel each time. Here
/// a sleep only looks at the clock when it is polled, and [`drive`] keeps the one real alarm of the connection.
struct HeadTimer(Arc<Conn>);

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let since_open = deadline.saturating_duration_since(self.0.opened).as_nanos();
        self.0.head_deadline_ns.store(u64::try_from(since_open).unwrap_or(u64::MAX), Ordering::Relaxed);
        Box::pin(Due(deadline))
    }
}

struct Due(Instant);

impl Future for Due {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Sleep for Due {}

/// Answers a request of one of our own connections.
async fn handle(conn: Arc<Conn>, request: Request<Incoming>) -> Result<Response<ResponseBody>, Infallible> {
    let mut reply = service::answer(&conn.shared, Some(conn.peer), request).await;
    if reply.close {
        conn.linger.store(true, Ordering::Relaxed);
    }
    reply.close |= conn.shared.is_ending();
    Ok(reply.into_response())
}

/// Serves a connection to its end.
pub(super) async fn run(stream: TcpStream, peer: IpAddr, shared: Arc<Shared>) {
    let conn = Arc::new(Conn::new(Arc::clone(&shared), peer));
    let service = service_fn({
        let conn = Arc::clone(&conn);
        move |request| handle(Arc::clone(&conn), request)
    });
    let mut http = http1::Builder::new()
        .timer(HeadTimer(Arc::clone(&conn)))
        .header_read_timeout(shared.config.header_timeout)
        .max_buf_size(READ_BUFFER_BYTES_MIN.max(shared.config.header_bytes_max + HEADER_SLACK_BYTES))
        .keep_alive(true)
        // Off: it holds a finished answer back while any byte of a next request is there, for ever if that request
        // is malformed or the connection is to be closed.
        .pipeline_flush(false)
        // A client that has shut down its sending side still gets its answer; and hyper does not have to probe
        // the socket for the end of the stream while a handler runs.
        .half_close(true)
        .serve_connection(Io::new(stream), service);
    let outcome = drive(Pin::new(&mut http), &shared.gate, &conn, |http| http.graceful_shutdown()).await;
    let Some(outcome) = outcome else { return };
    let parts = http.into_parts();
    let stream = parts.io.into_inner();
    match outcome {
        Ok(()) if !conn.linger.load(Ordering::Relaxed) => {}
        Ok(()) => linger(stream).await,
        // An idle connection is closed without a word; half a head gets an answer.
        Err(error) if error.is_timeout() => {
            if !parts.read_buf.is_empty() {
                shared.metrics.record_unrouted(408);
                send(&stream, &answer::raw(408, "Request Timeout", "request timeout: the headers took too long")).await;
                linger(stream).await;
            }
        }
        Err(error) if error.is_parse() => {
            shared.metrics.record_unrouted(if error.is_parse_too_large() { 431 } else { 400 });
            linger(stream).await;
        }
        Err(error) => debug!(%error, route = routes::UNROUTED, "a connection broke"),
    }
}

/// Tells a client that there are too many connections.
pub(super) async fn reject(stream: TcpStream) {
    send(&stream, &answer::raw(503, "Service Unavailable", "too many connections; nothing was done")).await;
    linger(stream).await;
}

/// Polls a connection until it ends, is told to drain, or (`None`) is cut.
///
/// The gate is a lock that all connections share and the alarm a lock of the runtime, so neither is touched for
/// every request: the gate is registered with once for a waker, the alarm is moved only when it rings.
async fn drive<C: Future>(
    mut http: Pin<&mut C>,
    gate: &Gate,
    conn: &Conn,
    graceful: impl Fn(Pin<&mut C>),
) -> Option<C::Output> {
    let timeout = conn.shared.config.header_timeout;
    let mut told = pin!(gate.changed());
    let mut alarm = pin!(tokio::time::sleep(timeout));
    let mut known_waker: Option<Waker> = None;
    let mut known_phase = Phase::Serving;
    poll_fn(|cx| {
        let is_known = known_waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !is_known || gate.phase() != known_phase {
            known_waker = Some(cx.waker().clone());
            // First registered, then read: a change in between wakes this task again.
            while told.as_mut().poll(cx).is_ready() {
                told.set(gate.changed());
            }
            let phase = gate.phase();
            if phase == Phase::Cut {
                return Poll::Ready(None);
            }
            if phase > known_phase {
                // What has arrived already is read first, so that it is answered.
                if let Poll::Ready(outcome) = http.as_mut().poll(cx) {
                    return Poll::Ready(Some(outcome));
                }
                graceful(http.as_mut());
            }
            known_phase = phase;
        }
        let rang = alarm.as_mut().poll(cx).is_ready();
        if let Poll::Ready(outcome) = http.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        if rang {
            let now = Instant::now();
            let deadline = conn.head_deadline();
            // A deadline that has passed was of a head that has arrived; the next one cannot be sooner than this.
            let next = if deadline > now { deadline } else { now + timeout };
            alarm.as_mut().reset(next.into());
            if alarm.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    })
    .await
}

/// Writes all of `bytes`, or gives up when the client does not read.
async fn send(stream: &TcpStream, mut bytes: &[u8]) {
    let writing = async {
        while !bytes.is_empty() {
            stream.writable().await?;
            match stream.try_write(bytes) {
                Ok(0) => break,
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER_TIME, writing).await {
        debug!(%error, "an answer could not be written");
    }
}

/// Ends the sending side and reads what the client still sends. Closing a socket that has unread bytes resets
/// the connection, and a reset can destroy the answer before the client has read it.
async fn linger(mut stream: TcpStream) {
    let closing = async {
        poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await?;
        let mut scrap = vec![0; 16 << 10];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            stream.readable().await?;
            match stream.try_read(&mut scrap) {
                Ok(0) => break,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER_TIME, closing).await {
        debug!(%error, "the client left during the goodbye");
    }
}
