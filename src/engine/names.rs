//! Ids → numbers: indexes, rebuilt from the rows.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::Notify;

use crate::domain::{AccountNo, StoreNo};
use crate::sync::Mutex;

/// Shards of a map. The default is four a core; two cores would make everybody wait for eight locks.
const MAP_SHARDS: usize = 1_024;

/// Who is called what. A guard of these maps is never held across an await, nor is a map touched under its own guard.
pub(super) struct Names {
    accounts: DashMap<Arc<str>, AccountNo>,
    stores: DashMap<Arc<str>, Store>,
    /// Store ids that are being created; a second claimant waits for the first one's outcome.
    opening: Mutex<HashMap<Arc<str>, Arc<Notify>>>,
}

#[derive(Debug, Clone, Copy)]
struct Store {
    number: StoreNo,
    owner: AccountNo,
    closed: bool,
}

/// A store id that nobody else may take until this is dropped.
pub(super) struct Claim {
    names: Arc<Names>,
    store_id: Arc<str>,
}

impl Names {
    pub(super) fn new() -> Self {
        Names {
            accounts: DashMap::with_shard_amount(MAP_SHARDS),
            stores: DashMap::with_shard_amount(MAP_SHARDS),
            opening: Mutex::default(),
        }
    }

    /// The account that a user id names now.
    pub(super) fn account(&self, user_id: &str) -> Option<AccountNo> {
        self.accounts.get(user_id).map(|found| *found)
    }

    /// A store's number and owner, also if it is closed.
    pub(super) fn store(&self, store_id: &str) -> Option<(StoreNo, AccountNo)> {
        self.stores.get(store_id).map(|found| (found.number, found.owner))
    }

    /// A store's number and owner, unless it is closed.
    pub(super) fn open_store(&self, store_id: &str) -> Option<(StoreNo, AccountNo)> {
        self.stores.get(store_id).filter(|found| !found.closed).map(|found| (found.number, found.owner))
    }

    /// Claims a user id; `create` runs under the map's lock, so that whoever finds the id taken also finds its event
    /// in the journal. `None` if it is taken.
    pub(super) fn claim_account(&self, user_id: Arc<str>, create: impl FnOnce() -> AccountNo) -> Option<AccountNo> {
        match self.accounts.entry(user_id) {
            Entry::Occupied(_) => None,
            Entry::Vacant(vacant) => Some(*vacant.insert(create())),
        }
    }

    /// Takes in an account of the snapshot or journal.
    pub(super) fn insert_account(&self, user_id: Arc<str>, account: AccountNo) {
        self.accounts.insert(user_id, account);
    }

    /// Frees the id of an account that was closed.
    pub(super) fn remove_account(&self, user_id: &str, account: AccountNo) {
        self.accounts.remove_if(user_id, |_, number| *number == account);
    }

    /// Takes in a store.
    pub(super) fn insert_store(&self, store_id: Arc<str>, number: StoreNo, owner: AccountNo) {
        self.stores.insert(store_id, Store { number, owner, closed: false });
    }

    /// Notes that a store is closed. Its id stays taken.
    pub(super) fn close_store(&self, store_id: &str) {
        if let Some(mut store) = self.stores.get_mut(store_id) {
            store.closed = true;
        }
    }

    /// Claims a store id, waiting for an earlier claimant. `None` if it is taken.
    pub(super) async fn claim_store(self: &Arc<Self>, store_id: &Arc<str>) -> Option<Claim> {
        loop {
            let wait = {
                let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
                if self.stores.contains_key(store_id) {
                    return None;
                }
                match opening.get(store_id) {
                    Some(ended) => ended.clone().notified_owned(),
                    None => {
                        opening.insert(store_id.clone(), Arc::default());
                        return Some(Claim { names: self.clone(), store_id: store_id.clone() });
                    }
                }
            };
            wait.await;
        }
    }
}

impl Claim {
    /// The store exists.
    pub(super) fn keep(self, store: StoreNo, owner: AccountNo) {
        self.names.insert_store(self.store_id.clone(), store, owner);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut opening = self.names.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ended) = opening.remove(&self.store_id) {
            ended.notify_waiters();
        }
    }
}
