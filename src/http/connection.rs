//! One task a connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::answer::ResponseBody;
use super::call::Caller;
use super::framing::Watched;
use super::io::Io;
use super::routes::Door;
use super::shared::{Gate, Phase, Shared};
use super::socket::{Outflow, Socket};
use super::{answer, routes, service, tls};

/// hyper's buffer is at least this large, so that bodies are read in few pieces.
const READ_BUFFER_BYTES_MIN: usize = 400 << 10;
/// Room above our limit of header bytes: up to here a request is judged by us, with its route's failure values.
const HEADER_SLACK_BYTES: usize = 64 << 10;
/// What is read of one connection before others have their turn, in bytes and in reads. hyper goes on for as long as
/// bytes come, and there are bodies that it reads one byte at a time; the runtime's own budget of reads is larger, and
/// what uses it up leaves nothing for the timeouts of the same task.
const TURN_BYTES_MAX: usize = 64 << 10;
const TURN_READS_MAX: usize = 32;
/// After the deadline of a head, so that the runtime looks at the sockets once more. A process that was stopped, with its
/// machine or by a signal, goes on with all its timers due and nothing known of what came in meanwhile: without this it
/// cut connections on which a whole request stood waiting.
const GRACE: Duration = Duration::from_millis(50);
/// How long a goodbye may take, and how much is read during it.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 16 << 20;

/// The stream of a connection: the socket itself, or TLS on it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// The socket below.
    fn into_socket(self) -> TcpStream;

    /// Whether the client takes what is written to that socket.
    fn outflow(&self) -> Arc<Outflow>;
}

impl Stream for Socket {
    fn into_socket(self) -> TcpStream {
        self.into_inner()
    }

    fn outflow(&self) -> Arc<Outflow> {
        Socket::outflow(self)
    }
}

impl Stream for TlsStream<Socket> {
    fn into_socket(self) -> TcpStream {
        self.into_inner().0.into_inner()
    }

    fn outflow(&self) -> Arc<Outflow> {
        self.get_ref().0.outflow()
    }
}

/// What the parts of one connection share: the service, the socket, the timer.
pub(super) struct Conn {
    pub(super) shared: Arc<Shared>,
    caller: Caller,
    /// An answer was given although the client may still be sending: do not slam the door.
    linger: AtomicBool,
    /// The request that comes now was judged by the turnstile and has room.
    admitted: AtomicBool,
    /// A head said in two ways where its body ends, so what follows is not taken for a request.
    distrusted: AtomicBool,
    /// What was read in this turn.
    turn_bytes: AtomicUsize,
    turn_reads: AtomicUsize,
    opened: Instant,
    /// The deadline of the head that is awaited, in ns since `opened`.
    head_deadline_ns: AtomicU64,
    /// That deadline has passed, and so has [`GRACE`] since that was seen.
    is_overdue: AtomicBool,
    outflow: Arc<Outflow>,
}

impl Conn {
    fn new(shared: Arc<Shared>, caller: Caller, outflow: Arc<Outflow>) -> Self {
        Conn {
            shared,
            caller,
            linger: AtomicBool::new(false),
            admitted: AtomicBool::new(false),
            distrusted: AtomicBool::new(false),
            turn_bytes: AtomicUsize::new(0),
            turn_reads: AtomicUsize::new(0),
            opened: Instant::now(),
            head_deadline_ns: AtomicU64::new(0),
            is_overdue: AtomicBool::new(false),
            outflow,
        }
    }

    /// No request is taken from this connection any more. It is set while bytes are read, before they are parsed.
    pub(super) fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    /// Whether nobody can say any more where a request ends.
    pub(super) fn is_distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Relaxed)
    }

    /// There is room for the request that is being read.
    pub(super) fn admit(&self) {
        self.admitted.store(true, Ordering::Relaxed);
    }

    /// Where the client came in.
    pub(super) fn door(&self) -> Door {
        self.caller.door
    }

    /// From now on the next head is awaited: a request was answered without hyper, which waits for its head still.
    pub(super) fn await_head(&self) {
        self.set_head_deadline(Instant::now() + self.shared.config.header_timeout);
    }

    fn set_head_deadline(&self, deadline: Instant) {
        let since_open = deadline.saturating_duration_since(self.opened).as_nanos();
        self.head_deadline_ns.store(u64::try_from(since_open).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.is_overdue.store(false, Ordering::Relaxed);
    }

    fn begin_turn(&self) {
        self.turn_bytes.store(0, Ordering::Relaxed);
        self.turn_reads.store(0, Ordering::Relaxed);
    }

    /// Whether enough was read for now.
    pub(super) fn is_turn_over(&self) -> bool {
        self.turn_bytes.load(Ordering::Relaxed) >= TURN_BYTES_MAX
            || self.turn_reads.load(Ordering::Relaxed) >= TURN_READS_MAX
    }

    pub(super) fn has_read(&self, bytes: usize) {
        self.turn_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.turn_reads.fetch_add(1, Ordering::Relaxed);
    }

    fn head_deadline(&self) -> Instant {
        self.opened + Duration::from_nanos(self.head_deadline_ns.load(Ordering::Relaxed))
    }
}

/// The timer that hyper uses for the head of a request.
///
/// hyper wants a new sleep for every request, which costs an entry in the runtime's timer wheel each time. Here
/// a sleep only looks at the clock when it is polled, and [`drive`] keeps the one real alarm of the connection. There is
/// one head at a time, and its deadline may move on, see [`Conn::await_head`].
struct HeadTimer(Arc<Conn>);

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.0.set_head_deadline(deadline);
        Box::pin(Due(Arc::clone(&self.0)))
    }
}

struct Due(Arc<Conn>);

impl Future for Due {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let is_over = self.0.is_overdue.load(Ordering::Relaxed) && Instant::now() >= self.0.head_deadline();
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Sleep for Due {}

/// Answers a request of one of our own connections.
async fn handle(conn: Arc<Conn>, request: Request<Incoming>) -> Result<Response<ResponseBody>, Infallible> {
    let (mut reply, working) = if conn.is_distrusted() {
        service::refuse_ambiguous(&conn.shared, conn.caller, &request)
    } else {
        let is_admitted = conn.admitted.swap(false, Ordering::Relaxed);
        service::answer(&conn.shared, conn.caller, is_admitted, request).await
    };
    if reply.close {
        conn.linger.store(true, Ordering::Relaxed);
    }
    reply.close |= conn.shared.is_ending();
    Ok(reply.into_response(&working))
}

/// Serves a connection to its end.
pub(super) async fn run(stream: TcpStream, caller: Caller, shared: Arc<Shared>) {
    let stream = Socket::new(stream);
    let Some(identity) = &shared.config.tls else { return serve(stream, caller, shared).await };
    // In a box, so that connections without TLS have no room for it.
    Box::pin(async {
        if let Some(stream) = tls::accept(stream, identity, &shared).await {
            serve(stream, caller, Arc::clone(&shared)).await;
        }
    })
    .await;
}

async fn serve<S: Stream>(stream: S, caller: Caller, shared: Arc<Shared>) {
    let conn = Arc::new(Conn::new(Arc::clone(&shared), caller, stream.outflow()));
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
        .serve_connection(Io::new(Watched::new(stream, Arc::clone(&conn))), service);
    let outcome = drive(Pin::new(&mut http), &shared.gate, &conn, |http| http.graceful_shutdown()).await;
    let parts = http.into_parts();
    let mut stream = parts.io.into_inner();
    let outcome = match outcome {
        End::Http(outcome) => outcome,
        End::Drain => return,
        End::Unread => {
            debug!("a client took nothing of its answer and is cut");
            // What waits in the system's buffer would wait on, for the same client.
            if let Err(error) = stream.into_socket().set_zero_linger() {
                debug!(%error, "the connection is closed and not reset");
            }
            return;
        }
    };
    match outcome {
        Ok(()) if !conn.linger.load(Ordering::Relaxed) => {}
        Ok(()) => linger(stream).await,
        // An idle connection is closed without a word of HTTP; half a head gets an answer.
        Err(error) if error.is_timeout() => {
            if parts.read_buf.is_empty() {
                return end(&mut stream).await;
            }
            shared.metrics.record_unrouted(408);
            let answer = answer::raw(408, "Request Timeout", "request timeout: the headers took too long");
            send(&mut stream, &answer).await;
            linger(stream).await;
        }
        Err(error) if error.is_parse() => {
            shared.metrics.record_unrouted(if error.is_parse_too_large() { 431 } else { 400 });
            linger(stream).await;
        }
        Err(error) => debug!(%error, route = routes::UNROUTED, "a connection broke"),
    }
}

/// Tells a client that there are too many connections.
pub(super) async fn reject(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = Socket::new(stream);
    let answer = answer::raw(503, "Service Unavailable", "too many connections; nothing was done");
    let Some(identity) = &shared.config.tls else {
        send(&mut stream, &answer).await;
        return linger(stream).await;
    };
    let accepted = Box::pin(tls::accept(stream, identity, &shared));
    if let Ok(Some(mut stream)) = tokio::time::timeout(LINGER_TIME, accepted).await {
        send(&mut stream, &answer).await;
        linger(stream).await;
    }
}

/// How a connection came to its end.
enum End<T> {
    Http(T),
    /// The drain took too long.
    Drain,
    /// The client took nothing of its answer for too long.
    Unread,
}

/// Polls a connection until it ends, told to drain or not, or is cut.
///
/// The gate is a lock that all connections share and the alarm a lock of the runtime, so neither is touched for
/// every request: the gate is registered with once for a waker, the alarm is moved only when it rings.
async fn drive<C: Future>(
    mut http: Pin<&mut C>,
    gate: &Gate,
    conn: &Conn,
    graceful: impl Fn(Pin<&mut C>),
) -> End<C::Output> {
    let timeout = conn.shared.config.header_timeout;
    let write_timeout = conn.shared.config.write_timeout;
    // Bytes that do not go are looked for at most this often, so that between two looks is the whole time at least.
    let mut looked = Instant::now();
    let mut told = pin!(gate.changed());
    let mut alarm = pin!(tokio::time::sleep(timeout.min(write_timeout)));
    let mut known_waker: Option<Waker> = None;
    let mut known_phase = Phase::Serving;
    poll_fn(|cx| {
        conn.begin_turn();
        let is_known = known_waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !is_known || gate.phase() != known_phase {
            known_waker = Some(cx.waker().clone());
            // First registered, then read: a change in between wakes this task again.
            while told.as_mut().poll(cx).is_ready() {
                told.set(gate.changed());
            }
            let phase = gate.phase();
            if phase == Phase::Cut {
                return Poll::Ready(End::Drain);
            }
            if phase > known_phase {
                // What has arrived already is read first, so that it is answered.
                if let Poll::Ready(outcome) = http.as_mut().poll(cx) {
                    return Poll::Ready(End::Http(outcome));
                }
                graceful(http.as_mut());
            }
            known_phase = phase;
        }
        let rang = alarm.as_mut().poll(cx).is_ready();
        if let Poll::Ready(outcome) = http.as_mut().poll(cx) {
            return Poll::Ready(End::Http(outcome));
        }
        if rang {
            let now = Instant::now();
            if now.saturating_duration_since(looked) >= write_timeout {
                looked = now;
                if conn.outflow.stood_still() {
                    return Poll::Ready(End::Unread);
                }
            }
            let deadline = conn.head_deadline();
            let next = if deadline > now {
                deadline
            } else if !conn.is_overdue.swap(true, Ordering::Relaxed) {
                now + GRACE
            } else {
                // It was of a head that has arrived; the next one cannot be sooner than this.
                now + timeout
            };
            alarm.as_mut().reset(next.min(looked + write_timeout).into());
            if alarm.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    })
    .await
}

/// Writes all of `bytes`, or gives up when the client does not read.
pub(super) async fn send<S: Stream>(stream: &mut S, bytes: &[u8]) {
    let writing = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER_TIME, writing).await {
        debug!(%error, "an answer could not be written");
    }
}

/// Says goodbye in the connection's own language: over TLS that nothing was cut off.
async fn end<S: Stream>(stream: &mut S) {
    if let Ok(Err(error)) = tokio::time::timeout(LINGER_TIME, stream.shutdown()).await {
        debug!(%error, "the client left before the goodbye");
    }
}

/// Ends the sending side and reads what the client still sends. Closing a socket that has unread bytes resets
/// the connection, and a reset can destroy the answer before the client has read it.
pub(super) async fn linger<S: Stream>(mut stream: S) {
    let closing = async {
        stream.shutdown().await?;
        // What comes now is thrown away, so nobody has to decipher it.
        let socket = stream.into_socket();
        let mut scrap = vec![0; 16 << 10];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            socket.readable().await?;
            match socket.try_read(&mut scrap) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Config, Engine};
    use crate::http::HttpConfig;

    /// A client that is refused again and again is no idle one, though hyper sees nothing of it.
    #[tokio::test]
    async fn who_is_turned_away_has_time_for_the_next_head() {
        let header_timeout = Duration::from_secs(60);
        let config = HttpConfig { header_timeout, ..HttpConfig::default() };
        let shared = Arc::new(Shared::new(Engine::open(Config::memory()).await.unwrap(), config));
        let conn = Arc::new(Conn::new(shared, Caller { peer: None, door: Door::Only }, Arc::default()));
        let mut due = HeadTimer(Arc::clone(&conn)).sleep(Duration::ZERO);
        let mut context = Context::from_waker(Waker::noop());
        assert!(due.as_mut().poll(&mut context).is_pending(), "a request may stand in the socket");
        conn.is_overdue.store(true, Ordering::Relaxed);
        assert!(due.as_mut().poll(&mut context).is_ready());
        conn.await_head();
        assert!(due.as_mut().poll(&mut context).is_pending());
        assert!(!conn.is_overdue.load(Ordering::Relaxed));
        assert!(conn.head_deadline() > Instant::now() + header_timeout / 2);
    }
}
