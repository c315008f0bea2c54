//! TLS: who gets in, who does not, and that every way a connection can end is told in TLS's own language. The client is
//! rustls; curl, openssl and Python, where they are there, say whether others agree.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::ffi::OsStr;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use bookstore::http::{TlsError, TlsIdentity};
use common::service::{Answer, PATIENCE, Service, assert_closed, post};
use common::tls::{Authority, TlsConn, assert_said_goodbye};
use common::tool::bookstore;
use common::{Server, User};
use serde_json::json;
use tokio_rustls::rustls::version::{TLS12, TLS13};

fn service(authority: &Authority, change: impl FnOnce(&mut bookstore::http::HttpConfig)) -> Service {
    let identity = TlsIdentity::from_pem(authority.certificate.as_bytes(), authority.key.as_bytes()).unwrap();
    Service::start(|config| {
        config.tls = Some(identity);
        change(config);
    })
}

fn ask(conn: &mut TlsConn, request: &str) -> Answer {
    conn.write_all(request.as_bytes()).unwrap();
    Answer::read(conn)
}

#[test]
fn both_versions_serve_as_without_tls() {
    let authority = Authority::new();
    let service = service(&authority, |_| {});
    for version in [&TLS12, &TLS13] {
        let mut conn = authority.try_client(service.address, version, &[b"http/1.1"]).unwrap();
        assert_eq!(conn.conn.protocol_version(), Some(version.version));
        assert_eq!(conn.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        for _ in 0..3 {
            assert_eq!(ask(&mut conn, &post("/auth/login", "{}")).json(530)["token"], "");
        }
        // Pipelined, and larger than any buffer on the way.
        let long = post("/buyer/new_order", &"x".repeat(3_000_000));
        conn.write_all((long + &post("/nothing", "{}") + "rubbish\r\n\r\n").as_bytes()).unwrap();
        for status in [413, 404, 400] {
            Answer::read(&mut conn).json(status);
        }
        assert_said_goodbye(&mut conn);
    }
    // A client that names no protocol is served, too.
    let mut conn = authority.try_client(service.address, &TLS13, &[]).unwrap();
    ask(&mut conn, &post("/auth/login", "{}")).json(530);
}

#[test]
fn a_client_that_wants_another_protocol_is_refused_in_the_handshake() {
    let authority = Authority::new();
    let service = service(&authority, |_| {});
    let refused = authority.try_client(service.address, &TLS13, &[b"h2"]).map(drop).unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
}

#[test]
fn a_client_that_trusts_somebody_else_leaves_and_harms_nothing() {
    let authority = Authority::new();
    let service = service(&authority, |_| {});
    let stranger = Authority::new();
    let refused = stranger.try_client(service.address, &TLS13, &[]).map(drop).unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    ask(&mut authority.client(service.address), &post("/auth/login", "{}")).json(530);
}

#[test]
fn a_client_that_speaks_plain_text_is_told_so() {
    let authority = Authority::new();
    let service = service(&authority, |_| {});
    let register = post("/auth/register", r#"{"user_id":"plain","password":"p"}"#);
    for bytes in [register.as_bytes(), b"GET /healthz HTTP/1.0\r\n\r\n", b"\0", &[0x80; 100_000]] {
        let mut stream = service.connect();
        stream.write_all(bytes).unwrap();
        let answer = Answer::read(&mut stream);
        assert!(answer.json(400)["message"].as_str().unwrap().contains("TLS"));
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_closed(&mut stream);
    }
    assert_eq!(service.run(service.engine.audit()).unwrap().accounts, 0);
}

#[test]
fn a_broken_handshake_ends_with_an_alert_and_no_reset() {
    let authority = Authority::new();
    let service = service(&authority, |_| {});
    let mut hello = Vec::new();
    authority.session(&TLS13, &[]).write_tls(&mut hello).unwrap();
    let mut flipped = hello.clone();
    flipped[5] ^= 0x40;
    let mut long = hello.clone();
    long[3] = 0xff;
    long.resize(70_000, 0);
    for bytes in [&[0x16; 5_000][..], &flipped, &long, &[0x16, 3, 1, 0, 1, 1]] {
        let mut stream = service.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap_or_else(|error| panic!("{error} after {:?}", &bytes[..6]));
        // Of the record layer only: no word of HTTP, and nothing of the server's.
        assert!(said.is_empty() || said[0] == 0x15, "{said:?}");
    }
    // After an encrypted beginning, too.
    let mut conn = authority.client(service.address);
    ask(&mut conn, &post("/auth/login", "{}")).json(530);
    conn.sock.write_all(&[0x17, 3, 3, 0, 40]).unwrap();
    conn.sock.write_all(&[7; 40]).unwrap();
    assert!(conn.read(&mut [0; 10]).unwrap_err().to_string().contains("alert"), "a record that is forged is noticed");
    ask(&mut authority.client(service.address), &post("/auth/login", "{}")).json(530);
}

/// Slow and silent clients in the handshake cost their own connection, for a limited time, and nobody waits for them.
#[test]
fn a_slow_handshake_is_cut_and_holds_nobody_up() {
    let authority = Authority::new();
    let service = service(&authority, |config| {
        config.tls_handshake_timeout = Duration::from_millis(700);
        config.connections_max = 200;
    });
    let mut hello = Vec::new();
    authority.session(&TLS13, &[]).write_tls(&mut hello).unwrap();
    let silent: Vec<TcpStream> = (0..60).map(|_| service.connect()).collect();
    let mut slow: Vec<TcpStream> = (0..60).map(|_| service.connect()).collect();
    for stream in &mut slow {
        stream.write_all(&hello[..1]).unwrap();
    }
    // All of them are within their time, and others are served.
    for _ in 0..5 {
        ask(&mut authority.client(service.address), &post("/auth/login", "{}")).json(530);
    }
    // A byte now and then does not make the time longer.
    let mut trickling = service.connect();
    let began = Instant::now();
    for byte in hello.iter().cycle() {
        if trickling.write_all(&[*byte]).is_err() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "a trickling client is never let go");
        std::thread::sleep(Duration::from_millis(20));
    }
    for mut stream in silent.into_iter().chain(slow) {
        assert_closed(&mut stream);
    }
}

#[test]
fn a_handshake_counts_as_a_connection() {
    let authority = Authority::new();
    let service = service(&authority, |config| config.connections_max = 1);
    let mut first = authority.client(service.address);
    ask(&mut first, &post("/auth/login", "{}")).json(530);
    let mut second = authority.client(service.address);
    let answer = Answer::read(&mut second);
    answer.json(503);
    assert!(answer.header("retry-after").is_some());
    assert_said_goodbye(&mut second);
    // A silent one takes the place, and the next is refused. When the service has not yet seen the end of the one
    // before, the silent one is refused instead and the next is served: then once more.
    let mut before = first;
    for _ in 0..20 {
        drop(before);
        std::thread::sleep(Duration::from_millis(300));
        let silent = service.connect();
        std::thread::sleep(Duration::from_millis(100));
        let mut third = authority.client(service.address);
        third.sock.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut byte = [0];
        if third.read_exact(&mut byte).is_ok() {
            third.sock.set_read_timeout(Some(PATIENCE)).unwrap();
            Answer::read(&mut (&byte[..]).chain(&mut third)).json(503);
            drop(silent);
            return;
        }
        before = third;
    }
    panic!("a silent connection holds no place");
}

#[test]
fn every_orderly_end_says_goodbye() {
    let authority = Authority::new();
    let service = service(&authority, |config| {
        config.header_timeout = Duration::from_millis(300);
        config.body_timeout = Duration::from_millis(300);
        config.header_bytes_max = 4_000;
    });
    // An idle connection.
    assert_said_goodbye(&mut authority.client(service.address));
    // Half a head, half a body, a head too large, a client that asks for the end.
    let large = format!("GET /healthz HTTP/1.1\r\nx: {}\r\nconnection: close\r\n\r\n", "x".repeat(5_000));
    for (sent, status) in [
        ("POST /auth/login HTTP/1.1\r\nHost", 408),
        ("POST /auth/login HTTP/1.1\r\nContent-Length: 5\r\n\r\n{", 408),
        (large.as_str(), 431),
        ("POST /auth/login HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", 530),
        ("nonsense\r\n\r\n", 400),
    ] {
        let mut conn = authority.client(service.address);
        conn.write_all(sent.as_bytes()).unwrap();
        Answer::read(&mut conn).json(status);
        assert_said_goodbye(&mut conn);
    }
}

#[test]
fn a_client_that_ends_its_side_is_answered_and_one_that_is_cut_off_has_sent_nothing() {
    let authority = Authority::new();
    let service = service(&authority, |_| {});
    let register = |user: &str| post("/auth/register", &json!({"user_id": user, "password": "p"}).to_string());
    let mut conn = authority.client(service.address);
    conn.write_all(register("half").as_bytes()).unwrap();
    conn.conn.send_close_notify();
    conn.conn.complete_io(&mut conn.sock).unwrap();
    Answer::read(&mut conn).json(200);
    assert_said_goodbye(&mut conn);

    // A body up to the end of the connection does not exist in a request, so one that is cut is never whole.
    let request = register("cut");
    let mut conn = authority.client(service.address);
    conn.write_all(&request.as_bytes()[..request.len() - 1]).unwrap();
    conn.sock.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ = conn.read_to_end(&mut rest);
    assert_eq!(service.run(service.engine.audit()).unwrap().accounts, 1);
}

#[test]
fn a_drain_finishes_what_was_begun_and_says_goodbye() {
    let authority = Authority::new();
    let mut service = service(&authority, |_| {});
    let mut idle = authority.client(service.address);
    ask(&mut idle, &post("/auth/login", "{}")).json(530);
    let mut silent = service.connect();
    let mut busy = authority.client(service.address);
    busy.write_all(b"POST /auth/login HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut busy).status, 100);
    service.stop();
    assert_said_goodbye(&mut idle);
    assert_closed(&mut silent);
    let answer = ask(&mut busy, "{}");
    answer.json(530);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_said_goodbye(&mut busy);
    service.thread.take().unwrap().join().unwrap();
}

#[test]
fn a_drain_does_not_wait_for_a_handshake_beyond_its_time() {
    let authority = Authority::new();
    let mut service = service(&authority, |config| {
        config.tls_handshake_timeout = PATIENCE;
        config.drain_timeout = Duration::from_millis(200);
    });
    let mut stuck = service.connect();
    stuck.write_all(&[0x16]).unwrap();
    // Another's answer shows that the service is past the accept of the first.
    ask(&mut authority.client(service.address), &post("/auth/login", "{}")).json(530);
    service.stop();
    service.thread.take().unwrap().join().unwrap();
    assert_closed(&mut stuck);
}

#[test]
fn what_is_no_identity_is_refused_with_its_reason() {
    let (one, other) = (Authority::new(), Authority::new());
    let (certificate, key) = (one.certificate.as_bytes(), one.key.as_bytes());
    let why = |certificate: &[u8], key: &[u8]| TlsIdentity::from_pem(certificate, key).unwrap_err();
    for wrong in ["", "nonsense", one.key.as_str(), "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
        assert!(matches!(why(wrong.as_bytes(), key), TlsError::Certificate(_)), "{wrong}");
    }
    let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(why(no_der.as_bytes(), key), TlsError::Certificate(_)));
    for wrong in
        ["", "nonsense", one.certificate.as_str(), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
    {
        assert!(matches!(why(certificate, wrong.as_bytes()), TlsError::Key(_)), "{wrong}");
    }
    // A key that lost its line ends on the way is what the reason would like to quote. It must not, in any spelling.
    let secret = one.key.lines().nth(1).unwrap();
    let numbers = format!("{:?}", &secret.as_bytes()[..16]);
    let numbers = numbers.trim_matches(['[', ']']);
    for flat in [one.key.replace('\n', " "), one.key.replace('\n', "\\n"), one.key.replace("-----\n", "\n")] {
        for told in [why(certificate, flat.as_bytes()), why(flat.as_bytes(), key)] {
            let told = format!("{told} {told:?}");
            assert!(!told.contains(&secret[..16]) && !told.contains(numbers), "{told}");
        }
    }
    let encrypted = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(why(certificate, encrypted.as_bytes()).to_string().contains("passphrase"));
    assert!(matches!(why(certificate, other.key.as_bytes()), TlsError::Mismatch));
    assert!(TlsIdentity::from_pem(certificate, key).is_ok());
    let whole_chain = format!("{}{}", one.certificate, one.root);
    let identity = TlsIdentity::from_pem(whole_chain.as_bytes(), key).unwrap();
    assert_eq!(format!("{identity:?}"), "TlsIdentity(..)");
}

/// Files of an authority in a directory, and their paths.
struct Files {
    _directory: tempfile::TempDir,
    root: String,
    certificate: String,
    key: String,
}

fn files(authority: &Authority) -> Files {
    let directory = tempfile::TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (root, certificate) = (write("root.pem", &authority.root), write("cert.pem", &authority.certificate));
    let key = write("key.pem", &authority.key);
    Files { _directory: directory, root, certificate, key }
}

/// Runs the program with these flags, which must not start it; gives the status and what it said.
fn refused(data: &std::path::Path, flags: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(common::binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .args(flags)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn wrong_flags_are_told_before_anything_is_opened() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (ours, theirs) = (files(&authority), files(&stranger));
    let parent = tempfile::TempDir::new().unwrap();
    let data = parent.path().join("data");
    let refused = |flags: &[&str]| refused(&data, flags);
    let (status, said) = refused(&["--tls-cert", &ours.certificate]);
    assert!(status == Some(2) && said.contains("--tls-key"), "{said}");
    let (status, said) = refused(&["--tls-key", &ours.key]);
    assert!(status == Some(2) && said.contains("--tls-cert"), "{said}");
    let nowhere = format!("{}.nowhere", ours.key);
    let folder = parent.path().to_str().unwrap();
    for (certificate, key, names) in [
        (nowhere.as_str(), ours.key.as_str(), ["--tls-cert", "No such file"]),
        (&ours.certificate, &nowhere, ["--tls-key", "No such file"]),
        (&ours.certificate, folder, ["--tls-key", "directory"]),
        (&ours.key, &ours.key, ["--tls-cert", "CERTIFICATE"]),
        (&ours.certificate, &ours.certificate, ["--tls-key", "PRIVATE KEY"]),
        (&ours.certificate, &theirs.key, ["--tls-cert", "belong together"]),
    ] {
        let (status, said) = refused(&["--tls-cert", certificate, "--tls-key", key]);
        assert_eq!(status, Some(1), "{said}");
        assert!(names.iter().all(|name| said.contains(name)), "{said}");
        assert!(!said.contains("BEGIN") && !said.contains("panicked"), "{said}");
    }
    assert!(!data.exists(), "the data directory was made before the flags were judged");
}

#[test]
fn the_program_serves_tls_and_ends_in_order() {
    let authority = Authority::new();
    let files = files(&authority);
    let mut server = Server::start(&["--tls-cert", &files.certificate, "--tls-key", &files.key]);
    assert!(server.output().contains("listening on https://127.0.0.1:"), "{}", server.output());
    let address = ([127, 0, 0, 1], server.port()).into();
    let user = User::new("anna");
    let register = post("/auth/register", &json!({"user_id": user.id, "password": user.password}).to_string());
    let mut conn = authority.client(address);
    ask(&mut conn, &register).json(200);
    ask(&mut conn, &register).json(512);
    server.send_sigterm();
    assert_said_goodbye(&mut conn);
    assert_eq!(server.wait().code(), Some(0));
}

/// The program's own client trusts whom it is told to trust, and nobody else.
#[test]
fn the_program_asks_over_tls() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (our_files, their_files) = (files(&ours), files(&theirs));
    let server = Server::start(&["--tls-cert", &our_files.certificate, "--tls-key", &our_files.key]);
    let url = format!("https://127.0.0.1:{}", server.port());
    let health = |root: &str| bookstore(&[&"health", &"--timeout", &"5s", &"--url", &url, &"--tls-ca", &root]);
    health(&our_files.root).ok();
    health(&their_files.root).ends_with_status(1).says("no TLS with 127.0.0.1:");
    health(&our_files.key).ends_with_status(1).says("--tls-ca");
    // By a name that is not in the certificate.
    let other = url.replace("127.0.0.1", "localhost.localdomain");
    bookstore(&[&"health", &"--url", &other, &"--tls-ca", &our_files.root]).ends_with_status(1);

    let books = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(books.path(), r#"{"id":"1","title":"t","price":1}"#).unwrap();
    let seller = User::new("seller");
    let mut conn = ours.client(([127, 0, 0, 1], server.port()).into());
    let register = json!({"user_id": seller.id, "password": seller.password}).to_string();
    ask(&mut conn, &post("/auth/register", &register)).json(200);
    let flags = ["import", "--url", &url, "--tls-ca", &our_files.root, "--store", "s", "--create-store", "--user"];
    let mut args: Vec<&dyn AsRef<OsStr>> = flags.iter().map(|flag| flag as _).collect();
    let path = books.path();
    args.extend([&seller.id as &dyn AsRef<OsStr>, &"--password", &seller.password, &"--books", &path]);
    bookstore(&args).ok().says("1 books listed");
}

fn is_there(program: &str) -> bool {
    match Command::new(program).arg("version").output() {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Other people's clients, as far as they are installed.
#[test]
fn curl_openssl_and_python_are_served() {
    let authority = Authority::new();
    let files = files(&authority);
    let server = Server::start(&["--tls-cert", &files.certificate, "--tls-key", &files.key]);
    let url = format!("https://127.0.0.1:{}/auth/register", server.port());
    let mut registered = 0;
    if is_there("curl") {
        for version in ["--tlsv1.2", "--tlsv1.3"] {
            let body = json!({"user_id": version, "password": "p"}).to_string();
            let output = Command::new("curl")
                .args([
                    "--noproxy",
                    "*",
                    "--silent",
                    "--show-error",
                    "--cacert",
                    &files.root,
                    version,
                    &url,
                    "-d",
                    &body,
                ])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), r#"{"code":200,"message":"ok"}"#, "{output:?}");
            registered += 1;
        }
        let strict = Command::new("curl").args(["--noproxy", "*", "--silent", &url]).output().unwrap();
        assert_eq!(strict.status.code(), Some(60), "a client with other roots must not trust the certificate");
    }
    if is_there("openssl") {
        for version in ["-tls1_2", "-tls1_3"] {
            let output = Command::new("sh")
                .arg("-c")
                .arg(r#"printf 'GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n' | openssl s_client -quiet -verify_return_error -CAfile "$0" -connect "$1" "$2""#)
                .args([&files.root, &format!("127.0.0.1:{}", server.port()), version])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.starts_with("HTTP/1.1 200") && said.ends_with(r#"{"code":200,"message":"ok"}"#), "{output:?}");
        }
    }
    if is_there("python3") {
        let script = "import ssl, sys, urllib.request\n\
            context = ssl.create_default_context(cafile=sys.argv[1])\n\
            body = b'{\"user_id\": \"python\", \"password\": \"p\"}'\n\
            print(urllib.request.urlopen(sys.argv[2], body, context=context, timeout=20).status)";
        let output =
            Command::new("python3").env("no_proxy", "*").args(["-c", script, &files.root, &url]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "200", "{output:?}");
        registered += 1;
    }
    let mut conn = authority.client(([127, 0, 0, 1], server.port()).into());
    let check = json!({"user_id": "--tlsv1.2", "password": "p"}).to_string();
    let expected = if registered > 1 { 512 } else { 200 };
    ask(&mut conn, &post("/auth/register", &check)).json(expected);
}
