//! A JSON line to a typed row. A field that is not known is wrong: a `balence` that is passed over would be money lost.

use std::borrow::Cow;
use std::io::Write;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ProgressLines, Stopped, WRONG_LINES_MAX};
use crate::PasswordHash;
use crate::cli::input::{Input, Next};
use crate::cli::signals::Asked;
use crate::domain::Refusal;
use crate::engine::offline::{LoadAccount, LoadError, LoadLine, LoadOrder, LoadPassword, LoadTimes, Loader};
use crate::engine::{By, NewBook, OrderStatus};
use crate::http::fields::{self, Raw};

/// Where new order ids are told, if anywhere.
pub(super) type OrderIds<'a> = &'a mut dyn Write;

/// A line that is wrong.
pub(super) struct Wrong {
    pub(super) line: u64,
    pub(super) why: String,
}

/// Why a line was not taken.
enum NotTaken {
    Wrong(String),
    /// Not this line's fault: there is no going on.
    Failed(Stopped),
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        NotTaken::Wrong(match refusal {
            Refusal::Invalid { field, why } => format!("{field}: {why}"),
            other => other.to_string(),
        })
    }
}

impl From<LoadError> for NotTaken {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Row { .. } => NotTaken::Wrong(error.to_string()),
            error => NotTaken::Failed(Stopped::Failed(error)),
        }
    }
}

fn wrong<T>(field: &str, why: &str) -> Result<T, NotTaken> {
    Err(NotTaken::Wrong(format!("{field}: {why}")))
}

/// Takes all lines. If some are wrong the rest is judged all the same, so that they are told together.
pub(super) fn load(
    mut input: Input,
    loader: &mut Loader,
    mut ids: Option<OrderIds<'_>>,
    progress: &mut ProgressLines,
    asked: &Asked,
) -> Result<(), Stopped> {
    let mut all_wrong = Vec::new();
    loop {
        if asked.by().is_some() {
            return Err(Stopped::Failed(LoadError::CutShort));
        }
        let part = match input.next().map_err(Stopped::Input)? {
            Next::Part(part) => part,
            Next::Nothing => continue,
            Next::End => break,
        };
        let total = part.last().and_then(|(number, _)| input.lines(*number));
        for (number, line) in part {
            match take(&line, loader, &mut ids) {
                Ok(()) => {}
                Err(NotTaken::Failed(stopped)) => return Err(stopped),
                Err(NotTaken::Wrong(why)) => {
                    all_wrong.push(Wrong { line: number, why });
                    if all_wrong.len() >= WRONG_LINES_MAX {
                        return Err(Stopped::Wrong(all_wrong));
                    }
                }
            }
            if number.is_multiple_of(64) {
                progress.at("lines", number, total);
                if asked.by().is_some() {
                    return Err(Stopped::Failed(LoadError::CutShort));
                }
            }
        }
    }
    if all_wrong.is_empty() { Ok(()) } else { Err(Stopped::Wrong(all_wrong)) }
}

/// Every field of every type.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    user_id: Raw<'a>,
    #[serde(borrow)]
    password: Raw<'a>,
    #[serde(borrow)]
    password_hash: Raw<'a>,
    #[serde(borrow)]
    balance: Raw<'a>,
    #[serde(borrow)]
    store_id: Raw<'a>,
    #[serde(borrow)]
    book_info: Raw<'a>,
    #[serde(borrow)]
    stock_level: Raw<'a>,
    #[serde(borrow)]
    closed: Raw<'a>,
    #[serde(borrow)]
    price: Raw<'a>,
    #[serde(borrow)]
    listed: Raw<'a>,
    #[serde(borrow)]
    order_id: Raw<'a>,
    #[serde(borrow)]
    status: Raw<'a>,
    #[serde(borrow)]
    paid_to: Raw<'a>,
    #[serde(borrow)]
    is_shipped: Raw<'a>,
    #[serde(borrow)]
    created_time: Raw<'a>,
    #[serde(borrow)]
    deadline: Raw<'a>,
    #[serde(borrow)]
    paid_time: Raw<'a>,
    #[serde(borrow)]
    shipped_time: Raw<'a>,
    #[serde(borrow)]
    confirmed_time: Raw<'a>,
    #[serde(borrow)]
    canceled_time: Raw<'a>,
    #[serde(borrow)]
    canceled_by: Raw<'a>,
    #[serde(borrow)]
    confirm_deadline: Raw<'a>,
    #[serde(borrow)]
    total_price: Raw<'a>,
    #[serde(borrow)]
    books: Raw<'a>,
}

/// A line of an order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderLine<'a> {
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    count: Raw<'a>,
    #[serde(borrow)]
    price: Raw<'a>,
}

impl<'a> Line<'a> {
    /// Refuses a field of another type.
    fn only(&self, kind: &str, allowed: &[&str]) -> Result<(), NotTaken> {
        let given = [
            ("user_id", self.user_id),
            ("password", self.password),
            ("password_hash", self.password_hash),
            ("balance", self.balance),
            ("store_id", self.store_id),
            ("book_info", self.book_info),
            ("stock_level", self.stock_level),
            ("closed", self.closed),
            ("price", self.price),
            ("listed", self.listed),
            ("order_id", self.order_id),
            ("status", self.status),
            ("paid_to", self.paid_to),
            ("is_shipped", self.is_shipped),
            ("created_time", self.created_time),
            ("deadline", self.deadline),
            ("paid_time", self.paid_time),
            ("shipped_time", self.shipped_time),
            ("confirmed_time", self.confirmed_time),
            ("canceled_time", self.canceled_time),
            ("canceled_by", self.canceled_by),
            ("confirm_deadline", self.confirm_deadline),
            ("total_price", self.total_price),
            ("books", self.books),
        ];
        match given.iter().find(|(name, raw)| raw.is_some() && !allowed.contains(name)) {
            Some((name, _)) => wrong(name, &format!("does not belong into a line of type `{kind}`")),
            None => Ok(()),
        }
    }
}

fn take(line: &[u8], loader: &mut Loader, ids: &mut Option<OrderIds<'_>>) -> Result<(), NotTaken> {
    let Ok(text) = std::str::from_utf8(line) else {
        return Err(NotTaken::Wrong("is not UTF-8".into()));
    };
    let text = text.trim();
    if text.is_empty() {
        return Ok(());
    }
    if !text.starts_with('{') {
        return Err(NotTaken::Wrong("is not a JSON object".into()));
    }
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| NotTaken::Wrong(not_json(&error)))?;
    let kind = fields::text(fields::required(line.kind, "type")?, "type")?;
    match &*kind {
        "account" => {
            line.only(&kind, &["user_id", "password", "password_hash", "balance"])?;
            account(&line, loader)
        }
        "store" => {
            line.only(&kind, &["user_id", "store_id", "closed"])?;
            let (store, owner) = (fields::id(line.store_id, "store_id")?, fields::id(line.user_id, "user_id")?);
            let closed = flag(line.closed, "closed")?.unwrap_or(false);
            loader.store(&store, &owner)?;
            if closed {
                loader.close_store(&store)?;
            }
            Ok(())
        }
        "book" => {
            line.only(&kind, &["store_id", "book_info", "stock_level", "price", "listed"])?;
            book(&line, loader)
        }
        "order" => {
            let allowed = [
                "order_id",
                "user_id",
                "store_id",
                "status",
                "paid_to",
                "is_shipped",
                "created_time",
                "deadline",
                "paid_time",
                "shipped_time",
                "confirmed_time",
                "canceled_time",
                "canceled_by",
                "confirm_deadline",
                "total_price",
                "books",
            ];
            line.only(&kind, &allowed)?;
            order(&line, loader, ids)
        }
        other => wrong("type", &format!("must be account, store, book or order, not {other:?}")),
    }
}

/// serde's words, without its list of all fields of all types.
fn not_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(", expected one of") {
        Some((what, _)) => what.to_owned(),
        None => text.replace(" at line 1 column", " at byte"),
    }
}

fn account(line: &Line<'_>, loader: &mut Loader) -> Result<(), NotTaken> {
    let user_id = fields::id(line.user_id, "user_id")?;
    let clear: Cow<'_, str>;
    let password = match (line.password, line.password_hash) {
        (Some(_), Some(_)) => return wrong("password", "stands beside password_hash; one of them is enough"),
        (None, None) => return wrong("password", "is missing, and so is password_hash"),
        (Some(_), None) => {
            clear = fields::password(line.password, "password")?;
            LoadPassword::Clear(&clear)
        }
        (None, Some(raw)) => {
            let text = fields::text(raw, "password_hash")?;
            match PasswordHash::from_phc(&text) {
                Ok(hash) => LoadPassword::Hash(hash),
                Err(error) => return wrong("password_hash", &error.to_string()),
            }
        }
    };
    let balance = fields::optional_amount(line.balance, "balance")?;
    Ok(loader.account(&LoadAccount { user_id: &user_id, password, balance })?)
}

fn book(line: &Line<'_>, loader: &mut Loader) -> Result<(), NotTaken> {
    let store_id = fields::id(line.store_id, "store_id")?;
    let book = fields::book(line.book_info)?;
    let stock_level = fields::optional_amount(line.stock_level, "stock_level")?;
    let price = line.price.map(|raw| fields::amount(raw, "price")).transpose()?;
    let is_listed = flag(line.listed, "listed")?.unwrap_or(true);
    let new = NewBook { id: &book.id, price: book.price, document: book.document };
    loader.book(&store_id, &new, stock_level)?;
    if let Some(price) = price {
        loader.set_price(&store_id, &book.id, price)?;
    }
    if !is_listed {
        loader.delist_book(&store_id, &book.id)?;
    }
    Ok(())
}

fn flag(raw: Raw<'_>, field: &str) -> Result<Option<bool>, NotTaken> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => wrong(field, "must be true or false"),
    }
}

fn order(line: &Line<'_>, loader: &mut Loader, ids: &mut Option<OrderIds<'_>>) -> Result<(), NotTaken> {
    let old = line.order_id.map(|raw| fields::text(raw, "order_id")).transpose()?;
    let user_id = fields::id(line.user_id, "user_id")?;
    let store_id = fields::id(line.store_id, "store_id")?;
    let status = status(line.status)?;
    let paid_to = line.paid_to.map(|raw| fields::text(raw, "paid_to")).transpose()?;
    let paid_to_platform = match paid_to.as_deref() {
        None | Some("seller") => false,
        Some("platform") => true,
        Some(_) => return wrong("paid_to", "must be `seller` or `platform`"),
    };
    let is_shipped = flag(line.is_shipped, "is_shipped")?;
    let created_ms = time(fields::required(line.created_time, "created_time")?, "created_time")?;
    let deadline_ms = line.deadline.map(|raw| time(raw, "deadline")).transpose()?;
    let lines = order_lines(line.books)?;
    let lines: Vec<LoadLine<'_>> =
        lines.iter().map(|(id, count, price)| LoadLine { book_id: id, count: *count, price: *price }).collect();
    if let Some(raw) = line.total_price {
        let said = fields::amount(raw, "total_price")?;
        let sum: i128 = lines.iter().map(|line| i128::from(line.count) * i128::from(line.price)).sum();
        if i128::from(said) != sum {
            return wrong("total_price", &format!("is {said}, but the lines come to {sum}"));
        }
    }
    let order = LoadOrder {
        order_id: old.as_deref(),
        user_id: &user_id,
        store_id: &store_id,
        status,
        paid_to_platform,
        is_shipped,
        created_ms,
        deadline_ms,
        times: times(line)?,
        lines: &lines,
    };
    let new = loader.order(&order)?;
    if let (Some(ids), Some(old)) = (ids, &old) {
        let told = serde_json::json!({"order_id": old, "new_order_id": new.to_string()});
        writeln!(ids, "{told}")
            .map_err(|error| NotTaken::Failed(Stopped::Input(format!("cannot write the order ids: {error}"))))?;
    }
    Ok(())
}

fn times(line: &Line<'_>) -> Result<LoadTimes, NotTaken> {
    let optional = |raw: Raw<'_>, field| raw.map(|raw| time(raw, field)).transpose();
    let canceled_by = match line.canceled_by.map(|raw| fields::text(raw, "canceled_by")).transpose()?.as_deref() {
        None => None,
        Some("buyer") => Some(By::Buyer),
        Some("deadline") => Some(By::Deadline),
        Some(_) => return wrong("canceled_by", "must be `buyer` or `deadline`"),
    };
    Ok(LoadTimes {
        paid_ms: optional(line.paid_time, "paid_time")?,
        shipped_ms: optional(line.shipped_time, "shipped_time")?,
        confirmed_ms: optional(line.confirmed_time, "confirmed_time")?,
        canceled_ms: optional(line.canceled_time, "canceled_time")?,
        canceled_by,
        confirm_deadline_ms: optional(line.confirm_deadline, "confirm_deadline")?,
    })
}

fn status(raw: Raw<'_>) -> Result<OrderStatus, NotTaken> {
    let text = fields::text(fields::required(raw, "status")?, "status")?;
    match OrderStatus::ALL.into_iter().find(|status| status.as_str() == text) {
        Some(status) => Ok(status),
        None => wrong("status", "must be pending, paid, shipped, received, completed or canceled"),
    }
}

/// RFC 3339 in UTC, or ms since the Unix epoch.
fn time(raw: &RawValue, field: &'static str) -> Result<u64, NotTaken> {
    if !raw.get().starts_with('"') {
        return Ok(fields::amount(raw, field)? as u64);
    }
    let text = fields::text(raw, field)?;
    let at = humantime::parse_rfc3339(&text).ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    match at.as_ref().map(Duration::as_millis).map(u64::try_from) {
        Some(Ok(ms)) => Ok(ms),
        _ => wrong(field, "must be a time in UTC as in 2026-01-31T12:00:00Z, or ms since 1970 as a number"),
    }
}

type OrderLines<'a> = Vec<(Cow<'a, str>, i64, i64)>;

fn order_lines<'a>(raw: Raw<'a>) -> Result<OrderLines<'a>, NotTaken> {
    let raw = fields::required(raw, "books")?;
    if !raw.get().starts_with('[') {
        return wrong("books", "must be a list");
    }
    let lines: Vec<OrderLine<'a>> = match serde_json::from_str(raw.get()) {
        Ok(lines) => lines,
        Err(_) => return wrong("books", "must be a list of objects {id, count, price}"),
    };
    lines
        .into_iter()
        .map(|line| {
            let id = fields::id(line.id, "id")?;
            let price = fields::amount(fields::required(line.price, "price")?, "price")?;
            Ok((id, fields::count(line.count)?, price))
        })
        .collect()
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
