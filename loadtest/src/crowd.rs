//! `loadtest crowd`: thousands of connections that want nothing, and a thousand that send a byte a second.
//!
//! The same low rate of orders and payments is sent without them and with them, on connections of its own. What is
//! judged: what the others notice, what an idle connection costs, and that bodies which are announced and do not come
//! hold no room that others need.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;

use crate::Failure;
use crate::args::{Load, Scenario, parse_duration, positive};
use crate::audit::{self, AuditReport, Tally};
use crate::machine;
use crate::open::{Figures, Generator, Pace, Rest};
use crate::pinned::Pinning;
use crate::report::{Judged, Latency, to_f64, write_audit, write_json};
use crate::scenario::Plan;
use crate::server::{ServerArgs, TemporaryDirectory, scrape};
use crate::traffic::Shop;

/// Connections made before the server is given time to take them: fewer than its backlog holds.
const CONNECTED_AT_ONCE: usize = 128;
/// Pause between two bytes of a slow sender.
const BYTE_PAUSE: Duration = Duration::from_secs(1);
/// What a slow sender announces: the most that the contract takes on most routes.
const ANNOUNCED_BYTES: usize = 1 << 20;
/// Bodies that have not come may hold this much of the room for bodies.
const BODY_BYTES_MAX: f64 = 1_048_576.0;

/// Flags of `crowd`.
#[derive(Args)]
pub(crate) struct CrowdArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Where the data directory is made and removed.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    temp_dir: PathBuf,
    /// Connections that send nothing. Both processes need as many open files.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    idle: u32,
    /// Connections that send a byte a second: half of them a head, half a body after its head.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    slow: u32,
    /// Requests a second of the others.
    #[arg(long, default_value_t = 1_000.0, value_parser = positive)]
    rate: f64,
    /// Connections of the others.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// How long the others are measured, without the crowd and with it.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// p99 of the others may grow to this many times what it is without the crowd.
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    p99_max: f64,
    /// Resident bytes that an idle connection may cost.
    #[arg(long, default_value_t = 32_768.0, value_parser = positive)]
    idle_bytes_max: f64,
    #[command(flatten)]
    load: Load,
    /// How long the server may take to start.
    #[arg(long, default_value = "2m", value_parser = parse_duration)]
    start_timeout: Duration,
    /// Write the result to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures, prints, judges. `false` if the others noticed, or the audit disagrees.
pub(crate) async fn measure(args: &CrowdArgs) -> Result<bool, Failure> {
    let files = machine::raise_open_files()?;
    let wanted = u64::from(args.idle) + u64::from(args.slow) + u64::from(args.connections) + 64;
    if files < wanted {
        return Err(format!("{wanted} open files are needed, {files} are allowed: raise `ulimit -Hn`").into());
    }
    let pinning = Pinning::choose()?;
    println!("{pinning}");
    let directory = TemporaryDirectory::new(&args.temp_dir)?;
    let server = pinning.start(&args.server, &directory.path().join("data"), &[], args.start_timeout).await?;
    let plan = Arc::new(Plan::set_up(server.target.clone(), &args.load).await?);
    let tally = Tally::new(plan.orders.len());
    let traffic = Shop::new(Arc::clone(&plan), Scenario::Paid, args.load.seed, tally);
    let address = server.target.address;
    let connections = args.connections as usize;
    let mut others = Generator::connect(address, connections, traffic, args.load.seed, pinning.is_apart())?;
    let pace = Pace::Open { per_second: args.rate };
    others.phase(pace, args.load.warmup, false)?;
    let without = others.phase(pace, args.duration, false)?;
    others.settle(args.load.timeout, Rest::Sent)?;

    let bytes_before = machine::resident_bytes(server.pid);
    let crowd = Crowd::gather(address, args.idle as usize, Vec::new())?;
    let bytes_after = machine::resident_bytes(server.pid);
    let slow = Crowd::gather(address, 0, scripts(args.slow as usize, &server.target.host))?;
    others.phase(pace, args.load.warmup, false)?;
    let with = others.phase(pace, args.duration, false)?;
    let connected = scrape(&server.target, "bookstore_http_connections").await;
    let body_bytes = scrape(&server.target, "bookstore_body_bytes_in_flight").await;
    let (idle, slow) = (crowd.part(), slow.part());
    others.settle(args.load.timeout, Rest::Sent)?;

    let audit = audit::audit(&plan, &others.traffic.ledger).await?;
    let cost = bytes_before.zip(bytes_after).filter(|_| args.idle > 0);
    let idle_bytes = cost.map(|(before, after)| to_f64(after.saturating_sub(before)) / f64::from(args.idle));
    let report = Report::new(
        args,
        others.figures(without),
        others.figures(with),
        Crowded { idle, slow, idle_bytes, connected, body_bytes, audit },
    );
    print!("{report}");
    write_json(args.json.as_deref(), &report)?;
    server.stop().await?;
    Ok(report.kept())
}

/// What each slow sender sends: what goes out at once, and what follows byte by byte.
fn scripts(slow: usize, host: &str) -> Vec<Script> {
    let head = format!(
        "POST /buyer/add_funds HTTP/1.1\r\nhost: {host}\r\ncontent-length: {ANNOUNCED_BYTES}\r\nx-padding: {}\r\n\r\n",
        "x".repeat(4_096)
    );
    let body = [b" ".repeat(4_096)].concat();
    (0..slow)
        .map(|number| match number % 2 {
            0 => Script { at_once: Vec::new(), byte_by_byte: head.clone().into_bytes() },
            _ => Script { at_once: head.clone().into_bytes(), byte_by_byte: body.clone() },
        })
        .collect()
}

#[derive(Clone)]
struct Script {
    at_once: Vec<u8>,
    byte_by_byte: Vec<u8>,
}

/// What became of connections.
#[derive(Serialize, Clone, Copy, Default)]
struct Fate {
    connections: usize,
    /// Closed by the server, answered or not; each was made anew.
    closed: u64,
}

/// Connections that are held open by a thread of their own.
struct Crowd {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Result<Fate, Failure>>,
}

impl Crowd {
    /// Connects `idle` and one for each script; returns when all are connected.
    fn gather(address: SocketAddr, idle: usize, scripts: Vec<Script>) -> Result<Self, Failure> {
        let (stop, stopped) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut members = Members::new(address, idle, scripts)?;
            // The other end is there: it waits for this.
            let _ = tell.send(());
            while let Err(mpsc::TryRecvError::Empty) = stopped.try_recv() {
                members.turn()?;
            }
            Ok(Fate { connections: members.all.len(), closed: members.closed })
        });
        if told.recv().is_err() {
            return Err(match thread.join() {
                Ok(Err(failure)) => failure,
                _ => "the crowd did not gather".into(),
            });
        }
        Ok(Self { stop, thread })
    }

    /// Ends all its connections.
    fn part(self) -> Fate {
        drop(self.stop);
        self.thread.join().ok().and_then(Result::ok).unwrap_or_default()
    }
}

struct Member {
    stream: TcpStream,
    script: Option<Script>,
    sent: usize,
}

struct Members {
    address: SocketAddr,
    poll: Poll,
    all: Vec<Member>,
    closed: u64,
    next_byte: Instant,
}

impl Members {
    fn new(address: SocketAddr, idle: usize, scripts: Vec<Script>) -> Result<Self, Failure> {
        let mut members =
            Self { address, poll: Poll::new()?, all: Vec::new(), closed: 0, next_byte: Instant::now() + BYTE_PAUSE };
        let scripts = scripts.into_iter().map(Some);
        for (number, script) in std::iter::repeat_n(None, idle).chain(scripts).enumerate() {
            let stream = members.open(number, script.as_ref())?;
            members.all.push(Member { stream, script, sent: 0 });
            if number % CONNECTED_AT_ONCE == CONNECTED_AT_ONCE - 1 {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(members)
    }

    fn open(&self, number: usize, script: Option<&Script>) -> Result<TcpStream, Failure> {
        // Blocking until it is connected, which on one machine is at once.
        let mut stream = std::net::TcpStream::connect(self.address)?;
        if let Some(script) = script {
            stream.write_all(&script.at_once)?;
        }
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        Ok(stream)
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(1_024);
        match self.poll.poll(&mut events, Some(Duration::from_millis(50))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            self.read(event.token().0)?;
        }
        if Instant::now() >= self.next_byte {
            self.next_byte += BYTE_PAUSE;
            self.all.iter_mut().for_each(Member::send_byte);
        }
        Ok(())
    }

    /// Nobody here wants an answer; only the end of the connection matters.
    fn read(&mut self, number: usize) -> Result<(), Failure> {
        let mut scrap = [0; 4_096];
        loop {
            match self.all[number].stream.read(&mut scrap) {
                Ok(read) if read > 0 => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                _ => break,
            }
        }
        self.closed += 1;
        let script = self.all[number].script.take();
        let stream = self.open(number, script.as_ref())?;
        self.all[number] = Member { stream, script, sent: 0 };
        Ok(())
    }
}

impl Member {
    fn send_byte(&mut self) {
        let Some(byte) = self.script.as_ref().and_then(|script| script.byte_by_byte.get(self.sent)) else { return };
        // A connection that was closed shows when it is read.
        if self.stream.write(&[*byte]).is_ok() {
            self.sent += 1;
        }
    }
}

/// What was found beside the others' latency.
struct Crowded {
    idle: Fate,
    slow: Fate,
    idle_bytes: Option<f64>,
    connected: Option<f64>,
    body_bytes: Option<f64>,
    audit: AuditReport,
}

/// All that a run found.
#[derive(Serialize)]
struct Report {
    idle: Fate,
    slow: Fate,
    /// Resident bytes of the server for each idle connection.
    idle_bytes: Option<f64>,
    /// What the server counted with the crowd.
    connected: Option<f64>,
    /// The same, of bodies that were read and not answered.
    body_bytes_in_flight: Option<f64>,
    without: Option<Latency>,
    with: Option<Latency>,
    lines: Vec<Judged>,
    audit: AuditReport,
}

impl Report {
    fn new(args: &CrowdArgs, without: &Figures, with: &Figures, crowded: Crowded) -> Self {
        let wrong =
            |figures: &Figures| figures.wrong.values().sum::<u64>() + figures.dropped + figures.refused_us.len();
        let wrong = wrong(without) + wrong(with);
        let (without, with) = (Latency::of(&without.accepted_us), Latency::of(&with.accepted_us));
        let p99 = |latency: &Option<Latency>| latency.as_ref().map(|latency| to_f64(latency.p99_us));
        let grown = p99(&with).zip(p99(&without)).map(|(with, without)| with / without);
        let missing = crowded.connected.map(|connected| {
            let wanted = f64::from(args.idle) + f64::from(args.slow) + f64::from(args.connections);
            // One is the connection that asks.
            (wanted + 1.0 - connected).max(0.0)
        });
        let line = |what, measured, at_most| Judged { what, measured, at_most };
        let mut lines = vec![
            line("p99 of the others, by that without the crowd", grown, args.p99_max),
            line("requests of the others that were not accepted", Some(to_f64(wrong)), 0.0),
            line("bytes of bodies that the crowd holds", crowded.body_bytes, BODY_BYTES_MAX),
            // Some may be on their way back from a timeout.
            line("connections that the server does not have", missing, f64::from(args.slow) / 10.0 + 1.0),
        ];
        if args.idle > 0 {
            lines.push(line("bytes of memory an idle connection", crowded.idle_bytes, args.idle_bytes_max));
        }
        Self {
            idle: crowded.idle,
            slow: crowded.slow,
            idle_bytes: crowded.idle_bytes,
            connected: crowded.connected,
            body_bytes_in_flight: crowded.body_bytes,
            without,
            with,
            lines,
            audit: crowded.audit,
        }
    }

    fn kept(&self) -> bool {
        self.audit.agrees() && self.lines.iter().all(Judged::kept)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = |fate: &Fate| format!("{} ({} closed by the server and made anew)", fate.connections, fate.closed);
        writeln!(out, "crowd: {} idle, {} that send a byte a second", fate(&self.idle), fate(&self.slow))?;
        for (name, latency) in [("without", &self.without), ("with", &self.with)] {
            if let Some(latency) = latency {
                writeln!(out, "  {name:<9} {latency} ({} requests)", latency.count)?;
            }
        }
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        write_audit(out, &self.audit)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_crowd_stays_and_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let crowd = Crowd::gather(listener.local_addr().unwrap(), 2, scripts(2, "x")).unwrap();
        let mut streams: Vec<_> = (0..4).map(|_| listener.accept().unwrap().0).collect();
        // The fourth has sent its head at once, the third sends it byte by byte.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            streams[3].read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let mut byte = [0];
        streams[2].read_exact(&mut byte).unwrap();
        assert_eq!((&head[..4], &byte), (&b"POST"[..], b"P"));
        drop(streams.remove(0));
        let _again = listener.accept().unwrap();
        let fate = crowd.part();
        assert_eq!((fate.connections, fate.closed), (4, 1));
    }
}
