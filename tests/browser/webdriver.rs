//! A browser, driven over the WebDriver protocol: JSON over HTTP to a `chromedriver` of our own.
//!
//! Only what the tests need of it, over the client that the other tests have; a crate for it would bring a second HTTP
//! client.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Conn, request, wait_until};

/// For a machine that does other things as well: what is waited for is seen as soon as it is there.
const WITHIN: Duration = Duration::from_secs(30);
/// A start of the browser on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// Of the text in which another one was not found.
const SHOWN_MAX: usize = 1000;
/// The name under which WebDriver hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// What a test does again until its time is over: the page is about to draw itself anew.
const PASSING: [&str; 4] =
    ["no such element", "stale element reference", "element not interactable", "element click intercepted"];

/// How large the window is, in CSS pixels.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    Phone,
    Desktop,
}

/// Whether a browser and its driver are installed.
pub fn is_installed() -> Result<(), &'static str> {
    let runs = |program: &str| {
        let status = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    match (runs("chromedriver"), runs("chromium")) {
        (false, _) => Err("there is no chromedriver"),
        (true, false) => Err("there is no chromium"),
        (true, true) => Ok(()),
    }
}

/// A running `chromedriver`. It ends with this value.
pub struct Driver {
    child: Child,
    port: u16,
    /// What it and its browsers leave behind goes with it.
    _files: TempDir,
}

impl Driver {
    /// Starts one on a free port.
    pub fn start() -> Driver {
        let files = TempDir::new().unwrap();
        let mut command = Command::new("chromedriver");
        command.env("TMPDIR", files.path());
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // "ChromeDriver was started successfully on port 40001."
        let port =
            lines.find_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok());
        let driver = Driver { child, port: port.unwrap_or(0), _files: files };
        assert!(driver.port > 0, "chromedriver did not say on which port it listens");
        thread::spawn(move || lines.for_each(drop));
        driver
    }

    /// Sends one command; the error is WebDriver's name of what went wrong, and its text.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, (String, String)> {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let mut conn = Conn::open(self.port).unwrap();
        conn.read_within(ANSWER_WITHIN);
        // The driver answers to a Host that is this machine only.
        let bytes = String::from_utf8(request(method, path, &[("connection", "close")], body.as_bytes())).unwrap();
        let bytes = bytes.replacen("host: bookstore", &format!("host: 127.0.0.1:{}", self.port), 1);
        conn.send(bytes.as_bytes()).unwrap();
        let value = conn.response().unwrap().json()["value"].take();
        match (value["error"].as_str(), value["message"].as_str()) {
            (Some(error), message) => Err((error.to_owned(), message.unwrap_or_default().to_owned())),
            _ => Ok(value),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One browser with a profile of its own. It ends with this value.
pub struct Browser<'a> {
    driver: &'a Driver,
    session: String,
    profile: TempDir,
    test: String,
    /// What the console said so far: the driver hands each line out once.
    console: RefCell<Vec<Value>>,
}

impl<'a> Browser<'a> {
    /// Opens a browser whose user prefers this language (`zh-CN`, `en-US`). The test's name is in those of its pictures.
    pub fn open(driver: &'a Driver, test: &str, language: &str) -> Browser<'a> {
        let profile = TempDir::new().unwrap();
        let data = format!("--user-data-dir={}", profile.path().display());
        let language_flag = format!("--lang={language}");
        let flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"];
        let mut args = flags.to_vec();
        args.extend([data.as_str(), language_flag.as_str(), "--hide-scrollbars"]);
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": args, "prefs": {"intl.accept_languages": language}},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let opened = driver.call("POST", "/session", &capabilities).unwrap_or_else(|error| panic!("{error:?}"));
        let session = opened["sessionId"].as_str().unwrap().to_owned();
        let browser = Browser { driver, session, profile, test: test.to_owned(), console: RefCell::default() };
        browser.resize(Size::Desktop);
        browser
    }

    fn try_command(&self, method: &str, path: &str, body: &Value) -> Result<Value, (String, String)> {
        self.driver.call(method, &format!("/session/{}/{path}", self.session), body)
    }

    #[track_caller]
    fn command(&self, path: &str, body: &Value) -> Value {
        self.try_command("POST", path, body).unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    /// Opens an address and waits until it has loaded.
    #[track_caller]
    pub fn goto(&self, url: &str) {
        self.command("url", &json!({"url": url}));
    }

    pub fn reload(&self) {
        self.command("refresh", &json!({}));
    }

    /// Where the browser is now.
    pub fn url(&self) -> String {
        self.run("return location.href").as_str().unwrap().to_owned()
    }

    /// Runs the body of a function in the page and gives what it returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Does something with the first element that this CSS selector finds, as soon as it is there and lets it be done.
    #[track_caller]
    fn on<T>(&self, css: &str, what: impl Fn(&str) -> Result<T, (String, String)>) -> T {
        let end = Instant::now() + WITHIN;
        loop {
            let found = self.try_command("POST", "element", &json!({"using": "css selector", "value": css}));
            let done = found.and_then(|element| what(element[ELEMENT].as_str().unwrap()));
            match done {
                Ok(done) => return done,
                Err((error, _)) if PASSING.contains(&error.as_str()) && Instant::now() < end => {
                    thread::sleep(LOOK_AGAIN)
                }
                Err(error) => {
                    panic!("{css}: {error:?} at {}; picture: {}", self.url(), self.picture("failed").display())
                }
            }
        }
    }

    /// Waits until the element is there.
    #[track_caller]
    pub fn wait(&self, css: &str) {
        self.on(css, |_| Ok(()));
    }

    /// Waits until the element has this text in it.
    #[track_caller]
    pub fn wait_text(&self, css: &str, text: &str) {
        self.on(css, |element| match self.text_of(element)? {
            shown if shown.contains(text) => Ok(()),
            shown => {
                let some: String = shown.chars().take(SHOWN_MAX).collect();
                Err(("no such element".to_owned(), format!("{text:?} is not in {some:?}")))
            }
        });
    }

    /// Waits until no element is found.
    #[track_caller]
    pub fn wait_gone(&self, css: &str) {
        let end = Instant::now() + WITHIN;
        while self.count(css) > 0 {
            assert!(Instant::now() < end, "{css} is still there; picture: {}", self.picture("failed").display());
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// How many elements are found now.
    pub fn count(&self, css: &str) -> usize {
        let found = self.command("elements", &json!({"using": "css selector", "value": css}));
        found.as_array().unwrap().len()
    }

    /// Scrolls as a person does who wants to use this: away from what sticks to the edges.
    fn bring(&self, element: &str) -> Result<Value, (String, String)> {
        let script = "arguments[0].scrollIntoView({block: 'center'})";
        self.try_command("POST", "execute/sync", &json!({"script": script, "args": [{ELEMENT: element}]}))
    }

    #[track_caller]
    pub fn click(&self, css: &str) {
        self.on(css, |element| {
            self.bring(element)?;
            self.try_command("POST", &format!("element/{element}/click"), &json!({}))
        });
    }

    /// Two clicks as fast as a hand can, on whatever is there when each comes.
    #[track_caller]
    pub fn double_click(&self, css: &str) {
        self.on(css, |element| {
            let press = [json!({"type": "pointerDown", "button": 0}), json!({"type": "pointerUp", "button": 0})];
            let mut actions = vec![json!({"type": "pointerMove", "x": 0, "y": 0, "origin": {ELEMENT: element}})];
            actions.extend(press.iter().chain(&press).cloned());
            self.bring(element)?;
            self.try_command(
                "POST",
                "actions",
                &json!({"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]}),
            )
        });
    }

    /// Puts this text into a field in place of what is there.
    #[track_caller]
    pub fn fill(&self, css: &str, text: &str) {
        self.on(css, |element| {
            self.try_command("POST", &format!("element/{element}/clear"), &json!({}))?;
            self.try_command("POST", &format!("element/{element}/value"), &json!({"text": text}))
        });
    }

    /// Chooses this file in a field for files.
    #[track_caller]
    pub fn attach(&self, css: &str, file: &Path) {
        let path = json!({"text": file.to_str().unwrap()});
        self.on(css, |element| self.try_command("POST", &format!("element/{element}/value"), &path));
    }

    /// Presses keys where the focus is. Keys that have no letter are the private characters of WebDriver: U+E004 is the tabulator.
    #[track_caller]
    pub fn press(&self, text: &str) {
        let strokes = |letter: char| {
            [("keyDown", letter), ("keyUp", letter)].map(|(kind, value)| json!({"type": kind, "value": value}))
        };
        let actions: Vec<Value> = text.chars().flat_map(strokes).collect();
        self.command("actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    fn text_of(&self, element: &str) -> Result<String, (String, String)> {
        let text = self.try_command("GET", &format!("element/{element}/text"), &Value::Null)?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// The text as it is shown.
    #[track_caller]
    pub fn text(&self, css: &str) -> String {
        self.on(css, |element| self.text_of(element))
    }

    pub fn resize(&self, size: Size) {
        let (width, height, phone) = match size {
            Size::Phone => (390, 844, true),
            Size::Desktop => (1280, 900, false),
        };
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// How far the page is wider than the window: nobody likes to scroll sideways.
    pub fn excess(&self) -> i64 {
        self.run("return document.documentElement.scrollWidth - innerWidth").as_i64().unwrap()
    }

    /// What the user prefers: dark colours or light ones.
    pub fn prefer_dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": value});
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [feature]}));
    }

    /// Runs this in every page before its own scripts.
    pub fn before_pages(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({"source": script}));
    }

    fn devtools(&self, name: &str, params: &Value) {
        self.command("goog/cdp/execute", &json!({"cmd": name, "params": params}));
    }

    /// Takes a picture of what is seen: `$BOOKSTORE_SCREENSHOTS/<test>-<name>.png`, in cargo's own place for such files
    /// unless the variable is set.
    pub fn picture(&self, name: &str) -> PathBuf {
        let named = std::env::var_os("BOOKSTORE_SCREENSHOTS").map(PathBuf::from);
        let directory = named.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots"));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(format!("{}-{name}.png", self.test.replace("::", "-")));
        if let Ok(Value::String(picture)) = self.try_command("GET", "screenshot", &Value::Null) {
            fs::write(&path, decode(&picture)).unwrap();
        }
        path
    }

    /// What the console said so far that is no mere remark: errors, warnings, what the content security policy refused,
    /// what could not be loaded.
    pub fn complaints(&self) -> Vec<String> {
        let new = self.command("se/log", &json!({"type": "browser"}));
        let mut console = self.console.borrow_mut();
        console.extend(new.as_array().unwrap().iter().cloned());
        let grave = console.iter().filter(|line| matches!(line["level"].as_str(), Some("SEVERE" | "WARNING")));
        grave.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// That the console has nothing to complain about, but for the answers of the service that the test has asked for:
    /// each as path and status, as often as it likes. Also that everything came from the page's own host.
    #[track_caller]
    pub fn assert_content(&self, refusals: &[(&str, u16)]) {
        let is_refusal = |line: &String| {
            refusals.iter().any(|(path, status)| {
                line.contains(&format!("{path} - ")) && line.contains(&format!("responded with a status of {status} "))
            })
        };
        let complaints: Vec<String> = self.complaints().into_iter().filter(|line| !is_refusal(line)).collect();
        assert!(complaints.is_empty(), "the console says: {complaints:#?}");
        let foreign = self.run(
            "return performance.getEntriesByType('resource').map(entry => entry.name)
                .filter(name => !name.startsWith(location.origin + '/') && !name.startsWith('data:'))",
        );
        assert_eq!(foreign, json!([]), "loaded from elsewhere");
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // A symbolic link to `host-pid`.
        let lock = fs::read_link(self.profile.path().join("SingletonLock"));
        if self.driver.call("DELETE", &format!("/session/{}", self.session), &Value::Null).is_ok() {
            return;
        }
        let pid = lock.ok().and_then(|lock| lock.to_str()?.rsplit('-').next()?.parse::<u32>().ok());
        if let Some(pid) = pid {
            let _ = Command::new("/bin/kill").args(["-KILL", &pid.to_string()]).status();
        }
    }
}

/// What `assert_content` relies on: an error, a refused load and a foreign host do not pass unseen.
pub fn complaints_are_seen(stage: &crate::Stage) {
    let server = crate::common::Server::start(&[]);
    let browser = stage.browser("en-US");
    let here = format!("http://127.0.0.1:{}", server.port());
    browser.goto(&format!("{here}/healthz"));
    // Which the browser asks for by itself where a page does not say otherwise.
    let icon = ("/favicon.ico", 404);
    browser.run("console.info('a remark')");
    browser.assert_content(&[icon]);
    browser.run("return fetch('/buyer/query_book', {method: 'POST', body: '{}'}).then(answer => answer.status)");
    browser.assert_content(&[icon, ("/buyer/query_book", 530)]);
    browser.run("setTimeout(() => { throw new Error('thrown') })");
    wait_until("the error is in the log", || browser.complaints().iter().any(|line| line.contains("thrown")));
    browser.run("return import('http://127.0.0.1:9/foreign.js').catch(() => 'refused')");
    wait_until("so is the load", || browser.complaints().iter().any(|line| line.contains("foreign.js")));
    let noticed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| browser.assert_content(&[icon])));
    assert!(noticed.is_err(), "neither was noticed");
}

/// Base64 with padding, as the driver sends its pictures.
fn decode(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0);
    for letter in text.bytes().filter(|&letter| letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    bytes
}
