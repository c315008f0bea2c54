//! One running `bookstore serve`, its data directory and what it printed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bookstore::Durability;
use tempfile::TempDir;

use super::audit::audit;
use super::client::Client;
use super::http::Conn;

const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(60);
const LISTENING: [&str; 2] = ["listening on http://127.0.0.1:", "listening on https://127.0.0.1:"];

/// What every server of the tests gets, unless the test sets the flag itself: cheap password hashes,
/// and no throttle for tests that send many wrong passwords on purpose.
const DEFAULTS: [(&str, &str); 4] = [
    ("--argon2-memory-kib", "64"),
    ("--argon2-iterations", "1"),
    ("--throttle-user", "1000000"),
    ("--throttle-address", "1000000"),
];

pub struct Server {
    directory: TempDir,
    flags: Vec<String>,
    child: Child,
    stopped: bool,
    port: u16,
    starts: u32,
    printed: Arc<Mutex<String>>,
}

impl Server {
    /// Starts a server in a fresh directory and waits until it listens.
    pub fn start(flags: &[&str]) -> Server {
        let directory = TempDir::new().unwrap();
        let flags = with_defaults(flags);
        let (child, port, printed) = spawn(directory.path(), &flags, 1);
        Server { directory, flags, child, stopped: false, port, starts: 1, printed }
    }

    /// As `start`, on data that a tool has made: `make` is given the directory that is to be the server's.
    pub fn start_on(flags: &[&str], make: impl FnOnce(&Path)) -> Server {
        let directory = TempDir::new().unwrap();
        make(&directory.path().join("data"));
        let flags = with_defaults(flags);
        let (child, port, printed) = spawn(directory.path(), &flags, 1);
        Server { directory, flags, child, stopped: false, port, starts: 1, printed }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A client with a connection of its own, kept alive.
    pub fn client(&self) -> Client {
        Client::new(self.port)
    }

    /// The port for operators, of a server that was started with `--admin-listen`.
    pub fn admin_port(&self) -> u16 {
        let said = self.output();
        let (_, rest) = said.split_once("console on http://127.0.0.1:").unwrap_or_else(|| panic!("{said}"));
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    }

    pub fn connect(&self) -> Conn {
        Conn::open(self.port).unwrap()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// All that this start of the process printed so far, on both streams.
    pub fn output(&self) -> String {
        let log = fs::read_to_string(log_path(self.directory.path(), self.starts)).unwrap();
        format!("{}{log}", self.printed.lock().unwrap())
    }

    /// Kills the process at once, as a crash does.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.stopped = true;
    }

    /// Asks the process to end, and returns at once.
    pub fn send_sigterm(&self) {
        self.signal("-TERM");
    }

    /// The process stands still until `sigcont`.
    pub fn sigstop(&self) {
        self.signal("-STOP");
    }

    pub fn sigcont(&self) {
        self.signal("-CONT");
    }

    /// The process reads some of its settings again.
    pub fn sighup(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("/bin/kill").args([name, &pid]).status().unwrap();
        assert!(status.success(), "kill {name} {pid} failed");
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + STOP_WITHIN;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.stopped = true;
                return status;
            }
            assert!(Instant::now() < end, "the server did not end:\n{}", self.output());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the process in good order.
    pub fn sigterm(&mut self) -> ExitStatus {
        self.send_sigterm();
        self.wait()
    }

    /// Starts the process again on the same directory, after `kill9` or `sigterm`.
    pub fn restart(&mut self) {
        assert!(self.stopped, "stop the server before it is started again");
        self.starts += 1;
        let (child, port, printed) = spawn(self.directory.path(), &self.flags, self.starts);
        self.child = child;
        self.port = port;
        self.printed = printed;
        self.stopped = false;
    }

    /// As `restart`, with other flags from now on.
    pub fn restart_with(&mut self, flags: &[&str]) {
        self.flags = with_defaults(flags);
        self.restart();
    }
}

impl Server {
    fn flag(&self, name: &str) -> Option<&str> {
        let place = self.flags.iter().position(|flag| flag == name)?;
        self.flags.get(place + 1).map(String::as_str)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.stopped {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("--- the server printed:\n{}", self.output());
            return;
        }
        let durability = match self.flag("--durability") {
            Some("buffered") => Durability::Buffered,
            Some("snapshot") => Durability::Snapshot,
            _ => Durability::Sync,
        };
        // Deadlines of a short time to live may pass between two opens.
        audit(&self.data_dir(), durability, self.flag("--order-ttl").is_none());
    }
}

fn with_defaults(flags: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
    for (name, value) in DEFAULTS {
        if !flags.contains(&name) {
            all.push(name.to_owned());
            all.push(value.to_owned());
        }
    }
    all
}

fn log_path(directory: &Path, start: u32) -> PathBuf {
    directory.join(format!("log-{start}.txt"))
}

fn spawn(directory: &Path, flags: &[String], start: u32) -> (Child, u16, Arc<Mutex<String>>) {
    let log = log_path(directory, start);
    let mut command = Command::new(super::binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BOOKSTORE_") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(directory.join("data"))
        .args(flags)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();

    // The pipe is read to its end on a thread, so that the server never waits for us to read.
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let printed = Arc::new(Mutex::new(String::new()));
    let (send_port, port) = mpsc::channel();
    let kept = Arc::clone(&printed);
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            kept.lock().unwrap().push_str(&format!("{line}\n"));
            if let Some(port) = port_in(&line) {
                let _ = send_port.send(port);
            }
        }
    });

    let Ok(port) = port.recv_timeout(START_WITHIN) else {
        let _ = child.kill();
        let _ = child.wait();
        let log = fs::read_to_string(&log).unwrap();
        panic!("the server never listened:\n{}{log}", printed.lock().unwrap());
    };
    (child, port, printed)
}

fn port_in(line: &str) -> Option<u16> {
    let (_, rest) = LISTENING.iter().find_map(|start| line.split_once(start))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
