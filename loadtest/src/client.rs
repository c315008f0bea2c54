//! A lean HTTP/1.1 client: request bytes come ready-made, answers are read into one reused buffer.
//!
//! It does what a load generator needs and no more: no redirects, no chunked bodies, no pipelining.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;
use crate::args::ConnectionMode;

/// An answer's head may not be longer than this, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// An answer's body may not be longer than this, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a server that was asked to close may take for it.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Where a server is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What the `host` header says.
    pub(crate) host: String,
    /// Where connections go.
    pub(crate) address: SocketAddr,
}

impl Target {
    /// Resolves `http://HOST:PORT`, with or without a slash behind it; the port is 80 if left out.
    pub(crate) async fn resolve(url: &str) -> Result<Self, Failure> {
        let rest = url.strip_prefix("http://").ok_or_else(|| format!("`{url}` must begin with http://"))?;
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.is_empty() || host.contains(['/', '?', '#', '@']) {
            return Err(format!("`{url}` must be http://HOST:PORT and no more").into());
        }
        let has_port =
            host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
        let address = tokio::net::lookup_host(&with_port)
            .await
            .map_err(|error| format!("cannot resolve `{with_port}`: {error}"))?
            .next()
            .ok_or_else(|| format!("`{with_port}` has no address"))?;
        Ok(Self { host: host.to_owned(), address })
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.to_string(), address }
    }
}

/// Why there is no answer. What the request did on the server differs, and the audit needs to know.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// No connection came about: the server has not seen the request.
    NotSent(std::io::Error),
    /// The request went out at least in part: it may have been done.
    Lost(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(error) => write!(out, "cannot connect: {error}"),
            Self::Lost(why) => write!(out, "no whole answer: {why}"),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// An answer; the body lies in the client's buffer until the next request.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The whole body.
    pub(crate) body: &'a [u8],
    /// It says when to come back.
    pub(crate) retry_after: bool,
}

/// One connection to a server, made when it is first needed and again whenever it was closed.
pub(crate) struct Client {
    address: SocketAddr,
    mode: ConnectionMode,
    stream: Option<TcpStream>,
    /// Holds the bytes of one answer; its capacity is kept from answer to answer.
    buffer: Vec<u8>,
}

impl Client {
    /// A client that is not connected yet.
    pub(crate) fn new(address: SocketAddr, mode: ConnectionMode) -> Self {
        Self { address, mode, stream: None, buffer: Vec::with_capacity(4 * 1024) }
    }

    /// Sends one whole request and reads the whole answer. Dropping the future closes the connection.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>, NoAnswer> {
        // Taken out, so that an exchange that is dropped half-way leaves no half-read connection behind.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address).await.map_err(NoAnswer::NotSent)?,
        };
        self.buffer.clear();
        stream.write_all(request).await.map_err(|error| NoAnswer::Lost(error.to_string()))?;
        let (head, body_end) = read_answer(&mut stream, &mut self.buffer).await?;
        if self.mode == ConnectionMode::PerRequest {
            wait_for_close(&mut stream).await;
        } else if !head.close {
            self.stream = Some(stream);
        }
        Ok(head.answer(&self.buffer[..body_end]))
    }
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Lets the server close first. The side that closes first keeps the port busy for a minute; were it this one, it
/// would run out of ports after some 28,000 requests.
async fn wait_for_close(stream: &mut TcpStream) {
    let mut rest = [0; 16];
    // Whether it closes in time makes no difference to the answer, which is complete.
    let _ = tokio::time::timeout(CLOSE_WAIT, stream.read(&mut rest)).await;
}

/// Reads until the answer in `buffer` is whole; gives its head and the end of its body.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(Head, usize), NoAnswer> {
    loop {
        let read = stream.read_buf(buffer).await.map_err(|error| NoAnswer::Lost(error.to_string()))?;
        let closed = read == 0;
        if let Some(whole) = whole_answer(buffer, closed).map_err(|error| NoAnswer::Lost(error.to_string()))? {
            return Ok(whole);
        }
        if closed {
            return Err(NoAnswer::Lost("the connection was closed".to_owned()));
        }
    }
}

/// What is wrong with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadAnswer {
    /// The first line is not that of an HTTP/1 answer.
    StatusLine,
    /// A header line has no colon, or a length that is no number.
    Header,
    /// The head or the body is longer than this client takes.
    TooLong,
    /// A transfer encoding, which this client does not speak.
    TransferEncoding,
    /// More bytes than the answer has: the client never pipelines, so nobody asked for them.
    Surplus,
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::StatusLine => "not the status line of a final HTTP/1 answer",
            Self::Header => "malformed header",
            Self::TooLong => "answer too long",
            Self::TransferEncoding => "transfer encodings are not supported",
            Self::Surplus => "bytes behind the answer",
        })
    }
}

/// The parts of an answer's head that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Where the body begins in the buffer.
    pub(crate) body_start: usize,
    /// The announced length; without one the body ends with the connection.
    pub(crate) body_len: Option<usize>,
    /// The server closes the connection after this answer.
    pub(crate) close: bool,
    /// There is a `retry-after`.
    pub(crate) retry_after: bool,
}

impl Head {
    /// The answer with this head; `whole` are all its bytes.
    pub(crate) fn answer<'a>(&self, whole: &'a [u8]) -> Answer<'a> {
        Answer { status: self.status, body: &whole[self.body_start..], retry_after: self.retry_after }
    }
}

/// The head and the body's end if `bytes` hold a whole answer; `closed` says that no more will come.
pub(crate) fn whole_answer(bytes: &[u8], closed: bool) -> Result<Option<(Head, usize)>, BadAnswer> {
    let Some(head) = parse_head(bytes)? else {
        return Ok(None);
    };
    let here = bytes.len() - head.body_start;
    match head.body_len {
        Some(announced) if here < announced => Ok(None),
        Some(announced) if here > announced => Err(BadAnswer::Surplus),
        None if here > BODY_BYTES_MAX => Err(BadAnswer::TooLong),
        None if !closed => Ok(None),
        _ => Ok(Some((head, bytes.len()))),
    }
}

/// Parses the head at the start of `bytes`; `None` if its end is not there yet.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, BadAnswer> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(BadAnswer::TooLong) } else { Ok(None) };
    };
    let mut lines = bytes[..end].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (status, old) = parse_status_line(lines.next().unwrap_or_default())?;
    let mut head = Head { status, body_start: end + 4, body_len: None, close: old, retry_after: false };
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(BadAnswer::Header)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            head.body_len = Some(parse_length(value)?);
        } else if name.eq_ignore_ascii_case(b"connection") {
            let has =
                |word: &[u8]| value.split(|b| *b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(word));
            head.close = has(b"close") || (head.close && !has(b"keep-alive"));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Err(BadAnswer::TransferEncoding);
        } else if name.eq_ignore_ascii_case(b"retry-after") {
            head.retry_after = true;
        }
    }
    head.close |= head.body_len.is_none();
    Ok(Some(head))
}

/// The status, and whether the version is one that closes connections by default.
fn parse_status_line(line: &[u8]) -> Result<(u16, bool), BadAnswer> {
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(BadAnswer::StatusLine)?;
    match rest {
        [version @ (b'0' | b'1'), b' ', a @ b'2'..=b'5', b, c, tail @ ..]
            if b.is_ascii_digit() && c.is_ascii_digit() && matches!(tail, [] | [b' ', ..]) =>
        {
            let digit = |byte: u8| u16::from(byte - b'0');
            Ok((digit(*a) * 100 + digit(*b) * 10 + digit(*c), *version == b'0'))
        }
        _ => Err(BadAnswer::StatusLine),
    }
}

fn parse_length(value: &[u8]) -> Result<usize, BadAnswer> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BadAnswer::Header);
    }
    let length = value
        .iter()
        .try_fold(0_usize, |sum, byte| sum.checked_mul(10)?.checked_add(usize::from(byte - b'0')))
        .ok_or(BadAnswer::TooLong)?;
    if length > BODY_BYTES_MAX { Err(BadAnswer::TooLong) } else { Ok(length) }
}

/// Headers of a request that not all have.
#[derive(Clone, Copy, Default)]
pub(crate) struct Headers<'a> {
    /// `token`.
    pub(crate) token: Option<&'a str>,
    /// `idempotency-key`.
    pub(crate) key: Option<&'a str>,
}

/// The bytes of a `POST` of a JSON body.
pub(crate) fn post(target: &Target, mode: ConnectionMode, path: &str, headers: Headers<'_>, body: &[u8]) -> Vec<u8> {
    let line = |name: &str, value: Option<&str>| value.map_or_else(String::new, |value| format!("{name}: {value}\r\n"));
    let (token, key) = (line("token", headers.token), line("idempotency-key", headers.key));
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\n{token}{key}{}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        target.host,
        close_header(mode),
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The bytes of a `GET`.
pub(crate) fn get(target: &Target, mode: ConnectionMode, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{}\r\n", target.host, close_header(mode)).into_bytes()
}

fn close_header(mode: ConnectionMode) -> &'static str {
    match mode {
        ConnectionMode::Kept => "",
        ConnectionMode::PerRequest => "connection: close\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const PLAIN: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 13\r\ndate: x\r\n\r\n{\"code\": 200}";

    #[test]
    fn an_answer_is_whole_at_its_last_byte_and_not_before() {
        for end in 0..PLAIN.len() {
            assert_eq!(whole_answer(&PLAIN[..end], false), Ok(None), "cut at {end}");
        }
        let (head, end) = whole_answer(PLAIN, false).unwrap().unwrap();
        assert_eq!((head.status, head.close, end), (200, false, PLAIN.len()));
        assert_eq!(&PLAIN[head.body_start..end], b"{\"code\": 200}");
    }

    #[test]
    fn a_surplus_byte_is_found() {
        let longer = [PLAIN, b"H"].concat();
        assert_eq!(whole_answer(&longer, false), Err(BadAnswer::Surplus));
    }

    #[test]
    fn connection_close_is_seen_in_any_form() {
        let close = |head: &str| parse_head(head.as_bytes()).unwrap().unwrap().close;
        assert!(close("HTTP/1.1 518 x\r\nConnection: Close\r\ncontent-length: 0\r\n\r\n"));
        assert!(close("HTTP/1.1 200 OK\r\nconnection: foo , close\r\ncontent-length:0\r\n\r\n"));
        assert!(close("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(!close("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n"));
        assert!(!close("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n"));
        assert!(close("HTTP/1.1 200 OK\r\n\r\n"), "no length: the body ends with the connection");
    }

    #[test]
    fn a_body_without_length_ends_with_the_connection() {
        let bytes = b"HTTP/1.1 200 OK\r\n\r\nabc";
        assert_eq!(whole_answer(bytes, false), Ok(None));
        let (head, end) = whole_answer(bytes, true).unwrap().unwrap();
        assert_eq!(&bytes[head.body_start..end], b"abc");
    }

    #[test]
    fn nonsense_is_refused() {
        let error = |head: &str| parse_head(format!("{head}\r\n\r\n").as_bytes()).unwrap_err();
        for line in ["", "HTTP/2 200", "HTTP/1.1 2x0 OK", "HTTP/1.1 100 Continue", "HTTP/1.1 2000", "HTTP/1.1"] {
            assert_eq!(error(line), BadAnswer::StatusLine, "{line}");
        }
        assert_eq!(error("HTTP/1.1 200 OK\r\nno colon"), BadAnswer::Header);
        assert_eq!(error("HTTP/1.1 200 OK\r\ncontent-length: -1"), BadAnswer::Header);
        assert_eq!(error("HTTP/1.1 200 OK\r\ncontent-length: "), BadAnswer::Header);
        assert_eq!(error("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999"), BadAnswer::TooLong);
        assert_eq!(error("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked"), BadAnswer::TransferEncoding);
        assert_eq!(whole_answer(&vec![b'a'; HEAD_BYTES_MAX + 1], false), Err(BadAnswer::TooLong));
    }

    /// A server that answers each request with `answers`, a write for each piece, a new connection for each list.
    async fn fake(connections: Vec<Vec<Vec<Vec<u8>>>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answers in connections {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                for pieces in answers {
                    let mut request = [0; 1024];
                    if stream.read(&mut request).await.unwrap() == 0 {
                        break;
                    }
                    for piece in pieces {
                        stream.write_all(&piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn split_answers_on_one_kept_connection() {
        let pieces = |at: usize| vec![PLAIN[..at].to_vec(), PLAIN[at..].to_vec()];
        let address = fake(vec![(1..PLAIN.len()).map(pieces).collect()]).await;
        let mut client = Client::new(address, ConnectionMode::Kept);
        for at in 1..PLAIN.len() {
            let answer = client.exchange(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
            assert_eq!((answer.status, answer.body), (200, &b"{\"code\": 200}"[..]), "split at {at}");
        }
    }

    #[tokio::test]
    async fn connects_anew_after_a_close_and_reports_a_loss() {
        let closing = b"HTTP/1.1 518 x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}".to_vec();
        let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{".to_vec();
        let address = fake(vec![vec![vec![closing.clone()]], vec![vec![closing]], vec![vec![cut]]]).await;
        let mut client = Client::new(address, ConnectionMode::Kept);
        for _ in 0..2 {
            assert_eq!(client.exchange(b"x").await.unwrap().status, 518);
        }
        assert!(matches!(client.exchange(b"x").await, Err(NoAnswer::Lost(_))));
        assert!(matches!(client.exchange(b"x").await, Err(NoAnswer::NotSent(_))), "the fake has gone");
    }

    #[tokio::test]
    async fn urls() {
        let target = Target::resolve("http://127.0.0.1:5000/").await.unwrap();
        assert_eq!((target.host.as_str(), target.address.port()), ("127.0.0.1:5000", 5000));
        assert_eq!(Target::resolve("http://127.0.0.1").await.unwrap().address.port(), 80);
        for wrong in ["127.0.0.1:5000", "https://127.0.0.1", "http://", "http://127.0.0.1:5000/buyer"] {
            assert!(Target::resolve(wrong).await.is_err(), "{wrong}");
        }
    }

    #[test]
    fn requests_are_well_formed() {
        let target = Target::from(SocketAddr::from(([127, 0, 0, 1], 5000)));
        assert_eq!(
            post(
                &target,
                ConnectionMode::PerRequest,
                "/buyer/new_order",
                Headers { token: Some("t"), key: Some("k") },
                b"{}"
            ),
            b"POST /buyer/new_order HTTP/1.1\r\nhost: 127.0.0.1:5000\r\ntoken: t\r\nidempotency-key: k\r\nconnection: close\r\n\
              content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        );
        assert_eq!(
            get(&target, ConnectionMode::Kept, "/metrics"),
            b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:5000\r\n\r\n"
        );
    }
}
