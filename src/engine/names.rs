//! Ids → numbers: indexes, rebuilt from the rows.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dashmap::DashMap;
use hashbrown::HashTable;
use tokio::sync::Notify;

use crate::domain::{AccountNo, StoreNo};
use crate::sync::Mutex;

/// Shards of a map. The default is four a core; two cores would make everybody wait for eight locks.
const MAP_SHARDS: usize = 1_024;

/// Who is called what. A guard of these maps is never held across an await, nor is a map touched under its own guard.
pub(super) struct Names {
    accounts: Accounts,
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

/// Which id was given to a number.
pub(super) trait Given {
    /// The id; empty for a number that was not given.
    fn id(&self, number: u32) -> &str;

    /// Whether it is this one.
    fn is(&self, number: u32, id: &str) -> bool {
        self.id(number) == id
    }
}

/// Numbers by the hash of their id. The id itself stands beside the account and is not kept a second time: there may be
/// millions.
struct Accounts {
    hasher: RandomState,
    shards: Box<[RwLock<HashTable<u32>>]>,
}

impl Accounts {
    fn new() -> Self {
        Accounts { hasher: RandomState::new(), shards: (0..MAP_SHARDS).map(|_| RwLock::default()).collect() }
    }

    fn hash(&self, id: &str) -> u64 {
        self.hasher.hash_one(id)
    }

    /// The table itself looks at the highest and the lowest bits.
    fn shard(&self, hash: u64) -> &RwLock<HashTable<u32>> {
        &self.shards[(hash >> 32) as usize % MAP_SHARDS]
    }

    fn read(&self, hash: u64) -> RwLockReadGuard<'_, HashTable<u32>> {
        self.shard(hash).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, hash: u64) -> RwLockWriteGuard<'_, HashTable<u32>> {
        self.shard(hash).write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store id that nobody else may take until this is dropped.
pub(super) struct Claim {
    names: Arc<Names>,
    store_id: Arc<str>,
}

impl Names {
    pub(super) fn new() -> Self {
        Names { accounts: Accounts::new(), stores: DashMap::with_shard_amount(MAP_SHARDS), opening: Mutex::default() }
    }

    /// The account that a user id names now.
    pub(super) fn account(&self, user_id: &str, given: &impl Given) -> Option<AccountNo> {
        let hash = self.accounts.hash(user_id);
        let shard = self.accounts.read(hash);
        shard.find(hash, |number| given.is(*number, user_id)).map(|number| AccountNo(*number))
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
    /// in the journal. The number is `given` the id in there. `None` if it is taken.
    pub(super) fn claim_account(
        &self,
        user_id: &str,
        given: &impl Given,
        create: impl FnOnce() -> AccountNo,
    ) -> Option<AccountNo> {
        let hash = self.accounts.hash(user_id);
        let mut shard = self.accounts.write(hash);
        if shard.find(hash, |number| given.is(*number, user_id)).is_some() {
            return None;
        }
        let number = create();
        shard.insert_unique(hash, number.0, |number| self.accounts.hash(given.id(*number)));
        Some(number)
    }

    /// Takes in an account of the snapshot or journal, which is `given` its id already.
    pub(super) fn insert_account(&self, user_id: &str, account: AccountNo, given: &impl Given) {
        let hash = self.accounts.hash(user_id);
        let mut shard = self.accounts.write(hash);
        match shard.find_mut(hash, |number| given.is(*number, user_id)) {
            Some(number) => *number = account.0,
            None => drop(shard.insert_unique(hash, account.0, |number| self.accounts.hash(given.id(*number)))),
        }
    }

    /// Frees the id of an account that was closed.
    pub(super) fn remove_account(&self, user_id: &str, account: AccountNo) {
        let hash = self.accounts.hash(user_id);
        if let Ok(found) = self.accounts.write(hash).find_entry(hash, |number| *number == account.0) {
            found.remove();
        }
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
