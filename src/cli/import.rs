//! `bookstore import`: lists books in a running service.
//!
//! `add_book` of a book that is there changes nothing, so a request whose outcome is unknown is sent again, and a whole
//! import can be run again after it was cut short.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::args::duration;
use super::exit::{Exit, scarce};
use super::input::{Input, Next};
use super::progress::{ProgressLines, rate, say};
use super::signals::Asked;
use crate::http::client::{Answered, Client, Service};

/// Requests without an answer before the service is taken to be gone, and the first rest between them, which doubles.
const UNANSWERED_MAX: u32 = 6;
const FIRST_REST: Duration = Duration::from_millis(100);

/// A service that says for so long that it is busy is not waited for any longer.
const BUSY_MAX: Duration = Duration::from_secs(300);

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Flags of `import`.
#[derive(Debug, Clone, Args)]
pub(super) struct ImportArgs {
    /// The service, as in http://127.0.0.1:5000
    #[arg(long, value_name = "URL")]
    url: String,
    /// PEM file with the certificate of who signed the service's, for an https URL
    #[arg(long, env = "BOOKSTORE_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The store that gets the books
    #[arg(long, value_name = "ID")]
    store: String,
    /// JSON lines (`-`: stdin), each a book_info or {"book_info": …, "stock_level": N}
    #[arg(long, value_name = "FILE")]
    books: PathBuf,
    /// The store's owner
    #[arg(long, value_name = "ID")]
    user: String,
    /// His password; better by the variable, which other users of the machine do not see
    #[arg(long, env = "BOOKSTORE_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    password: String,
    /// Open the store first, unless it is there
    #[arg(long)]
    create_store: bool,
    /// Copies of each book whose line does not say
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    stock: i64,
    /// Requests at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// Time for the answer to a request
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,
    /// Say nothing but what is wrong
    #[arg(long, short)]
    quiet: bool,
}

/// What the workers share.
struct Import {
    args: ImportArgs,
    service: Service,
    asked: Asked,
    /// The newest login, with its number, so that of many who find it expired one logs in.
    token: tokio::sync::Mutex<(u64, String)>,
    listed: AtomicU64,
    existed: AtomicU64,
    wrong: AtomicU64,
    /// Why nothing more is tried; the first reason counts.
    over: Mutex<Option<String>>,
    is_over: AtomicBool,
}

type Line = (u64, Vec<u8>);

/// Imports and says what was listed.
pub(super) fn run(args: ImportArgs) -> Result<(), Exit> {
    let start = Instant::now();
    let service = Service::parse(&args.url, args.tls_ca.as_deref()).map_err(Exit::failure)?;
    let asked = Asked::listen().map_err(|error| Exit::failure(scarce("cannot listen for signals", &error)))?;
    let input = Input::open(&args.books).map_err(Exit::failure)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::failure(scarce("cannot start the runtime", &error)))?;
    let import = Arc::new(Import {
        args,
        service,
        asked,
        token: tokio::sync::Mutex::default(),
        listed: AtomicU64::new(0),
        existed: AtomicU64::new(0),
        wrong: AtomicU64::new(0),
        over: Mutex::new(None),
        is_over: AtomicBool::new(false),
    });
    let unread = runtime.block_on(import.clone().all(input));
    runtime.shutdown_background();
    import.end(unread, start.elapsed())
}

impl Import {
    async fn all(self: Arc<Self>, input: Input) -> Result<(), String> {
        if let Err(why) = self.begin().await {
            self.end_all(why);
            return Ok(());
        }
        let (sender, lines) = mpsc::channel::<Line>(usize::from(self.args.connections));
        let lines = Arc::new(tokio::sync::Mutex::new(lines));
        let feeder = {
            let import = self.clone();
            tokio::task::spawn_blocking(move || import.feed(input, &sender))
        };
        let workers: Vec<_> =
            (0..self.args.connections).map(|_| tokio::spawn(self.clone().work(lines.clone()))).collect();
        for worker in workers {
            if worker.await.is_err() {
                self.end_all("a worker failed".into());
            }
        }
        drop(lines);
        feeder.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Hands lines to the workers, and says how far they are.
    fn feed(&self, mut input: Input, sender: &mpsc::Sender<Line>) -> Result<(), String> {
        let mut progress = ProgressLines::new(self.args.quiet);
        let mut total = None;
        loop {
            if self.stopped() {
                return Ok(());
            }
            progress.at("books", self.done(), total);
            let part = match input.next()? {
                Next::Part(part) => part,
                Next::Nothing => continue,
                Next::End => return Ok(()),
            };
            total = part.last().and_then(|(number, _)| input.lines(*number));
            for (number, line) in part {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                if sender.blocking_send((number, line)).is_err() {
                    return Ok(());
                }
                progress.at("books", self.done(), total);
            }
        }
    }

    fn done(&self) -> u64 {
        self.listed.load(Ordering::Relaxed) + self.existed.load(Ordering::Relaxed)
    }

    /// Nothing more is to be tried.
    fn stopped(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.asked.by().is_some()
    }

    fn end_all(&self, why: String) {
        self.over.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Logs in, and opens the store if that was asked for.
    async fn begin(&self) -> Result<(), String> {
        let mut client = Client::new(self.service.clone(), self.args.timeout);
        let token = self.log_in(&mut client, 0).await?.1;
        if !self.args.create_store {
            return Ok(());
        }
        let body = json!({"user_id": self.args.user, "store_id": self.args.store}).to_string().into();
        let answered = self.ask(&mut client, "/seller/create_store", Some(&token), body).await?;
        match answered.status {
            200 | 514 => Ok(()),
            _ => Err(format!("the store could not be opened: {}", message(&answered))),
        }
    }

    /// The token of a login that is newer than `known`.
    async fn log_in(&self, client: &mut Client, known: u64) -> Result<(u64, String), String> {
        let mut token = self.token.lock().await;
        if token.0 > known {
            return Ok(token.clone());
        }
        let (user, password) = (&self.args.user, &self.args.password);
        let body = json!({"user_id": user, "password": password, "terminal": "import"}).to_string().into();
        let answered = self.ask(client, "/auth/login", None, body).await?;
        let value: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
        match (answered.status, value["token"].as_str()) {
            (200, Some(new)) => {
                *token = (token.0 + 1, new.to_owned());
                Ok(token.clone())
            }
            _ => Err(format!("user {user} cannot log in: {}", message(&answered))),
        }
    }

    /// Asks until there is an answer that is neither "busy" nor none.
    async fn ask(&self, client: &mut Client, path: &str, token: Option<&str>, body: Bytes) -> Result<Answered, String> {
        let (mut unanswered, mut rest) = (0, FIRST_REST);
        let began = Instant::now();
        loop {
            let why = match client.post(path, token, body.clone()).await {
                Ok(Answered { status: 429 | 503, retry_after: Some(after), .. }) if began.elapsed() < BUSY_MAX => {
                    self.sleep(after.max(FIRST_REST)).await?;
                    continue;
                }
                // "Outcome unknown", or a proxy whose service is away.
                Ok(answered) if matches!(answered.status, 502..=504) => message(&answered),
                Ok(answered) => return Ok(answered),
                Err(why) => why,
            };
            unanswered += 1;
            if unanswered >= UNANSWERED_MAX {
                return Err(format!("the service does not answer: {why}"));
            }
            self.sleep(rest).await?;
            rest *= 2;
        }
    }

    /// Ends early when nothing more is to be tried.
    async fn sleep(&self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if self.stopped() {
                return Err("cut short".into());
            }
            tokio::time::sleep(left.min(LOOK_AGAIN)).await;
        }
        Ok(())
    }

    async fn work(self: Arc<Self>, lines: Arc<tokio::sync::Mutex<mpsc::Receiver<Line>>>) {
        let mut client = Client::new(self.service.clone(), self.args.timeout);
        while !self.stopped() {
            // With a limit, so that a signal is heard while stdin is silent.
            let next = tokio::time::timeout(LOOK_AGAIN, async { lines.lock().await.recv().await }).await;
            let (number, line) = match next {
                Ok(Some(line)) => line,
                Ok(None) => return,
                Err(_nothing_yet) => continue,
            };
            let told = match self.body(&line) {
                Ok(body) => self.add(&mut client, body).await,
                Err(why) => Err(why),
            };
            match told {
                Ok(()) => {}
                // The reason is told at the end, once.
                Err(_) if self.stopped() => {}
                Err(why) => {
                    self.wrong.fetch_add(1, Ordering::Relaxed);
                    say(&format_args!("line {number}: {why}"));
                }
            }
        }
    }

    /// The request of a line.
    fn body(&self, line: &[u8]) -> Result<Bytes, String> {
        let text = std::str::from_utf8(line).map_err(|_not_text| "is not UTF-8".to_owned())?.trim();
        if !text.starts_with('{') {
            return Err("is not a JSON object".into());
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wrapped<'a> {
            #[serde(borrow)]
            book_info: &'a RawValue,
            stock_level: Option<i64>,
        }
        #[derive(Deserialize)]
        struct Probe<'a> {
            #[serde(borrow)]
            book_info: Option<&'a RawValue>,
        }
        let not_json = |error: serde_json::Error| error.to_string().replace(" at line 1 column", " at byte");
        let probe: Probe<'_> = serde_json::from_str(text).map_err(not_json)?;
        let (info, stock) = match probe.book_info {
            None => (text, self.args.stock),
            Some(_) => {
                let line: Wrapped<'_> = serde_json::from_str(text).map_err(not_json)?;
                (line.book_info.get(), line.stock_level.unwrap_or(self.args.stock))
            }
        };
        let (user, store) = (json!(self.args.user), json!(self.args.store));
        let body = format!(r#"{{"user_id":{user},"store_id":{store},"stock_level":{stock},"book_info":{info}}}"#);
        Ok(body.into())
    }

    async fn add(&self, client: &mut Client, body: Bytes) -> Result<(), String> {
        let ended = |why: String| {
            self.end_all(why.clone());
            why
        };
        let (mut number, mut token) = self.token.lock().await.clone();
        for again in [false, true] {
            let asked = self.ask(client, "/seller/add_book", Some(&token), body.clone()).await;
            let answered = asked.map_err(ended)?;
            match answered.status {
                200 => self.listed.fetch_add(1, Ordering::Relaxed),
                516 => self.existed.fetch_add(1, Ordering::Relaxed),
                // The login may have expired under way.
                401 if !again => {
                    (number, token) = self.log_in(client, number).await.map_err(ended)?;
                    continue;
                }
                401 => return Err(ended(format!("store {} is not {}'s", self.args.store, self.args.user))),
                513 => {
                    let why = format!("there is no store {}; --create-store opens it", self.args.store);
                    return Err(ended(why));
                }
                _ => return Err(message(&answered)),
            };
            return Ok(());
        }
        Ok(())
    }

    /// The summary and the exit status.
    fn end(&self, unread: Result<(), String>, took: Duration) -> Result<(), Exit> {
        let (listed, existed) = (self.listed.load(Ordering::Relaxed), self.existed.load(Ordering::Relaxed));
        let wrong = self.wrong.load(Ordering::Relaxed);
        let counts = format!("{listed} books listed, {existed} were there already, {wrong} lines failed");
        if let Some(signal) = self.asked.by() {
            return Err(Exit {
                status: signal.status(),
                why: format!("{}: {counts}; run it again to go on", signal.name),
            });
        }
        if let Some(why) = self.over.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Exit::failure(format!(
                "{why}; {counts}, and the rest was not tried; put that right and run it again: it goes on where it ended"
            )));
        }
        unread.map_err(|why| Exit::failure(format!("{why}; {counts}; run it again to go on")))?;
        if wrong > 0 {
            return Err(Exit::failure(format!("{counts}; mend those lines and run it again: what is there stays")));
        }
        if !self.args.quiet {
            say(&format_args!("{counts}; {:.1} s, {}", took.as_secs_f64(), rate(listed + existed, took)));
        }
        Ok(())
    }
}

/// The service's words.
fn message(answered: &Answered) -> String {
    let value: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
    let text = value["message"].as_str().unwrap_or("an answer without a message");
    format!("{} {text}", answered.status)
}
