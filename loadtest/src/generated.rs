//! `loadtest generated`: a big shop that was not registered call by call. The server's own `load --generate` builds the
//! data directory, the server is started on it, and people and stores that were made up do the trading.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tokio::process::Command;

use crate::Failure;
use crate::api::Api;
use crate::args::{Load, Pace, Scenario, parse_duration};
use crate::client::Target;
use crate::drive::drive;
use crate::market::Market;
use crate::report::write_json;
use crate::run::conclude;
use crate::scenario::{Book, Plan, Random, STOCK_AT_START, Store, User};
use crate::server::{Server, ServerArgs, TemporaryDirectory};

/// What `load --generate` gives everybody.
const PASSWORD: &str = "password";
/// What each buyer gets on top, in fen.
const FUNDS: i64 = 1_000_000_000_000;

/// Flags of `generated`.
#[derive(Args)]
pub(crate) struct GeneratedArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// What is made up: the words of `bookstore load --generate`.
    #[arg(long, default_value = "users=100000,stores=4,books=400,orders=100000")]
    generate: String,
    /// Where the data directory is made and removed: must be on the disk that is to be measured.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    temp_dir: PathBuf,
    /// What each connection does over and over.
    #[arg(long, value_enum, default_value = "paid")]
    scenario: Scenario,
    /// Connections that each send a request, wait for its answer, and send the next.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Time that is measured (`10s`, `500ms`, `2m`).
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    #[command(flatten)]
    load: Load,
    /// How long the server may take to start.
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    start_timeout: Duration,
    /// Write the result to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Builds, starts, loads, prints, audits. `false` if nothing was sold or the audit disagrees.
pub(crate) async fn run(args: &GeneratedArgs) -> Result<bool, Failure> {
    let shop = Shop::parse(&args.generate)?;
    if args.load.stores > shop.stores {
        return Err(format!("--stores {}, but only {} are made up", args.load.stores, shop.stores).into());
    }
    if args.load.buyers > shop.users.saturating_sub(shop.stores) {
        return Err("--generate must make up more users than --buyers, beside one for each store".into());
    }
    let directory = TemporaryDirectory::new(&args.temp_dir)?;
    let data = directory.path().join("data");
    let began = Instant::now();
    build(&args.server.program.path()?, &args.generate, &data).await?;
    let built = began.elapsed();
    let began = Instant::now();
    let server = Server::start_real(&args.server, &data, &[], args.start_timeout).await?;
    println!(
        "made up {} in {:.1} s, ready {:.1} s later",
        args.generate,
        built.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    let plan = Arc::new(plan(server.target.clone(), &args.load, shop).await?);
    let pace = Pace { connections: args.connections, duration: args.duration };
    let market = Market::open(&plan.target, args.load.seed).await;
    let measured = drive(&plan, &args.load, pace, args.scenario, Some(server.pid)).await?;
    let mut report = conclude(&plan, pace, args.scenario, &measured, true).await?;
    if let Some(audit) = &mut report.audit {
        market.close(audit).await;
    }
    print!("{report}");
    write_json(args.json.as_deref(), &report)?;
    server.stop().await?;
    Ok(report.sound())
}

async fn build(server: &Path, generate: &str, data: &Path) -> Result<(), Failure> {
    let mut command = Command::new(server);
    // A cheap hash: logging in is not what is measured.
    command.args(["load", "--generate", generate, "--argon2-memory-kib", "64", "--argon2-iterations", "1"]);
    let status = command.arg(data).stdin(Stdio::null()).stdout(Stdio::null()).status().await?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{} load --generate {generate} ended with {status}", server.display()).into()),
    }
}

/// How much was made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shop {
    users: u32,
    stores: u32,
}

impl Shop {
    fn parse(words: &str) -> Result<Self, Failure> {
        let number = |name: &str| {
            let of_name = |word: &str| word.trim().strip_prefix(name)?.strip_prefix('=')?.parse().ok();
            words.split(',').find_map(of_name).ok_or_else(|| format!("--generate needs {name}=N"))
        };
        Ok(Self { users: number("users")?, stores: number("stores")? })
    }
}

/// Takes the first stores, and buyers from among all users, and gives them enough of everything.
async fn plan(target: Target, load: &Load, shop: Shop) -> Result<Plan, Failure> {
    let mut api = Api::new(target.clone());
    let user = |number: u32| User::new(format!("user{number}"), PASSWORD.to_owned());
    let mut stores = Vec::new();
    for number in 0..load.stores {
        // Store K belongs to user K.
        let mut store = Store { id: format!("store{number}"), owner: user(number), books: Vec::new() };
        api.log_in(&mut store.owner).await?;
        store.owner.balance_fen = api.balance(&store.owner).await?;
        stock_up(&mut api, &mut store, load).await?;
        stores.push(store);
    }
    let mut buyers = Vec::new();
    for number in 0..load.buyers {
        // Evenly among those who own no store of ours, so that they come from everywhere in the data.
        let place = u64::from(shop.users - shop.stores) * u64::from(number) / u64::from(load.buyers);
        let mut buyer = user(shop.stores + u32::try_from(place)?);
        api.log_in(&mut buyer).await?;
        api.add_funds(&buyer, FUNDS).await?;
        buyer.balance_fen = api.balance(&buyer).await?;
        buyers.push(buyer);
    }
    Ok(Plan::new(target, load, stores, buyers, Random::new(load.seed)))
}

/// Learns the books of a store, and puts more copies on its shelves than any run sells.
async fn stock_up(api: &mut Api, store: &mut Store, load: &Load) -> Result<(), Failure> {
    for number in 0..load.books {
        let id = format!("book{number}");
        let found = api.call("/buyer/query_book", None, &json!({"store_id": store.id, "book_id": id})).await;
        let Ok(found) = found else { break };
        let price_fen = found["book_info"]["price"].as_i64().ok_or_else(|| format!("query_book answered {found}"))?;
        let body = json!({
            "user_id": store.owner.id, "store_id": store.id, "book_id": id, "add_stock_level": STOCK_AT_START,
        });
        api.call("/seller/add_stock_level", Some(&store.owner.token), &body).await?;
        let stock = api.stock(store, &id).await?;
        store.books.push(Book { id, price_fen, stock });
    }
    if store.books.len() < load.lines.max {
        return Err(format!(
            "{} has {} books; orders of {} lines need as many",
            store.id,
            store.books.len(),
            load.lines.max
        )
        .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_generate_tell_users_and_stores() {
        let shop = Shop::parse("users=1000,stores=4, books=10").unwrap();
        assert_eq!(shop, Shop { users: 1_000, stores: 4 });
        assert!(Shop::parse("users=1000").unwrap_err().to_string().contains("stores=N"));
        assert!(Shop::parse("users=x,stores=1").is_err());
    }
}
