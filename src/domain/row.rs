//! How an entity is kept: as its row, and as its events.

use super::account::fingerprint;
use super::codec::{CodecError, decode_row, encode, encode_row};
use super::effect::Entity;
use super::event::{By, Credit, CreditCause, Hold, PayKind, Refund};
use super::ids::{AccountNo, Fen, StoreNo};
use super::key::{Kept, Key};
use super::pack::{Reader, put_bytes, put_key, put_number, put_order, put_signed};
use super::{Account, OrderShard, Store};

/// An entity that is kept as bytes.
pub trait Persistent: Entity {
    /// The entity before its first event.
    fn fresh(number: u32) -> Self;
    /// From its dormant row.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are no row of ours.
    fn decode(row: &[u8]) -> Result<Self, CodecError>;
    /// To its dormant row.
    fn encode(&self) -> Box<[u8]>;
    /// Writes the event that is next for this entity; returns the frame's kind.
    fn encode_event(&self, event: &Self::Event, at: u64, out: &mut Vec<u8>) -> u8;
}

impl Persistent for Account {
    fn fresh(number: u32) -> Self {
        Account::new(AccountNo(number))
    }

    fn decode(row: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(row);
        let account = unpack(&mut from)?;
        from.end()?;
        Ok(account)
    }

    fn encode(&self) -> Box<[u8]> {
        let mut row = Vec::with_capacity(ROW_BYTES);
        pack(self, &mut row);
        row.into()
    }

    fn encode_event(&self, event: &Self::Event, at: u64, out: &mut Vec<u8>) -> u8 {
        encode(event, self.number, self.seq + 1, at, out)
    }
}

impl Persistent for Store {
    fn fresh(number: u32) -> Self {
        Store::new(StoreNo(number))
    }

    fn decode(row: &[u8]) -> Result<Self, CodecError> {
        let mut store: Store = decode_row(row)?;
        store.index();
        Ok(store)
    }

    fn encode(&self) -> Box<[u8]> {
        encode_row(self).into()
    }

    fn encode_event(&self, event: &Self::Event, at: u64, out: &mut Vec<u8>) -> u8 {
        encode(event, self.number, self.seq + 1, at, out)
    }
}

/// A shard has no row of its own, its orders have.
impl Persistent for OrderShard {
    fn fresh(_number: u32) -> Self {
        OrderShard::default()
    }

    fn decode(_row: &[u8]) -> Result<Self, CodecError> {
        Ok(OrderShard::default())
    }

    fn encode(&self) -> Box<[u8]> {
        Box::default()
    }

    fn encode_event(&self, (id, event): &Self::Event, at: u64, out: &mut Vec<u8>) -> u8 {
        let seq = self.orders.get(id).map_or(0, |order| u64::from(order.seq));
        encode(event, *id, seq + 1, at, out)
    }
}

/// What recovery asks of every account's row, most of which stay asleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// Whose row it is.
    pub number: AccountNo,
    /// It is a tombstone.
    pub closed: bool,
    /// A saga left something there that was not dropped yet.
    pub has_evidence: bool,
    /// In fen.
    pub net_put_in: Fen,
}

impl Glance {
    /// Looks at the beginning of a row, and makes no account of it.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are no row of ours, as far as that shows there.
    pub fn at(row: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(row);
        let flags = from.flags(has::ALL)?;
        let (number, _seq, _secret, _balance) = (from.account()?, from.number()?, from.bytes()?, from.signed()?);
        let net_put_in = from.signed()?;
        let (closed, has_evidence) = (flags & has::CLOSED != 0, flags & has::EVIDENCE != 0);
        Ok(Glance { number, closed, has_evidence, net_put_in })
    }
}

/// Most accounts have nothing but a password and a balance, and fit.
const ROW_BYTES: usize = 64;

/// The first byte of an account's row.
mod has {
    pub(super) const CLOSED: u8 = 1;
    /// The epoch is not the fingerprint of the password's hash, and is written down.
    pub(super) const EPOCH: u8 = 2;
    pub(super) const STORES: u8 = 4;
    pub(super) const REVOKED: u8 = 8;
    pub(super) const EVIDENCE: u8 = 16;
    pub(super) const KEYS: u8 = 32;
    pub(super) const ALL: u8 = CLOSED | EPOCH | STORES | REVOKED | EVIDENCE | KEYS;
}

/// An account's row: there is one for every user, asleep or in a snapshot, so what it does not have takes no room.
fn pack(account: &Account, out: &mut Vec<u8>) {
    let has_epoch = account.epoch != fingerprint(&account.secret);
    let has_stores = !account.stores.is_empty() || !account.closed_stores.is_empty();
    let flags = [
        (account.closed, has::CLOSED),
        (has_epoch, has::EPOCH),
        (has_stores, has::STORES),
        (!account.revoked.is_empty(), has::REVOKED),
        (account.has_evidence(), has::EVIDENCE),
        (!account.keys.is_empty(), has::KEYS),
    ];
    out.push(flags.into_iter().filter(|(is, _)| *is).fold(0, |flags, (_, flag)| flags | flag));
    put_number(out, u64::from(account.number.0));
    put_number(out, account.seq);
    put_bytes(out, &account.secret.0);
    put_signed(out, account.balance);
    put_signed(out, account.net_put_in);
    if has_epoch {
        out.extend_from_slice(&account.epoch.to_be_bytes());
    }
    if has_stores {
        for stores in [&account.stores, &account.closed_stores] {
            put_number(out, stores.len() as u64);
            stores.iter().for_each(|store| put_number(out, u64::from(store.0)));
        }
    }
    if !account.revoked.is_empty() {
        put_number(out, account.revoked.len() as u64);
        for (token, until) in &account.revoked {
            out.extend_from_slice(&token.to_be_bytes());
            put_number(out, *until);
        }
    }
    if account.has_evidence() {
        pack_evidence(account, out);
    }
    if !account.keys.is_empty() {
        put_number(out, account.keys.len() as u64);
        for kept in &account.keys {
            put_key(out, Some(&kept.key));
            put_number(out, kept.at);
        }
    }
}

fn pack_evidence(account: &Account, out: &mut Vec<u8>) {
    let key = |out: &mut Vec<u8>, key: &Option<Key>| {
        out.push(u8::from(key.is_some()));
        put_key(out, key.as_ref());
    };
    put_number(out, account.openings.len() as u64);
    for (store, id) in &account.openings {
        put_number(out, u64::from(store.0));
        put_bytes(out, id.as_bytes());
    }
    put_number(out, account.holds.len() as u64);
    for (order, hold) in &account.holds {
        put_order(out, *order);
        out.push(hold.kind.into());
        put_number(out, u64::from(hold.seller.0));
        put_number(out, hold.amount as u64);
        key(out, &hold.key);
    }
    put_number(out, account.credits.len() as u64);
    for ((order, _), credit) in &account.credits {
        put_order(out, *order);
        out.extend_from_slice(&[credit.cause.into(), credit.by.into()]);
        put_number(out, credit.amount as u64);
        key(out, &credit.key);
    }
    put_number(out, account.refunds.len() as u64);
    for (order, refund) in &account.refunds {
        put_order(out, *order);
        put_number(out, u64::from(refund.buyer.0));
        put_number(out, refund.amount as u64);
        key(out, &refund.key);
    }
}

fn unpack(from: &mut Reader<'_>) -> Result<Account, CodecError> {
    let flags = from.flags(has::ALL)?;
    let has = |flag| flags & flag != 0;
    let mut account = Account::new(from.account()?);
    account.closed = has(has::CLOSED);
    account.seq = from.number()?;
    account.secret = from.blob()?;
    account.balance = from.signed()?;
    account.net_put_in = from.signed()?;
    account.epoch = match has(has::EPOCH) {
        true => u32::from_be_bytes(from.array()?),
        false => fingerprint(&account.secret),
    };
    if has(has::STORES) {
        account.stores = from.several(Reader::store)?;
        account.closed_stores = from.several(Reader::store)?;
    }
    if has(has::REVOKED) {
        account.revoked = from.several(|from| Ok((u64::from_be_bytes(from.array()?), from.number()?)))?;
    }
    if has(has::EVIDENCE) {
        unpack_evidence(&mut account, from)?;
    }
    if has(has::KEYS) {
        account.keys = from.several(|from| Ok(Kept { key: Key::from_bytes(from.array()?), at: from.number()? }))?;
    }
    Ok(account)
}

fn unpack_evidence(account: &mut Account, from: &mut Reader<'_>) -> Result<(), CodecError> {
    fn key(from: &mut Reader<'_>) -> Result<Option<Key>, CodecError> {
        let is_there = from.flags(1)? != 0;
        from.key(is_there)
    }
    fn byte<T: TryFrom<u8, Error = &'static str>>(from: &mut Reader<'_>) -> Result<T, CodecError> {
        let [byte] = from.array()?;
        T::try_from(byte).map_err(CodecError::Packed)
    }
    account.openings = from.several(|from| Ok((from.store()?, from.text()?.into())))?.into_iter().collect();
    let holds = from.several(|from| {
        let (order, kind) = (from.order()?, byte::<PayKind>(from)?);
        Ok((order, Hold { kind, seller: from.account()?, amount: from.count()?, key: key(from)? }))
    })?;
    account.holds = holds.into_iter().collect();
    let credits = from.several(|from| {
        let (order, cause, by) = (from.order()?, byte::<CreditCause>(from)?, byte::<By>(from)?);
        Ok(((order, cause), Credit { cause, amount: from.count()?, by, key: key(from)? }))
    })?;
    account.credits = credits.into_iter().collect();
    let refunds = from.several(|from| {
        let order = from.order()?;
        Ok((order, Refund { buyer: from.account()?, amount: from.count()?, key: key(from)? }))
    })?;
    account.refunds = refunds.into_iter().collect();
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::event::Blob;
    use crate::domain::ids::OrderId;
    use crate::domain::key::Operation;

    fn order(random: u64) -> OrderId {
        OrderId::new(1_700_000_000_000, AccountNo(7), random)
    }

    /// An account that has everything that an account can have.
    pub(in crate::domain) fn full() -> Account {
        let key = Key::new(Operation::Payment, "k", []);
        let mut account = Account::new(AccountNo(300));
        account.seq = 9;
        account.secret = Blob([5; 49].into());
        account.epoch = 77;
        account.balance = 150_000;
        account.net_put_in = -1;
        account.stores = vec![StoreNo(4), StoreNo(1_000)];
        account.closed_stores = vec![StoreNo(4)];
        account.revoked = vec![(u64::MAX, 1_700_000_000_000), (3, 0)];
        account.openings.insert(StoreNo(9), "书店".into());
        let hold = |kind, key| Hold { kind, seller: AccountNo(1), amount: 80, key };
        account.holds.insert(order(1), hold(PayKind::Direct, Some(key)));
        account.holds.insert(order(2), hold(PayKind::Platform, None));
        for cause in [CreditCause::Payment, CreditCause::Refund(PayKind::Platform)] {
            account.credits.insert((order(1), cause), Credit { cause, amount: 8, by: By::Deadline, key: Some(key) });
        }
        account.refunds.insert(order(3), Refund { buyer: AccountNo(2), amount: 5, key: Some(key) });
        account.keys = vec![Kept { key, at: 1_700_000_000_000 }];
        account
    }

    #[test]
    fn an_account_comes_back_from_its_row() {
        let mut plain = Account::new(AccountNo(1_000_000));
        plain.seq = 2;
        plain.secret = Blob([5; 49].into());
        plain.epoch = fingerprint(&plain.secret);
        let mut closed = plain.clone();
        closed.closed = true;
        closed.secret = Blob::default();
        let parts: [fn(&mut Account, &Account); 5] = [
            |account, full| account.closed_stores.clone_from(&full.closed_stores),
            |account, full| account.revoked.clone_from(&full.revoked),
            |account, full| account.openings.clone_from(&full.openings),
            |account, full| account.refunds.clone_from(&full.refunds),
            |account, full| account.keys.clone_from(&full.keys),
        ];
        let with = parts.map(|part| {
            let mut account = plain.clone();
            part(&mut account, &full());
            account
        });
        for account in [Account::new(AccountNo(1)), plain, closed, full()].into_iter().chain(with) {
            let row = account.encode();
            assert_eq!(Account::decode(&row).unwrap(), account);
            let (number, closed, net_put_in) = (account.number, account.closed, account.net_put_in);
            let glance = Glance { number, closed, has_evidence: account.has_evidence(), net_put_in };
            assert_eq!(Glance::at(&row).unwrap(), glance);
            assert!((0..row.len()).all(|cut| Account::decode(&row[..cut]).is_err()), "{account:?}");
            let mut longer = row.to_vec();
            longer.push(0);
            assert!(Account::decode(&longer).is_err());
        }
    }

    #[test]
    fn the_row_of_who_has_only_a_password_and_a_balance_is_small() {
        let mut account = Account::new(AccountNo(1_000_000));
        (account.seq, account.balance, account.net_put_in) = (100, 1_000_000, 1_000_000);
        account.secret = Blob([5; 49].into());
        account.epoch = fingerprint(&account.secret);
        assert_eq!(account.encode().len(), 61);
    }
}
