//! Random commands against the engine and against a naive model of the shop, side by side: the same answers, the same
//! refusals, the same lists, the same balances and stock; also over snapshots, crashes, clean restarts,
//! sleep, and orders that leave memory and come back.
//!
//! The run is cut into episodes, each a shop of its own with a seed of its own; several run at once, so that their
//! actors have time to fall asleep. A failure names the seed: `BOOKSTORE_MODEL_SEED=<seed>
//! BOOKSTORE_MODEL_COMMANDS=2500 cargo test --test model` runs that episode alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "model/command.rs"]
mod command;
#[path = "model/shop.rs"]
mod shop;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bookstore::{Config, Durability, Engine};
use command::{Answer, CONFIRM_AFTER, Command, ask, throw};
use shop::{Limits, Shop, Totals};

const COMMANDS: u64 = 100_000;
const EPISODE_COMMANDS: u64 = 2_500;
const EPISODES_AT_ONCE: usize = 16;
/// Commands that a failure shows.
const SHOWN: usize = 20;

/// xorshift; a test needs no better.
pub(crate) struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        // The first throws of neighbouring seeds are alike.
        for _ in 0..16 {
            dice.roll(2);
        }
        dice
    }

    /// A number in `0..below`.
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

/// One engine and its model.
struct Episode {
    seed: u64,
    dice: Dice,
    config: Config,
    /// Kept while the engine lives on it.
    dir: Option<tempfile::TempDir>,
    engine: Option<Engine>,
    shop: Shop,
    tokens: Vec<String>,
    last: VecDeque<String>,
    /// How often each answer came, by the command's name and the answer's code.
    seen: BTreeMap<(String, u16), u64>,
    restarts: u64,
    /// Orders that left memory.
    left: u64,
}

impl Episode {
    async fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let dir = (dice.roll(2) == 0).then(|| tempfile::tempdir().unwrap());
        let mut config = match &dir {
            Some(dir) => Config::directory(dir.path()),
            None => Config::memory(),
        };
        config.password_params.memory_kib = 64;
        config.password_params.iterations = 1;
        config.durability = Durability::Buffered;
        config.segment_bytes = 16 << 20;
        let limits = Limits {
            lines: 4 + dice.roll(24) as usize,
            pending: 3 + dice.roll(20) as usize,
            listed: 3 + dice.roll(60) as usize,
            confirms: dice.roll(4) > 0,
        };
        config.auto_confirm = limits.confirms.then_some(CONFIRM_AFTER);
        config.limits.order_lines_max = limits.lines;
        config.limits.pending_orders_max = limits.pending;
        config.limits.orders_listed_max = limits.listed;
        config.limits.throttle_user = 0;
        config.limits.throttle_address = 0;
        config.limits.live_actors_max = 2;
        config.limits.idle_after = Duration::from_secs(dice.roll(2));
        config.limits.password_memory_max = 1 + dice.roll(10) as usize;
        let shop = Shop::new(limits);
        let engine = Some(Engine::open(config.clone()).await.unwrap());
        let (tokens, last, seen) = Default::default();
        Episode { seed, dice, config, dir, engine, shop, tokens, last, seen, restarts: 0, left: 0 }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn show(&mut self, what: String) {
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(what);
    }

    fn fail(&self, why: &str) -> ! {
        let last: Vec<_> = self.last.iter().map(String::as_str).collect();
        panic!("seed {}: {why}\nthe last commands:\n{}", self.seed, last.join("\n"));
    }

    async fn step(&mut self) {
        let command = throw(&self.shop, &mut self.dice);
        self.show(format!("{command:?}"));
        let expected = self.shop.run(&command);
        let mut given = None;
        let engine = self.engine.clone().unwrap();
        let answer = ask(&engine, &command, &self.tokens, &mut given).await;
        if answer != expected {
            self.fail(&format!("the engine answered\n{answer:?}\nand the model\n{expected:?}"));
        }
        match (&answer, given) {
            (Answer::Placed, Some(id)) => self.shop.orders.last_mut().unwrap().id = id,
            (Answer::LoggedIn, Some(token)) => self.tokens.push(token),
            _ => {}
        }
        *self.seen.entry((name(&command), code(&answer))).or_default() += 1;
    }

    /// A snapshot, a crash or a clean restart.
    async fn disturb(&mut self) {
        match self.dice.roll(if self.dir.is_some() { 4 } else { 1 }) {
            0 => {
                self.show("snapshot".into());
                self.engine().snapshot().await.unwrap();
            }
            1 => {
                self.show("close, open".into());
                let before = self.audit().await;
                self.engine.take().unwrap().close().await.unwrap();
                self.open().await;
                assert_eq!(self.engine().recovered().replayed_events, 0);
                self.same_hash(before, "a clean close").await;
            }
            2 => {
                self.show("drop, open".into());
                // Everything was answered, so everything is there.
                self.engine = None;
                self.open().await;
                self.audit().await;
            }
            _ => {
                self.show("audit, drop, open".into());
                let before = self.audit().await;
                self.engine = None;
                self.open().await;
                self.same_hash(before, "a crash").await;
            }
        }
        self.audit().await;
    }

    async fn open(&mut self) {
        self.restarts += 1;
        self.engine = Some(Engine::open(self.config.clone()).await.unwrap());
    }

    async fn same_hash(&self, before: u128, after_what: &str) {
        if self.audit().await != before {
            self.fail(&format!("the state hash is another one after {after_what}"));
        }
    }

    /// Compares the sums with the model's; gives the state hash.
    async fn audit(&self) -> u128 {
        let audit = self.engine().audit().await.unwrap();
        if !audit.is_conserved() || audit.contradictions > 0 {
            self.fail(&format!("not conserved: {audit:?}"));
        }
        let found = Totals {
            accounts: audit.accounts,
            stores: audit.stores,
            closed_stores: audit.closed_stores,
            orders: audit.orders,
            balances: audit.balances,
            escrow: audit.escrow,
            stock: audit.stock,
            ordered: audit.ordered,
        };
        let expected = self.shop.totals();
        if found != expected {
            self.fail(&format!("the engine has\n{found:?}\nand the model\n{expected:?}"));
        }
        audit.state_hash
    }

    async fn run(mut self, commands: u64) -> Self {
        for _ in 0..commands {
            self.step().await;
            if self.dice.roll(250) == 0 {
                self.disturb().await;
            }
            // Often, so that most commands on an order have to bring it back.
            if self.dice.roll(20) == 0 {
                self.show("offload".into());
                self.left += self.engine().offload().await.unwrap();
            }
        }
        self.audit().await;
        self
    }
}

fn name(command: &Command) -> String {
    let text = format!("{command:?}");
    text.split([' ', '{']).next().unwrap().to_owned()
}

fn code(answer: &Answer) -> u16 {
    match answer {
        Answer::Refused(refusal) => refusal.code(),
        Answer::TooManyListed => 530,
        Answer::TooManyPending => 429,
        _ => 200,
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What a full run must have met at least a few times, so that the throws stay worth their time.
#[rustfmt::skip]
const MUST_BE_SEEN: &[(&str, &[u16])] = &[
    ("Register", &[200, 512, 530]),
    ("Unregister", &[200, 401, 530]),
    ("Login", &[200, 401]),
    ("Logout", &[200, 401]),
    ("ChangePassword", &[200, 401, 530]),
    ("CreateStore", &[200, 401, 511, 514]),
    ("AddBook", &[200, 401, 511, 513, 516, 530]),
    ("AddStock", &[200, 401, 511, 513, 515, 530]),
    ("CloseStore", &[200, 401, 511, 513, 530]),
    ("SetPrice", &[200, 401, 511, 513, 515, 530]),
    ("SetListed", &[200, 401, 511, 513, 515]),
    ("NewOrder", &[200, 401, 429, 511, 513, 515, 517, 530]),
    ("Pay", &[200, 400, 401, 511, 518, 519, 526, 527]),
    ("Ship", &[200, 401, 511, 513, 518, 520, 529]),
    ("Confirm", &[200, 401, 518, 520, 528]),
    ("Cancel", &[200, 401, 511, 518, 521]),
    ("ExtendReceipt", &[200, 401, 511, 518, 520, 528, 530]),
    ("Refund", &[200, 401, 511, 518, 519, 520, 521]),
    ("AddFunds", &[200, 401, 530]),
    ("Balance", &[200, 401]),
    ("StockLevel", &[200, 513, 515]),
    ("ReadBook", &[200, 513, 515]),
    ("OrderStatus", &[200, 401, 511, 518]),
    ("LookAtOrder", &[200, 401, 511, 518]),
    ("BuyerOrders", &[200, 401, 511, 530]),
    ("StoreOrders", &[200, 401, 511, 513, 522, 530]),
    ("AllStoreOrders", &[200, 401, 511, 522, 530]),
    ("OrderCount", &[200]),
    ("CancelExpired", &[200]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_does_what_the_model_does() {
    let seed = setting("BOOKSTORE_MODEL_SEED", 20_240_601);
    let commands = setting("BOOKSTORE_MODEL_COMMANDS", COMMANDS);
    let mut left = commands;
    let mut running = tokio::task::JoinSet::new();
    let mut seen: BTreeMap<(String, u16), u64> = BTreeMap::new();
    let (mut restarts, mut left_memory) = (0, 0);
    let mut next = seed;
    while left > 0 || !running.is_empty() {
        if left > 0 && running.len() < EPISODES_AT_ONCE {
            let (seed, part) = (next, left.min(EPISODE_COMMANDS));
            running.spawn(async move { Episode::new(seed).await.run(part).await });
            (next, left) = (next + 1, left - part);
            continue;
        }
        if let Some(ended) = running.join_next().await {
            let episode = match ended {
                Ok(episode) => episode,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            restarts += episode.restarts;
            left_memory += episode.left;
            for (what, count) in episode.seen {
                *seen.entry(what).or_default() += count;
            }
        }
    }
    assert_eq!(seen.values().sum::<u64>(), commands);
    if commands >= COMMANDS {
        assert!(restarts > 20, "{restarts} restarts");
        assert!(left_memory > 1_000, "{left_memory} orders left memory");
        for (name, codes) in MUST_BE_SEEN {
            for code in *codes {
                let count = seen.get(&((*name).to_owned(), *code)).copied().unwrap_or(0);
                assert!(count >= 3, "{name} ended in {code} only {count} times: {seen:?}");
            }
        }
    }
}
