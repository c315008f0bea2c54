//! PostgreSQL as it comes, in a directory of its own, and pgbench, which calls its functions.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Signal, geteuid};
use serde::Serialize;
use tokio::process::Command;

use super::process::{Daemon, give, meter, search_path, unprivileged};
use super::shop::{self, Order, Shop};
use crate::Failure;
use crate::server::TemporaryDirectory;

/// The tables, which the axum server has as well.
const SCHEMA: &str = include_str!("../../axum-postgres/schema.sql");
const FUNCTIONS: &str = include_str!("functions.sql");
/// Settings beside the default ones; none of them touches durability. Room in memory, and no checkpoint within a run.
const SETTINGS: [&str; 4] = ["listen_addresses=", "shared_buffers=1GB", "max_wal_size=8GB", "max_connections=200"];
/// What pgbench sends: an order and its payment, two statements, two transactions. The orders lie in a table, because
/// pgbench has no more than 128 scripts and prepares each statement in each connection.
const SCRIPT: &str = "SELECT new_order(buyer, store, book_ids, counts) AS order_id FROM prepared_orders \
    WHERE number = :number \\gset\nSELECT payment(buyer, :order_id, password) FROM prepared_orders WHERE number = :number;\n";
/// Client counts that are tried; the best one is measured.
pub(super) const CLIENTS: [u32; 5] = [4, 8, 16, 32, 64];

/// Its programs.
#[derive(Clone)]
pub(super) struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Those in `named`; if that is not given, those of `PATH` or the newest where Debian puts them.
    pub(super) fn find(named: Option<&Path>) -> Option<Self> {
        let directories = match named {
            Some(directory) => vec![directory.to_owned()],
            None => search_path().into_iter().chain(debian()).collect(),
        };
        let all = |directory: &PathBuf| {
            ["initdb", "postgres", "pgbench", "psql"].iter().all(|name| directory.join(name).is_file())
        };
        let directory = directories.into_iter().find(all)?;
        Some(Self { directory })
    }

    /// One of them, with nothing of the caller's settings.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.directory.join(name));
        command.env_clear().env("LC_ALL", "C").current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

/// `/usr/lib/postgresql/15/bin` and the like, the newest first.
fn debian() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .collect();
    versions.sort_unstable();
    versions.into_iter().rev().map(|(_, path)| path).collect()
}

/// A database that runs. It listens on a socket in its own directory and nowhere else.
pub(super) struct Cluster {
    // Ended before its directory is removed.
    daemon: Daemon,
    programs: Programs,
    directory: TemporaryDirectory,
}

impl Cluster {
    /// A new one, empty.
    pub(super) async fn start(programs: &Programs, parent: &Path, timeout: Duration) -> Result<Self, Failure> {
        let directory = TemporaryDirectory::new(parent)?;
        let home = directory.path().canonicalize()?;
        // PostgreSQL does not run as root.
        let user = match geteuid().is_root() {
            false => None,
            true => Some(
                unprivileged(&fs::read_to_string("/etc/passwd")?)
                    .ok_or("PostgreSQL does not run as root: no other user")?,
            ),
        };
        if let Some(user) = user {
            give(&home, user)?;
        }
        let mut initdb = programs.command("initdb");
        initdb.args(["--auth=trust", "--username=postgres", "--locale=C", "--encoding=UTF8", "--pgdata"]);
        initdb.arg(home.join("data"));
        if let Some((user, group)) = user {
            initdb.uid(user).gid(group);
        }
        run(initdb, "initdb").await?;
        let mut postgres = programs.command("postgres").into_std();
        postgres.arg("-D").arg(home.join("data")).arg("-k").arg(&home);
        for setting in SETTINGS {
            postgres.args(["-c", setting]);
        }
        if let Some((user, group)) = user {
            use std::os::unix::process::CommandExt;
            postgres.uid(user).gid(group);
        }
        // An immediate shutdown: its directory goes anyway.
        let daemon = Daemon::start(&mut postgres, Signal::QUIT, home.join("log"))?;
        let mut cluster = Self { daemon, programs: programs.clone(), directory };
        let (programs, socket) = (programs.clone(), home);
        cluster
            .daemon
            .wait_until(timeout, || {
                let asked = psql(&programs, &socket, "-c", "SELECT 1");
                async { asked.await.is_ok() }
            })
            .await
            .map_err(|error| format!("PostgreSQL {error}"))?;
        Ok(cluster)
    }

    /// Its first process.
    pub(super) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Where it is, as libpq takes it.
    pub(super) fn address(&self) -> String {
        let path = self.directory.path().to_string_lossy().replace('\\', "\\\\").replace('\'', "\\'");
        format!("host='{path}' user=postgres dbname=postgres")
    }

    /// Makes the tables and functions, fills the shelves, and writes what pgbench sends.
    pub(super) async fn fill(&self, shop: &Shop) -> Result<(), Failure> {
        let directory = self.directory.path();
        let file = directory.join("fill.sql");
        fs::write(&file, [SCHEMA, FUNCTIONS, &people(shop), &orders(&shop.orders)].concat())?;
        psql(&self.programs, directory, "-f", file).await?;
        // By themselves: VACUUM is no part of a transaction.
        for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
            self.ask(statement).await?;
        }
        fs::write(directory.join("paid_order.sql"), script(shop.orders.len()))?;
        Ok(())
    }

    /// Asks and gives the answer's lines.
    async fn ask(&self, sql: &str) -> Result<String, Failure> {
        psql(&self.programs, self.directory.path(), "-c", sql).await
    }

    /// Pays orders with so many clients for so long.
    pub(super) async fn bench(&self, clients: u32, duration: Duration) -> Result<Bench, Failure> {
        let mut pgbench = self.programs.command("pgbench");
        let seconds = duration.as_secs_f64().ceil().max(1.0);
        // One thread: with two, which take more of the cores, it was slower.
        pgbench.args(["--no-vacuum", "--protocol=prepared", "--jobs=1", "--username=postgres", "--host"]);
        pgbench.arg(self.directory.path());
        pgbench.args([format!("--client={clients}"), format!("--time={seconds}")]);
        pgbench.arg("--file").arg(self.directory.path().join("paid_order.sql")).arg("postgres");
        // Not its very ends, where it connects and disconnects.
        let whole = Duration::from_secs_f64(seconds);
        let cores = meter(vec![self.pid()], whole.mul_f64(0.2), whole.mul_f64(0.9));
        let told = run(pgbench, "pgbench").await?;
        let mut bench = Bench::parse(&told).ok_or_else(|| format!("pgbench said: {told}"))?;
        bench.server_cores = cores.await.ok().flatten();
        Ok(bench)
    }

    /// Whether stock, orders and money agree with each other and with what pgbench says that it paid in all.
    pub(super) async fn audit(&self, shop: &Shop, paid: u64) -> Result<Vec<String>, Failure> {
        let stock = u64::from(shop.stores) * shop.prices_fen.len() as u64;
        let sql = format!(
            "SELECT 'orders that are paid', (SELECT count(*) FROM orders WHERE state = 'paid'), {paid};
             SELECT 'orders that are not', (SELECT count(*) FROM orders WHERE state <> 'paid'), 0;
             SELECT 'the sum of all balances', (SELECT sum(balance) FROM users), {buyers}::numeric * {funds};
             SELECT 'what sellers have', (SELECT sum(balance) FROM users WHERE id LIKE 'seller-%'), sum(total) FROM orders;
             SELECT 'copies sold', {stock}::numeric * {each} - (SELECT sum(level) FROM stock), sum(count) FROM order_lines;
             SELECT 'cost of the lines', sum(count * price), (SELECT sum(total) FROM orders) FROM order_lines;",
            buyers = shop.buyers,
            funds = shop::FUNDS_FEN,
            each = shop::STOCK,
        );
        let told = self.ask(&sql).await?;
        let wrong = told.lines().filter_map(|line| {
            let mut fields = line.split('|');
            let (what, is, must_be) = (fields.next()?, fields.next()?, fields.next()?);
            (is != must_be).then(|| format!("{what}: {is}, must be {must_be}"))
        });
        match told.lines().count() {
            6 => Ok(wrong.collect()),
            _ => Err(format!("the audit was answered with: {told}").into()),
        }
    }
}

async fn psql(programs: &Programs, socket: &Path, flag: &str, value: impl AsRef<OsStr>) -> Result<String, Failure> {
    let mut psql = programs.command("psql");
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"]).arg(socket);
    psql.arg(flag).arg(value);
    run(psql, "psql").await
}

/// Runs a command to its end and gives what it printed.
async fn run(mut command: Command, name: &str) -> Result<String, Failure> {
    let output = command.output().await.map_err(|error| format!("cannot start {name}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// The statements that make everybody and everything.
fn people(shop: &Shop) -> String {
    let mut sql = String::new();
    let (buyers, funds, stock) = (shop.buyers, shop::FUNDS_FEN, shop::STOCK);
    let numbers = |end: usize| format!("generate_series(0, {})", end - 1);
    let stores = numbers(shop.stores as usize);
    // A String takes everything that is written into it.
    let _ = write!(
        sql,
        "INSERT INTO users SELECT 'buyer-' || n, 'password of buyer ' || n, '', {funds} FROM {} n;
         INSERT INTO users SELECT 'seller-' || n, 'password of seller ' || n FROM {stores} n;
         INSERT INTO stores SELECT 'store-' || n, 'seller-' || n FROM {stores} n;",
        numbers(buyers as usize)
    );
    let prices: Vec<String> = shop.prices_fen.iter().map(u64::to_string).collect();
    let _ = write!(
        sql,
        "INSERT INTO stock SELECT 'store-' || n, 'book-' || (number - 1), price, {stock}
         FROM {stores} n, unnest('{{{}}}'::bigint[]) WITH ORDINALITY AS prices(price, number);",
        prices.join(",")
    );
    sql
}

/// The statement that lays the orders ready, and who pays them.
fn orders(orders: &[Order]) -> String {
    let list = |items: Vec<String>| items.join(",");
    let row = |(number, order): (usize, &Order)| {
        let books = list(order.lines.iter().map(|(book, _)| format!("book-{book}")).collect());
        let counts = list(order.lines.iter().map(|(_, count)| count.to_string()).collect());
        let (buyer, store, password) = (order.buyer, order.store, shop::password(order.buyer));
        format!("({number}, 'buyer-{buyer}', 'store-{store}', '{{{books}}}', '{{{counts}}}', '{password}')")
    };
    format!(
        "CREATE TABLE prepared_orders (number int PRIMARY KEY, buyer text, store text, book_ids text[], counts bigint[], \
         password text);\nINSERT INTO prepared_orders VALUES\n{};\n",
        orders.iter().enumerate().map(row).collect::<Vec<_>>().join(",\n")
    )
}

/// One of so many orders, each as likely as the next.
fn script(orders: usize) -> String {
    format!("\\set number random(0, {})\n{SCRIPT}", orders - 1)
}

/// What pgbench measured.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub(super) struct Bench {
    pub(super) clients: u32,
    /// Orders that were paid: each is two transactions of the database.
    pub(super) paid: u64,
    pub(super) paid_per_second: f64,
    /// Of an order with its payment.
    pub(super) average_ms: f64,
    /// CPU seconds of all of the server's processes a second.
    pub(super) server_cores: Option<f64>,
}

impl Bench {
    /// Reads what pgbench prints; `None` if it is not that, or a transaction failed.
    fn parse(text: &str) -> Option<Self> {
        let behind = |prefix: &str| {
            let rest = text.lines().rev().find_map(|line| line.strip_prefix(prefix))?;
            rest.split_ascii_whitespace().next()
        };
        // Versions before 15 do not count them: they end at the first.
        let failed = behind("number of failed transactions: ").unwrap_or("0");
        let bench = Self {
            clients: behind("number of clients: ")?.parse().ok()?,
            paid: behind("number of transactions actually processed: ")?.parse().ok()?,
            // In versions before 14 the last of two, without the time to connect.
            paid_per_second: behind("tps = ")?.parse().ok()?,
            average_ms: behind("latency average = ")?.parse().ok()?,
            server_cores: None,
        };
        (failed == "0" && bench.paid > 0).then_some(bench)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "pgbench (15.18 (Debian 15.18-0+deb12u1))\ntransaction type: multiple scripts\nscaling factor: 1\n\
        query mode: prepared\nnumber of clients: 8\nnumber of threads: 1\nmaximum number of tries: 1\nduration: 3 s\n\
        number of transactions actually processed: 9768\nnumber of failed transactions: 0 (0.000%)\n\
        latency average = 2.456 ms\ninitial connection time = 12.380 ms\n\
        tps = 3256.130386 (without initial connection time)\nSQL script 1: /tmp/0.sql\n - weight: 1 (targets 50.0% of total)\n\
        - 4884 transactions (50.0% of total, tps = 1628.0)\n - number of failed transactions: 0 (0.000%)\n\
         - latency average = 9.999 ms\n";

    #[test]
    fn what_pgbench_prints_is_read() {
        let bench =
            Bench { clients: 8, paid: 9_768, paid_per_second: 3_256.130_386, average_ms: 2.456, server_cores: None };
        assert_eq!(Bench::parse(TOLD), Some(bench.clone()));
        let old = TOLD
            .replace("number of failed transactions: 0 (0.000%)\n", "")
            .replace("tps = 3256", "tps = 3000.0 (including connections establishing)\ntps = 3256");
        assert_eq!(Bench::parse(&old), Some(bench));
        assert_eq!(Bench::parse(&TOLD.replace("failed transactions: 0", "failed transactions: 3")), None);
        assert_eq!(Bench::parse(&TOLD.replace("processed: 9768", "processed: 0")), None);
        assert_eq!(Bench::parse(""), None);
    }

    #[test]
    fn every_order_lies_ready_and_each_is_as_likely() {
        let order = |buyer| Order { buyer, store: 1, lines: vec![(7, 2), (40, 5)], total_fen: 1 };
        let sql = orders(&[order(3), order(9)]);
        assert!(
            sql.contains("\n(0, 'buyer-3', 'store-1', '{book-7,book-40}', '{2,5}', 'password of buyer 3'),\n"),
            "{sql}"
        );
        assert!(
            sql.ends_with("(1, 'buyer-9', 'store-1', '{book-7,book-40}', '{2,5}', 'password of buyer 9');\n"),
            "{sql}"
        );
        let script = script(1_024);
        assert!(script.starts_with("\\set number random(0, 1023)\nSELECT new_order("), "{script}");
        assert_eq!(script.lines().count(), 3, "{script}");
    }

    #[test]
    fn nothing_is_found_in_a_directory_without_it() {
        assert!(Programs::find(Some(Path::new("/nowhere"))).is_none());
    }
}
