//! `bookstore inspect`.

use std::borrow::Borrow;
use std::io::{BufWriter, ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::{Map, Value, json};

use super::exit::Exit;
use super::progress::{not_printed, say};
use crate::PasswordHash;
use crate::domain::{
    Account, AccountEvent, CreditCause, Kept, Key, Line, Order, OrderEvent, OrderId, PayKind, Record, Refund, Secret,
    Store, StoreEvent,
};
use crate::engine::offline::{InspectError, Inspected, Item, inspect};

/// Flags of `inspect`.
#[derive(Debug, Clone, Args)]
pub(super) struct InspectArgs {
    /// A journal segment (.seg) or a snapshot (.snap)
    file: PathBuf,
    /// Print password hashes, too: who has them can guess passwords at leisure
    #[arg(long)]
    secrets: bool,
    /// Say nothing about the end of the file
    #[arg(long, short)]
    quiet: bool,
}

/// Prints one JSON object a row.
pub(super) fn run(args: &InspectArgs) -> Result<(), Exit> {
    let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    let printer = Printer { secrets: args.secrets };
    let mut failed = None;
    let inspected = inspect(&args.file, &mut |item| {
        let line = printer.item(&item);
        match writeln!(out, "{line}") {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    if failed.is_none() {
        failed = out.flush().err();
    }
    let file = args.file.display();
    match failed {
        // `| head` has seen enough.
        Some(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        Some(error) => return Err(not_printed(&error)),
        None => {}
    }
    match inspected {
        Ok(Inspected::Segment { first_lsn, frames, end, cut_bytes }) => {
            if !args.quiet {
                say(&format_args!("{file}: a journal segment from event {first_lsn} on, {frames} events, whole"));
            }
            if cut_bytes > 0 {
                say(&format_args!(
                    "{file} at byte {end}: {cut_bytes} bytes of a batch that a crash tore, or that was damaged later; the next \
                     start cuts them"
                ));
            }
            Ok(())
        }
        Ok(Inspected::Snapshot { final_lsn, chunks }) => {
            if !args.quiet {
                say(&format_args!("{file}: a snapshot up to event {final_lsn}, {chunks} chunks, whole"));
            }
            Ok(())
        }
        Ok(Inspected::Stopped) => Ok(()),
        Err(InspectError::Unreadable(why)) => {
            Err(Exit::not_checked(format!("{why}; look at the name, the owner and the mode of the file")))
        }
        Err(error @ InspectError::OtherVersion(_)) => {
            Err(Exit::not_checked(format!("{file}: {error}; inspect it with that version")))
        }
        Err(error @ InspectError::Unknown) => Err(Exit::failure(format!(
            "{file}: {error}; take a .snap of the data directory, or a .seg of its journal/"
        ))),
        Err(error) => Err(Exit::failure(format!(
            "{error}; what is printed stands before it and is sound. `bookstore check` looks at the whole directory"
        ))),
    }
}

struct Printer {
    secrets: bool,
}

impl Printer {
    fn item(&self, item: &Item) -> Value {
        match item {
            Item::Header(header) => json!({
                "row": "header", "format": header.format, "version": header.version, "epoch": header.epoch,
                "taken": time(header.taken_ms),
            }),
            Item::Event { lsn, epoch, record } => self.event(*lsn, *epoch, record),
            Item::Account(name, account) => self.account(name, account),
            Item::Store(name, store) => store_row(name, store),
            Item::Order(id, order) => {
                let mut row = json!({"row": "order", "order_id": id.to_string()});
                extend(&mut row, order_fields(order));
                row
            }
        }
    }

    fn secret(&self, secret: &Secret) -> Value {
        match PasswordHash::from_stored(&secret.0) {
            _ if secret.0.is_empty() => Value::Null,
            Ok(hash) if self.secrets => json!(hash.to_phc()),
            Ok(_) => json!("redacted"),
            Err(_) => json!("unreadable"),
        }
    }

    fn account(&self, name: &str, account: &Account) -> Value {
        let holds: Vec<Value> = account
            .holds
            .iter()
            .map(|(order, hold)| {
                json!({
                    "order_id": order.to_string(), "paid_to": paid_to(hold.kind), "seller": hold.seller.0,
                    "amount": hold.amount, "key": hash(&hold.key),
                })
            })
            .collect();
        let credits: Vec<Value> = account
            .credits
            .iter()
            .map(|((order, _), credit)| {
                json!({"order_id": order.to_string(), "cause": cause(credit.cause), "amount": credit.amount})
            })
            .collect();
        let refunds: Vec<Value> = account.refunds.iter().map(|(order, refund)| refund_fields(order, refund)).collect();
        json!({
            "row": "account", "account": account.number.0, "seq": account.seq, "user_id": name,
            "closed": account.closed, "password_hash": self.secret(&account.secret), "password_epoch": account.epoch,
            "balance": account.balance, "net_put_in": account.net_put_in,
            "stores": account.stores.iter().map(|store| store.0).collect::<Vec<_>>(),
            "closed_stores": account.closed_stores.iter().map(|store| store.0).collect::<Vec<_>>(),
            "revoked_tokens": account.revoked.iter().map(|(token, until)| json!([token, time(*until)])).collect::<Vec<_>>(),
            "openings": account.openings.iter().map(|(store, id)| json!([store.0, id])).collect::<Vec<_>>(),
            "holds": holds, "credits": credits, "refunds": refunds, "keys": keys(&account.keys),
        })
    }

    fn event(&self, lsn: u64, epoch: u32, record: &Record) -> Value {
        let head = |entity: &str, key: Value, seq: u64, at: u64, event: &str| {
            json!({
                "lsn": lsn, "epoch": epoch, "entity": entity, entity_key(entity): key, "seq": seq, "time": time(at),
                "event": event,
            })
        };
        let (mut line, fields) = match record {
            Record::Account(number, seq, at, event) => {
                let (name, fields) = self.account_event(event);
                (head("account", json!(number.0), *seq, *at, name), fields)
            }
            Record::Store(number, seq, at, event) => {
                let (name, fields) = store_event(event);
                (head("store", json!(number.0), *seq, *at, name), fields)
            }
            Record::Order(id, seq, at, event) => {
                let (name, fields) = order_event(event);
                (head("order", json!(id.to_string()), *seq, *at, name), fields)
            }
        };
        extend(&mut line, fields);
        line
    }

    fn account_event(&self, event: &AccountEvent) -> (&'static str, Value) {
        match event {
            AccountEvent::Registered { user_id, secret } => {
                ("Registered", json!({"user_id": user_id, "password_hash": self.secret(secret)}))
            }
            AccountEvent::PasswordChanged { secret } => {
                ("PasswordChanged", json!({"password_hash": self.secret(secret)}))
            }
            AccountEvent::TokenRevoked { token, expires } => {
                ("TokenRevoked", json!({"token": token, "expires": time(*expires)}))
            }
            AccountEvent::FundsAdded { value, key } => ("FundsAdded", json!({"value": value, "key": hash(key)})),
            AccountEvent::StoreOpened { store, store_id } => {
                ("StoreOpened", json!({"store": store.0, "store_id": store_id}))
            }
            AccountEvent::Held { order, hold } => (
                "Held",
                json!({
                    "order_id": order.to_string(), "paid_to": paid_to(hold.kind), "seller": hold.seller.0,
                    "amount": hold.amount, "key": hash(&hold.key),
                }),
            ),
            AccountEvent::Credited { order, credit } => (
                "Credited",
                json!({
                    "order_id": order.to_string(), "cause": cause(credit.cause), "amount": credit.amount,
                    "by": credit.by.as_str(), "key": hash(&credit.key),
                }),
            ),
            AccountEvent::Closed => ("Closed", json!({})),
            AccountEvent::TakenBack { order, refund } => ("TakenBack", refund_fields(order, refund)),
            AccountEvent::StoreClosed { store } => ("StoreClosed", json!({"store": store.0})),
        }
    }
}

fn entity_key(entity: &str) -> &str {
    if entity == "order" { "order_id" } else { entity }
}

fn extend(line: &mut Value, fields: Value) {
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
        line.extend(fields);
    }
}

fn store_row(name: &str, store: &Store) -> Value {
    let books: Vec<Value> = store
        .books
        .iter()
        .map(|book| {
            json!({
                "id": &*book.id, "price": book.price, "stock": book.stock, "taken": book.taken,
                "document": book.document.to_string(), "listed": book.listed, "repriced": book.repriced,
            })
        })
        .collect();
    let reservations: Map<String, Value> = store
        .reservations
        .iter()
        .map(|(order, facts)| (order.to_string(), json!({"buyer": facts.buyer.0, "books": lines(&facts.lines)})))
        .collect();
    let releases: Map<String, Value> =
        store.releases.iter().map(|(order, release)| (order.to_string(), lines(&release.lines))).collect();
    json!({
        "row": "store", "store": store.number.0, "seq": store.seq, "store_id": name, "owner": store.owner.0,
        "books": books, "reservations": reservations, "releases": releases, "placed": store.placed,
        "closed": store.closed, "closure": store.closure,
    })
}

fn store_event(event: &StoreEvent) -> (&'static str, Value) {
    match event {
        StoreEvent::Created { store_id, owner } => ("Created", json!({"store_id": store_id, "owner": owner.0})),
        StoreEvent::BookAdded { id, price, stock, document } => {
            ("BookAdded", json!({"book_id": &**id, "price": price, "stock": stock, "document": document.to_string()}))
        }
        StoreEvent::StockAdded { book, delta } => ("StockAdded", json!({"book": book.0, "delta": delta})),
        StoreEvent::PriceSet { book, price } => ("PriceSet", json!({"book": book.0, "price": price})),
        StoreEvent::Delisted { book } => ("Delisted", json!({"book": book.0})),
        StoreEvent::Relisted { book } => ("Relisted", json!({"book": book.0})),
        StoreEvent::Closed => ("Closed", json!({})),
        StoreEvent::Reserved { order, facts } => (
            "Reserved",
            json!({
                "order_id": order.to_string(), "buyer": facts.buyer.0, "books": lines(&facts.lines),
                "total": facts.total, "deadline": time(facts.deadline), "key": hash(&facts.key),
            }),
        ),
        StoreEvent::Released { order, release } => (
            "Released",
            json!({
                "order_id": order.to_string(), "books": lines(&release.lines), "by": release.by.as_str(),
                "key": hash(&release.key),
            }),
        ),
    }
}

fn order_event(event: &OrderEvent) -> (&'static str, Value) {
    match event {
        OrderEvent::Placed(facts) => (
            "Placed",
            json!({
                "buyer": facts.buyer.0, "seller": facts.seller.0, "store": facts.store.0, "books": lines(&facts.lines),
                "total": facts.total, "created": time(facts.created), "deadline": time(facts.deadline),
                "key": hash(&facts.key),
            }),
        ),
        OrderEvent::Paid { kind, key } => ("Paid", json!({"paid_to": paid_to(*kind), "key": hash(key)})),
        OrderEvent::Shipped { confirm_by } => ("Shipped", json!({"confirm_by": confirm_by.map(time)})),
        OrderEvent::ReceiptExtended { confirm_by } => ("ReceiptExtended", json!({"confirm_by": time(*confirm_by)})),
        OrderEvent::Completed { by, key } => ("Completed", json!({"by": by.as_str(), "key": hash(key)})),
        OrderEvent::Canceled { by, key } => ("Canceled", json!({"by": by.as_str(), "key": hash(key)})),
    }
}

/// An idempotency key as it is stored: a hash.
fn hash(key: &Option<Key>) -> Option<String> {
    key.map(|key| key.to_string())
}

fn keys(keys: &[Kept]) -> Vec<Value> {
    keys.iter().map(|kept| json!({"key": kept.key.to_string(), "at": time(kept.at)})).collect()
}

fn order_fields(order: &Order) -> Value {
    let receipt = order.receipt.as_ref().map(|receipt| {
        let extended = receipt.extended.map(|(at, confirm_by)| json!({"at": time(at), "confirm_by": time(confirm_by)}));
        json!({"confirm_by": time(receipt.confirm_by), "extended": extended})
    });
    let ended = order.ended.map(|(at, by)| json!({"at": time(at), "by": by.as_str()}));
    json!({
        "seq": order.seq, "status": order.status.as_str(),
        "paid_to": order.payment.map(paid_to), "buyer": order.buyer.0, "seller": order.seller.0,
        "store": order.store.0, "books": lines(&order.lines), "total": order.total, "created": time(order.created),
        "deadline": time(order.deadline), "paid": order.paid.map(time), "shipped": order.shipped.map(time),
        "receipt": receipt, "ended": ended, "keys": keys(&order.keys),
    })
}

fn lines(lines: &[impl Borrow<Line>]) -> Value {
    lines
        .iter()
        .map(Borrow::borrow)
        .map(|line| json!({"book": line.book.0, "count": line.count, "price": line.price}))
        .collect()
}

fn paid_to(kind: PayKind) -> &'static str {
    match kind {
        PayKind::Direct => "seller",
        PayKind::Platform => "platform",
    }
}

fn refund_fields(order: &OrderId, refund: &Refund) -> Value {
    json!({
        "order_id": order.to_string(), "buyer": refund.buyer.0, "amount": refund.amount, "key": hash(&refund.key),
    })
}

fn cause(cause: CreditCause) -> &'static str {
    match cause {
        CreditCause::Payment => "payment",
        CreditCause::Confirmation => "confirmation",
        CreditCause::Refund(_) => "refund",
    }
}

/// RFC 3339; a time that it cannot say stays a number.
fn time(ms: u64) -> Value {
    const YEAR_10000_MS: u64 = 253_402_300_800_000;
    if ms >= YEAR_10000_MS {
        return json!(ms);
    }
    json!(humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).to_string())
}
