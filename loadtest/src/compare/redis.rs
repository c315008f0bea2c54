//! Redis with an order and its payment in one Lua function, and a client that calls it.
//!
//! The client is part of this program and not redis-benchmark, which cannot send orders that differ in length. It does as
//! that one does: a single thread takes all answers that are there before it sends the next calls. So the server finds
//! many calls at once, and syncs its log once for all of them.

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::process::{Daemon, meter};
use super::shop::{self, Order, Shop};
use crate::Failure;
use crate::args::Load;
use crate::report::to_f64;
use crate::scenario::{ORDER_ID_BYTES, Random};
use crate::server::TemporaryDirectory;

const FUNCTION: &str = include_str!("paid_order.lua");
/// Connections that each send a call, wait for its answer, and send the next.
pub(super) const CLIENTS: u32 = 50;
/// Latencies above a minute are counted as a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// When its log is synced.
#[derive(Clone, Copy)]
pub(super) enum Fsync {
    Always,
    EverySecond,
}

impl Fsync {
    fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
        }
    }
}

/// A server that runs. It listens on a socket in its own directory and nowhere else.
pub(super) struct Redis {
    // Ended before its directory is removed.
    daemon: Daemon,
    socket: PathBuf,
    _directory: TemporaryDirectory,
}

/// What was measured.
pub(super) struct Measured {
    pub(super) paid_per_second: f64,
    pub(super) latency_us: Histogram<u64>,
    /// CPU seconds of the server a second.
    pub(super) server_cores: Option<f64>,
    /// What the audit found wrong.
    pub(super) wrong: Vec<String>,
}

impl Redis {
    /// A new one, empty.
    pub(super) async fn start(binary: &Path, parent: &Path, fsync: Fsync, timeout: Duration) -> Result<Self, Failure> {
        let directory = TemporaryDirectory::new(parent)?;
        let home = directory.path().canonicalize()?;
        let socket = home.join("socket");
        let mut command = Command::new(binary);
        command.args(["--port", "0", "--unixsocketperm", "700", "--unixsocket"]).arg(&socket).arg("--dir").arg(&home);
        // The log alone, and it is not rewritten within a run.
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", fsync.word()]);
        command.args(["--auto-aof-rewrite-percentage", "0", "--daemonize", "no"]);
        let mut daemon = Daemon::start(&mut command, Signal::KILL, home.join("log"))?;
        daemon
            .wait_until(timeout, || async {
                match Connection::open(&socket).await {
                    Ok(mut connection) => connection.call(&["PING"]).await.is_ok(),
                    Err(_) => false,
                }
            })
            .await
            .map_err(|error| format!("Redis {error}"))?;
        Ok(Self { daemon, socket, _directory: directory })
    }

    /// Fills the shelves, pays orders, and looks whether it is all there.
    pub(super) async fn measure(&self, shop: &Shop, load: &Load, duration: Duration) -> Result<Measured, Failure> {
        let mut connection = Connection::open(&self.socket).await?;
        let sha = self.fill(&mut connection, shop).await?;
        let calls: Vec<Call> = shop.orders.iter().map(|order| Call::new(&sha, order)).collect();
        let start = Instant::now() + load.warmup;
        let end = start + duration;
        let cores = meter(vec![self.daemon.pid()], load.warmup, load.warmup + duration);
        let (socket, seed) = (self.socket.clone(), load.seed);
        // Ends by itself if the server does.
        let driven = tokio::task::spawn_blocking(move || drive(&socket, &calls, seed, start, end));
        let (latency_us, paid) = driven.await??;
        let wrong = audit(&mut connection, shop, &paid).await?;
        let paid_per_second = to_f64(latency_us.len()) / duration.as_secs_f64();
        Ok(Measured { paid_per_second, latency_us, server_cores: cores.await.ok().flatten(), wrong })
    }

    /// Gives the name of the function.
    async fn fill(&self, connection: &mut Connection, shop: &Shop) -> Result<String, Failure> {
        let (funds, stock) = (shop::FUNDS_FEN.to_string(), shop::STOCK.to_string());
        for buyer in 0..shop.buyers {
            let (key, password) = (format!("user:buyer-{buyer}"), shop::password(buyer));
            connection.call(&["HSET", &key, "password", &password, "balance", &funds]).await?;
        }
        for store in 0..shop.stores {
            let (seller, key) = (format!("seller-{store}"), format!("store:store-{store}"));
            let account = ["HSET", &format!("user:{seller}"), "password", "password of a seller", "balance", "0"];
            connection.call(&account).await?;
            connection.call(&["HSET", &key, "owner", &seller]).await?;
            for (book, price) in shop.prices_fen.iter().enumerate() {
                let book = format!("book-{book}");
                connection.call(&["HSET", &format!("{key}:level"), &book, &stock]).await?;
                connection.call(&["HSET", &format!("{key}:price"), &book, &price.to_string()]).await?;
            }
        }
        connection.call(&["SCRIPT", "LOAD", FUNCTION]).await
    }
}

/// Compares every level, every balance and the number of orders with what was answered.
async fn audit(connection: &mut Connection, shop: &Shop, paid: &[u64]) -> Result<Vec<String>, Failure> {
    let mut wrong = Vec::new();
    let mut levels = vec![vec![shop::STOCK; shop.prices_fen.len()]; shop.stores as usize];
    let mut buyers = vec![shop::FUNDS_FEN; shop.buyers as usize];
    let mut sellers = vec![0; shop.stores as usize];
    for (order, paid) in shop.orders.iter().zip(paid) {
        for (book, count) in &order.lines {
            levels[order.store as usize][*book] -= (count * paid).cast_signed();
        }
        buyers[order.buyer as usize] -= (order.total_fen * paid).cast_signed();
        sellers[order.store as usize] += (order.total_fen * paid).cast_signed();
    }
    let keys = shop.buyers + shop.stores * 4;
    let orders = connection.call(&["DBSIZE"]).await?;
    let must_be = (u64::from(keys) + paid.iter().sum::<u64>()).to_string();
    if orders != must_be {
        wrong.push(format!("keys: {orders}, must be {must_be}"));
    }
    let money = ["buyer", "seller"].into_iter().zip([buyers, sellers]).flat_map(|(kind, balances)| {
        let key = move |number| (format!("user:{kind}-{number}"), "balance".to_owned());
        balances.into_iter().enumerate().map(move |(number, balance)| (key(number), balance))
    });
    let shelves = levels.into_iter().enumerate().flat_map(|(store, levels)| {
        let key = move |book| (format!("store:store-{store}:level"), format!("book-{book}"));
        levels.into_iter().enumerate().map(move |(book, level)| (key(book), level))
    });
    for ((key, field), must_be) in money.chain(shelves) {
        let value = connection.call(&["HGET", &key, &field]).await?;
        if value != must_be.to_string() {
            wrong.push(format!("{key} {field}: {value}, must be {must_be}"));
        }
    }
    Ok(wrong)
}

/// A call that is ready but for the id of its order.
struct Call {
    bytes: Vec<u8>,
    id_at: usize,
}

impl Call {
    fn new(sha: &str, order: &Order) -> Self {
        let id = "0".repeat(ORDER_ID_BYTES);
        let (buyer, store) = (format!("buyer-{}", order.buyer), format!("store-{}", order.store));
        let mut words =
            ["EVALSHA", sha, "0", &id, &buyer, &store, &shop::password(order.buyer)].map(str::to_owned).to_vec();
        for (book, count) in &order.lines {
            words.extend([format!("book-{book}"), count.to_string()]);
        }
        let head: Vec<&str> = words[..3].iter().map(String::as_str).collect();
        // The digits of the number of words do not matter: both are written in full.
        let all: Vec<&str> = words.iter().map(String::as_str).collect();
        let bytes = encode(&all);
        let behind_count = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let head = encode(&head);
        let id_at = behind_count(&bytes) + head.len() - behind_count(&head) + format!("${ORDER_ID_BYTES}\r\n").len();
        Self { bytes, id_at }
    }
}

/// One connection of the load.
struct Client {
    stream: mio::net::UnixStream,
    random: Random,
    /// What has come of the answer.
    answer: Vec<u8>,
    /// Which call it waits for, and since when.
    index: usize,
    began: Instant,
}

impl Client {
    fn open(socket: &Path, poll: &Poll, number: u64, seed: u64) -> Result<Self, Failure> {
        let mut stream = mio::net::UnixStream::connect(socket)?;
        poll.registry().register(&mut stream, Token(usize::try_from(number)?), Interest::READABLE)?;
        let random = Random::new(seed ^ (number << 32));
        Ok(Self { stream, random, answer: Vec::new(), index: 0, began: Instant::now() })
    }

    /// Sends one of the calls, for the order of this number.
    fn send(&mut self, calls: &[Call], number: u64, request: &mut Vec<u8>) -> Result<(), Failure> {
        self.index = self.random.index(calls.len());
        let call = &calls[self.index];
        request.clone_from(&call.bytes);
        let id = format!("00000000-0000-7000-{:04x}-{:012x}", number >> 48, number & 0xffff_ffff_ffff);
        request[call.id_at..call.id_at + ORDER_ID_BYTES].copy_from_slice(id.as_bytes());
        self.began = Instant::now();
        // One call a connection is under way, which always fits.
        Ok(self.stream.write_all(request)?)
    }

    /// Reads what is there; whether the answer is whole. Any other answer than that it is done is an error.
    fn has_answer(&mut self) -> Result<bool, Failure> {
        let mut bytes = [0; 256];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Err("Redis closed the connection".into()),
            Ok(read) => self.answer.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if !self.answer.ends_with(b"\r\n") {
            return Ok(false);
        }
        if self.answer != b"+OK\r\n" {
            return Err(format!("Redis answered {}", String::from_utf8_lossy(&self.answer).trim_end()).into());
        }
        self.answer.clear();
        Ok(true)
    }
}

/// Sends until the end and waits for what is under way. Gives the latencies of the measured time, and how often each
/// order was paid in all.
fn drive(
    socket: &Path,
    calls: &[Call],
    seed: u64,
    start: Instant,
    end: Instant,
) -> Result<(Histogram<u64>, Vec<u64>), Failure> {
    let mut poll = Poll::new()?;
    let mut clients = (0..u64::from(CLIENTS))
        .map(|number| Client::open(socket, &poll, number, seed))
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?;
    let (mut paid, mut sent) = (vec![0; calls.len()], 0);
    let (mut events, mut request) = (Events::with_capacity(clients.len()), Vec::new());
    let mut next: Vec<usize> = (0..clients.len()).collect();
    let mut working = clients.len();
    while working > 0 {
        for client in next.drain(..) {
            clients[client].send(calls, sent, &mut request)?;
            sent += 1;
        }
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let client = &mut clients[event.token().0];
            if !client.has_answer()? {
                continue;
            }
            paid[client.index] += 1;
            let now = Instant::now();
            if start <= now && now < end {
                latency_us.saturating_record(u64::try_from((now - client.began).as_micros()).unwrap_or(u64::MAX));
            }
            match now < end {
                true => next.push(event.token().0),
                false => working -= 1,
            }
        }
    }
    Ok((latency_us, paid))
}

/// Speaks Redis' protocol as far as it is needed before and after the load: no lists in answers, no pipelining.
struct Connection {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Connection {
    async fn open(socket: &Path) -> Result<Self, Failure> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket).await?), line: Vec::new() })
    }

    async fn call(&mut self, words: &[&str]) -> Result<String, Failure> {
        self.exchange(&encode(words)).await?;
        Ok(String::from_utf8_lossy(&self.line).into_owned())
    }

    /// Sends one request and reads its answer into `line`.
    async fn exchange(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(request).await?;
        self.line.clear();
        self.stream.read_until(b'\n', &mut self.line).await?;
        let Some(rest) = self.line.strip_suffix(b"\r\n") else { return Err("Redis closed the connection".into()) };
        match rest.split_first() {
            Some((b'+' | b':', text)) => self.line = text.to_vec(),
            Some((b'$', length)) => {
                let length: usize = std::str::from_utf8(length)?.parse().map_err(|_| "Redis does not have it")?;
                self.line.resize(length + 2, 0);
                self.stream.read_exact(&mut self.line).await?;
                self.line.truncate(length);
            }
            _ => return Err(format!("Redis answered {}", String::from_utf8_lossy(rest)).into()),
        }
        Ok(())
    }
}

fn encode(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_room_for_the_id_of_its_order() {
        let order = Order { buyer: 1, store: 2, lines: vec![(3, 4)], total_fen: 1 };
        let call = Call::new("5ba", &order);
        let id = &call.bytes[call.id_at..call.id_at + ORDER_ID_BYTES];
        assert_eq!(id, "0".repeat(ORDER_ID_BYTES).as_bytes());
        let text = String::from_utf8(call.bytes.clone()).unwrap();
        assert!(text.starts_with("*9\r\n$7\r\nEVALSHA\r\n$3\r\n5ba\r\n$1\r\n0\r\n$36\r\n0000"), "{text}");
        assert!(
            text.ends_with(
                "$7\r\nbuyer-1\r\n$7\r\nstore-2\r\n$19\r\npassword of buyer 1\r\n$6\r\nbook-3\r\n$1\r\n4\r\n"
            )
        );
    }

    #[tokio::test]
    async fn answers_are_read_whole() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection { stream: BufReader::new(ours), line: Vec::new() };
        theirs.write_all(b"+OK\r\n:12\r\n$4\r\na\r\nb\r\n$-1\r\n-ERR 511 no\r\n*1\r\n").await.unwrap();
        for answer in ["OK", "12", "a\r\nb"] {
            assert_eq!(connection.call(&["PING"]).await.unwrap(), answer);
        }
        for error in ["Redis does not have it", "Redis answered -ERR 511 no", "Redis answered *1"] {
            assert_eq!(connection.call(&["PING"]).await.unwrap_err().to_string(), error);
        }
        drop(theirs);
        assert!(connection.call(&["PING"]).await.is_err());
    }
}
