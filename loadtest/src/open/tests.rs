use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

/// Alternates between what is accepted and what is refused, and keeps count.
#[derive(Default)]
struct Probe {
    sent: u64,
    answered: u64,
    lost: u64,
    not_connected: u64,
    /// How long each had waited.
    never_sent: Vec<Duration>,
}

impl Traffic for Probe {
    type Call = u64;

    fn next(&mut self, _: Instant, request: &mut Vec<u8>) -> u64 {
        request.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        self.sent += 1;
        self.sent
    }

    fn answered(&mut self, _: Instant, _: Instant, _: u64, answer: &Answer<'_>) -> Verdict {
        self.answered += 1;
        match answer.status {
            200 => Verdict::Accepted,
            503 if answer.retry_after => Verdict::Refused,
            _ => Verdict::Wrong("status"),
        }
    }

    fn lost(&mut self, _: Instant, _: u64, _: &'static str) {
        self.lost += 1;
    }

    fn not_connected(&mut self, _: Instant) {
        self.not_connected += 1;
    }

    fn never_sent(&mut self, due: Instant, now: Instant) {
        self.never_sent.push(now - due);
    }
}

/// A server with a thread for each connection, which answers the n-th request on it with `answers[n % len]`, or
/// closes the connection if that is empty.
fn server(answers: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut piece = [0; 1_024];
                for answer in answers.iter().cycle() {
                    match stream.read(&mut piece) {
                        Ok(read) if read > 0 && !answer.is_empty() => stream.write_all(answer.as_bytes()).unwrap(),
                        _ => return,
                    }
                }
            });
        }
    });
    address
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}";

#[test]
fn every_request_that_is_due_is_counted_once() {
    let mut generator = Generator::connect(server(&[OK, BUSY]), 4, Probe::default(), 1, false).unwrap();
    let open = generator.phase(Pace::Open { per_second: 500.0 }, Duration::from_millis(300), true).unwrap();
    let closed = generator.phase(Pace::Closed { connections: 2 }, Duration::from_millis(100), false).unwrap();
    generator.settle(Duration::from_secs(10), Rest::Dropped).unwrap();
    for phase in [open, closed] {
        let figures = generator.figures(phase);
        let (accepted, refused) = (figures.accepted_us.len(), figures.refused_us.len());
        assert_eq!(accepted + refused + figures.dropped, figures.due);
        assert!(accepted > 0 && refused > 0 && figures.wrong.is_empty(), "{accepted} {refused}");
    }
    let samples = generator.figures(open).samples.as_ref().unwrap();
    assert_eq!(samples.len() as u64, generator.figures(open).due);
    assert_eq!(generator.traffic.sent, generator.traffic.answered);
}

#[test]
fn a_request_that_waits_for_a_connection_is_late_by_that() {
    // A server that never answers: one request is under way, all others wait until they are given up.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut generator = Generator::connect(address, 1, Probe::default(), 1, false).unwrap();
    let phase = generator.phase(Pace::Open { per_second: 1_000.0 }, Duration::from_millis(100), false).unwrap();
    generator.settle(Duration::from_millis(50), Rest::Sent).unwrap();
    let figures = generator.figures(phase);
    assert_eq!((generator.traffic.sent, generator.traffic.lost), (1, 1));
    assert!(figures.due > 10 && figures.waited >= figures.due - 2, "{} of {}", figures.waited, figures.due);
    assert_eq!(figures.dropped, figures.due - 1);
    assert_eq!(figures.wrong.values().sum::<u64>(), 1);
    let never_sent = &generator.traffic.never_sent;
    assert_eq!(never_sent.len() as u64, figures.dropped);
    let shortest = *never_sent.iter().min().unwrap();
    assert!(shortest >= Duration::from_millis(49), "at least what was waited after the end: {shortest:?}");
}

#[test]
fn a_lost_connection_is_made_anew() {
    let mut generator = Generator::connect(server(&[OK, ""]), 2, Probe::default(), 1, false).unwrap();
    let phase = generator.phase(Pace::Open { per_second: 200.0 }, Duration::from_millis(300), false).unwrap();
    generator.settle(Duration::from_secs(10), Rest::Dropped).unwrap();
    let figures = generator.figures(phase);
    let lost: u64 = figures.wrong.values().sum();
    assert_eq!(figures.accepted_us.len() + lost + figures.dropped, figures.due);
    assert!(figures.accepted_us.len() > 2 && lost > 2, "{} answered, {lost} lost", figures.accepted_us.len());
    assert_eq!(generator.traffic.lost, lost);
}

/// A server with one connection that takes 20 ms for each answer: a fifth of what is due.
fn slow_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut piece = [0; 1_024];
        while stream.read(&mut piece).is_ok_and(|read| read > 0) {
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn what_waits_at_the_end_is_sent_after_it_and_its_latency_says_so() {
    let mut generator = Generator::connect(slow_server(), 1, Probe::default(), 1, false).unwrap();
    let phase = generator.phase(Pace::Open { per_second: 250.0 }, Duration::from_millis(200), false).unwrap();
    let waiting = generator.waiting.len() as u64;
    generator.settle(Duration::from_secs(30), Rest::Sent).unwrap();
    let figures = generator.figures(phase);
    assert!(waiting > 5, "{waiting}");
    assert_eq!((figures.accepted_us.len(), figures.dropped), (figures.due, 0));
    assert!(figures.accepted_us.max() > 20_000 * waiting, "{} µs, {waiting} waited", figures.accepted_us.max());
}

#[test]
fn what_waits_at_the_end_is_dropped_on_demand() {
    let mut generator = Generator::connect(slow_server(), 1, Probe::default(), 1, false).unwrap();
    let phase = generator.phase(Pace::Open { per_second: 250.0 }, Duration::from_millis(200), false).unwrap();
    let waiting = generator.waiting.len() as u64;
    generator.settle(Duration::from_secs(30), Rest::Dropped).unwrap();
    let figures = generator.figures(phase);
    assert!(waiting > 5, "{waiting}");
    assert_eq!((figures.accepted_us.len() + waiting, figures.dropped), (figures.due, waiting));
}

#[test]
fn what_too_many_wait_before_has_waited_until_the_end_as_well() {
    // A server that never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut generator = Generator::connect(address, 1, Probe::default(), 1, false).unwrap();
    let phase = generator.phase(Pace::Open { per_second: 1.0 }, Duration::ZERO, false).unwrap();
    let began = Instant::now();
    (0..WAITING_MAX + 10).for_each(|_| generator.due(phase, began));
    std::thread::sleep(Duration::from_millis(30));
    generator.settle(Duration::from_millis(20), Rest::Sent).unwrap();
    let figures = generator.figures(phase);
    assert_eq!((figures.due, figures.dropped), (WAITING_MAX as u64 + 10, WAITING_MAX as u64 + 9));
    let never_sent = &generator.traffic.never_sent;
    assert_eq!(never_sent.len() as u64, figures.dropped);
    assert!(never_sent.iter().all(|waited| *waited >= Duration::from_millis(49)));
}

#[test]
fn who_is_held_up_over_the_end_owes_what_was_due_before_it() {
    let mut generator = Generator::connect(server(&[OK]), 4, Probe::default(), 1, false).unwrap();
    // As if the thread had not run for all of it.
    let began = Instant::now() - Duration::from_secs(2);
    let pace = Pace::Open { per_second: 1_000.0 };
    let phase = generator.phase_from(began, pace, Duration::from_secs(1), false).unwrap();
    generator.settle(Duration::from_secs(10), Rest::Sent).unwrap();
    let figures = generator.figures(phase);
    assert!((800..1_200).contains(&figures.due), "{} due", figures.due);
    assert_eq!(figures.accepted_us.len(), figures.due);
    assert!(figures.accepted_us.min() >= 990_000, "since they were due: {} µs", figures.accepted_us.min());
}

/// Answers one request and goes away; comes back when `back` is told.
fn server_that_goes(back: std::sync::mpsc::Receiver<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut piece = [0; 1_024];
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        assert!(stream.read(&mut piece).unwrap() > 0);
        stream.write_all(OK.as_bytes()).unwrap();
        drop(stream);
        back.recv().unwrap();
        let (mut stream, _) = TcpListener::bind(address).unwrap().accept().unwrap();
        while stream.read(&mut piece).is_ok_and(|read| read > 0) {
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn a_refused_connection_is_tried_again_and_told() {
    let (back, is_back) = std::sync::mpsc::channel();
    let mut generator = Generator::connect(server_that_goes(is_back), 1, Probe::default(), 1, false).unwrap();
    let pace = Pace::Open { per_second: 200.0 };
    let away = generator.phase(pace, Duration::from_millis(350), false).unwrap();
    let refused = generator.traffic.not_connected;
    assert!((1..=5).contains(&refused), "with pauses: {refused}");
    assert_eq!(generator.figures(away).wrong[NOT_CONNECTED], refused);
    back.send(()).unwrap();
    let there = generator.phase(pace, Duration::from_millis(350), false).unwrap();
    generator.settle(Duration::from_secs(10), Rest::Sent).unwrap();
    let figures = generator.figures(there);
    assert_eq!((figures.accepted_us.len(), figures.dropped), (figures.due, 0));
}

#[test]
fn a_server_that_is_not_there_ends_it_before_the_load() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = Generator::connect(address, 1, Probe::default(), 1, false).err().unwrap();
    assert!(failure.to_string().starts_with("cannot connect"), "{failure}");
}
