//! SIGHUP of the real program: certificate and key, and the log's levels, are read again; what is broken changes nothing.

#![cfg(all(feature = "server", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::service::{Answer, post};
use common::tls::{Authority, TlsConn};
use common::{Server, wait_until};
use tempfile::TempDir;
use tokio_rustls::rustls::version::TLS13;

/// Files that a server was started with, to be written anew.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        Files { directory: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn show(&self, authority: &Authority) {
        self.write("cert.pem", &authority.certificate);
        self.write("key.pem", &authority.key);
    }
}

/// Sends SIGHUP and waits until the log says this once more.
fn hang_up(server: &Server, says: &str) {
    let before = server.output().matches(says).count();
    server.sighup();
    wait_until(says, || server.output().matches(says).count() > before);
}

fn ask(conn: &mut TlsConn) {
    std::io::Write::write_all(conn, post("/auth/login", "{}").as_bytes()).unwrap();
    Answer::read(conn).json(530);
}

const NEW_CERTIFICATE: &str = "SIGHUP: new connections are shown the certificate as it is in its file now";
const OLD_CERTIFICATE: &str = "SIGHUP: certificate and key stay";

#[test]
fn new_connections_see_the_new_certificate_and_old_ones_go_on() {
    let (files, before, after) = (Files::new(), Authority::new(), Authority::new());
    files.show(&before);
    let server = Server::start(&["--tls-cert", &files.text("cert.pem"), "--tls-key", &files.text("key.pem")]);
    let address = ([127, 0, 0, 1], server.port()).into();
    let is_shown = |authority: &Authority| authority.try_client(address, &TLS13, &[]).is_ok();
    let mut old = before.client(address);
    ask(&mut old);

    files.show(&after);
    assert!(is_shown(&before) && !is_shown(&after), "nobody asked for it yet");
    hang_up(&server, NEW_CERTIFICATE);
    assert!(!is_shown(&before));
    ask(&mut after.client(address));
    ask(&mut old);

    // Each is told with its file, and the last sound ones stay: half a renewal, a file that is broken, one that is gone.
    files.write("cert.pem", &before.certificate);
    hang_up(&server, OLD_CERTIFICATE);
    assert!(server.output().contains("belong together"), "{}", server.output());
    files.show(&after);
    files.write("key.pem", "rubbish");
    hang_up(&server, OLD_CERTIFICATE);
    let told = format!("--tls-key {}: ", files.text("key.pem"));
    assert!(server.output().contains(&told), "{}", server.output());
    files.show(&after);
    fs::remove_file(files.path("cert.pem")).unwrap();
    hang_up(&server, OLD_CERTIFICATE);
    assert!(server.output().contains("--tls-cert: cannot read"), "{}", server.output());
    ask(&mut after.client(address));
    ask(&mut old);

    files.show(&before);
    hang_up(&server, NEW_CERTIFICATE);
    assert!(is_shown(&before) && !is_shown(&after));
    ask(&mut old);
}

#[test]
fn the_levels_of_the_log_follow_the_file() {
    const NEW_LEVELS: &str = "SIGHUP: the log has other levels";
    const OLD_SETTINGS: &str = "SIGHUP: the settings cannot be read: they stay";
    let files = Files::new();
    files.write("shop.toml", "log-level = 'warn'\n");
    let server = Server::start(&["--config", &files.text("shop.toml")]);
    let client = server.client();
    let answered = || server.output().matches("bookstore::http: answered").count();
    client.get("/healthz");
    assert_eq!(answered(), 0);

    files.write("shop.toml", "log-level = 'info,bookstore::http=debug'\n");
    hang_up(&server, NEW_LEVELS);
    client.get("/healthz");
    wait_until("the answer is told", || answered() == 1);

    // What is wrong in the file is told with its line, and changes nothing.
    for (wrong, says) in [
        ("log-level = 'loud'\n", "`loud` is no level"),
        ("log-level = 'warn'\nlog-levle = 'info'\n", "line 2: unknown key `log-levle`; the nearest is `log-level`"),
        ("tls-cert = 'x.pem'\n", "--tls-key"),
        // All of it in the log's one line.
        ("log-level = 'info\n", "line 1: invalid literal string, expected `'`; `bookstore example-config` prints"),
    ] {
        files.write("shop.toml", wrong);
        hang_up(&server, OLD_SETTINGS);
        assert!(server.output().contains(says), "{says:?} is not in {}", server.output());
    }
    fs::remove_file(files.path("shop.toml")).unwrap();
    hang_up(&server, OLD_SETTINGS);
    client.get("/healthz");
    wait_until("the answer is told", || answered() == 2);

    // A key that is taken out has its default.
    files.write("shop.toml", "");
    hang_up(&server, NEW_LEVELS);
    client.get("/healthz");
    assert_eq!(answered(), 2);
}

#[test]
fn the_level_of_a_flag_is_above_the_file() {
    let files = Files::new();
    files.write("shop.toml", "log-level = 'error'\n");
    let server = Server::start(&["--config", &files.text("shop.toml"), "--log-level", "bookstore::http=debug,error"]);
    files.write("shop.toml", "log-level = 'warn'\nmode = 'lax'\n");
    // Told, so the file was read.
    hang_up(&server, "SIGHUP: the settings cannot be read: they stay");
    server.client().get("/healthz");
    let answered = || server.output().matches("bookstore::http: answered").count();
    wait_until("the answer is told", || answered() == 1);
    files.write("shop.toml", "log-level = 'warn'\n");
    server.sighup();
    wait_until("the answer is told", || {
        server.client().get("/healthz");
        answered() > 3
    });
}

#[test]
fn what_waits_for_a_restart_is_named() {
    const WAITS: &str = "SIGHUP: what else has changed waits for a restart";
    let files = Files::new();
    files.write("shop.toml", "log-level = 'info'\norder-ttl = '30m'\n");
    let server = Server::start(&["--config", &files.text("shop.toml"), "--store-books-max", "7"]);
    files.write("shop.toml", "log-level = 'info'\norder-ttl = '1h'\ntoken-ttl = '2h'\nstore-books-max = 9\n");
    hang_up(&server, WAITS);
    let said = server.output();
    let line = said.lines().find(|line| line.contains(WAITS)).unwrap();
    // The flag is above the file, so its key changes nothing; the levels are taken at once.
    assert!(line.ends_with(r#"settings="order-ttl token-ttl""#), "{line}");
    // What the next start would refuse is told before it comes to that.
    const REFUSED: &str = "SIGHUP: a restart would not start with these settings";
    files.write("shop.toml", "segment-bytes = 1\n");
    hang_up(&server, REFUSED);
    assert!(server.output().contains("--segment-bytes: must be"), "{}", server.output());
    let inside = server.data_dir().join("backups");
    files.write("shop.toml", &format!("admin-listen = '127.0.0.1:0'\nbackup-dir = '{}'\n", inside.display()));
    hang_up(&server, REFUSED);
    assert!(server.output().contains("it is in the data directory"), "{}", server.output());
    let waited = server.output().matches(WAITS).count();
    // As at the start: nothing waits.
    files.write("shop.toml", "log-level = 'info'\norder-ttl = '30m'\n");
    server.sighup();
    // The signals are taken one after the other.
    files.write("shop.toml", "order-ttl = 'soon'\n");
    hang_up(&server, "SIGHUP: the settings cannot be read: they stay");
    assert_eq!(server.output().matches(WAITS).count(), waited);
}

#[test]
fn secrets_that_everybody_may_read_are_told() {
    use std::os::unix::fs::PermissionsExt;
    const TOLD: &str = "everybody on this machine may read or change it";
    let files = Files::new();
    files.write("token", "0123456789abcdef0123\n");
    let (path, text) = (files.path("token"), files.text("token"));
    let flags = ["--admin-listen", "127.0.0.1:0", "--admin-token-file", &text];
    for (mode, told) in [(0o600, 0), (0o640, 0), (0o644, 1), (0o602, 1)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let server = Server::start(&flags);
        let said = server.output();
        assert_eq!(said.matches(TOLD).count(), told, "{mode:o}: {said}");
        assert!(told == 0 || said.contains(&format!("{mode:03o}")) && said.contains("--admin-token-file"), "{said}");
    }
    // A key that came with a renewal is looked at as well.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::start(&flags);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    hang_up(&server, TOLD);
}
