//! What a repair would do, or did, and what it costs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::domain::{AccountEvent, AccountNo, OrderEvent, OrderId, Record, StoreEvent};
use crate::engine::AuditReport;
use crate::engine::offline::Finding;

/// One change of the data directory. Nothing is destroyed: what is taken out is kept beside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepairStep {
    /// Rows of `orders.redb` change. What they were is kept in a table of that file.
    OrdersAtRest {
        /// Rows of which one byte was damaged, and the checksum says which: they are put right.
        mended: Vec<OrderId>,
        /// Rows ahead of the journal's new end: they go back to what they were then.
        rewound: Vec<OrderId>,
        /// Rows that go. The order is in the snapshot or in the journal as well, or was placed after the new end, or
        /// its row is damaged, in which case it is among what is lost.
        removed: Vec<OrderId>,
    },
    /// An empty `orders.redb` is made: whatever was in it is in the journal, too.
    NewOrdersFile {
        /// An unreadable one lies there and is set aside.
        old: bool,
    },
    /// A file is set aside under a name that says so.
    SetAside {
        /// It.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// A journal segment is written from what is readable of one. If that is its own, the old bytes are kept aside.
    RewriteSegment {
        /// Where the events are read.
        from: PathBuf,
        /// The segment.
        to: PathBuf,
        /// Its first and its last event.
        events: (u64, u64),
    },
}

impl std::fmt::Display for RepairStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RepairStep::OrdersAtRest { mended, rewound, removed } => write!(
                f,
                "orders.redb: of the orders at rest {} are put right by their checksum, {} go back to what they were, {} \
                 are taken out; lists and counts are made anew",
                mended.len(),
                rewound.len(),
                removed.len()
            ),
            RepairStep::NewOrdersFile { old: true } => {
                f.write_str("orders.redb is set aside, and an empty one is made: all orders are in the journal")
            }
            RepairStep::NewOrdersFile { old: false } => {
                f.write_str("an empty orders.redb is made: all orders are in the snapshot and the journal")
            }
            RepairStep::SetAside { file, why } => write!(f, "{} is set aside: {why}", file.display()),
            RepairStep::RewriteSegment { from, to, events: (first, last) } if from == to => {
                write!(f, "{} is cut to events {first} to {last}; the old bytes are kept beside it", to.display())
            }
            RepairStep::RewriteSegment { from, to, events: (first, last) } => {
                write!(f, "{} is made of events {first} to {last} of {}", to.display(), from.display())
            }
        }
    }
}

/// What is not there any more after a repair.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Lost {
    /// The first and the last event that are lost; `None` if none is.
    pub events: Option<(u64, u64)>,
    /// How many of them can still be read, and say what is lost. They stand in the files that are set aside.
    pub readable: u64,
    /// Bytes of the journal that are cut.
    pub bytes: u64,
    /// Of the readable ones: how many of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Orders that they name.
    pub orders: BTreeSet<OrderId>,
    /// User ids that they name.
    pub accounts: BTreeSet<String>,
    /// Store ids that they name.
    pub stores: BTreeSet<String>,
    /// Orders at rest that are lost as a whole, because their rows are.
    pub rows: Vec<OrderId>,
    /// Orders at rest of which it is inferred, not known, where they stood at the new end.
    pub inferred: Vec<OrderId>,
}

impl Lost {
    /// Whether nothing is lost.
    pub fn is_nothing(&self) -> bool {
        self.events.is_none() && self.rows.is_empty()
    }

    /// Takes in what a readable event names. Numbers become names later.
    pub(super) fn add(&mut self, record: &Record, accounts: &mut BTreeMap<AccountNo, String>) {
        self.readable += 1;
        let kind = match record {
            Record::Account(number, _, _, event) => {
                let name = accounts.entry(*number).or_default();
                match event {
                    AccountEvent::Registered { user_id, .. } => {
                        *name = user_id.to_string();
                        "Registered"
                    }
                    AccountEvent::PasswordChanged { .. } => "PasswordChanged",
                    AccountEvent::TokenRevoked { .. } => "TokenRevoked",
                    AccountEvent::FundsAdded { .. } => "FundsAdded",
                    AccountEvent::StoreOpened { store_id, .. } => {
                        self.stores.insert(store_id.to_string());
                        "StoreOpened"
                    }
                    AccountEvent::Held { order, .. } => {
                        self.orders.insert(*order);
                        "Held"
                    }
                    AccountEvent::Credited { order, .. } => {
                        self.orders.insert(*order);
                        "Credited"
                    }
                    AccountEvent::Closed => "Closed",
                    AccountEvent::TakenBack { order, .. } => {
                        self.orders.insert(*order);
                        "TakenBack"
                    }
                }
            }
            Record::Store(.., event) => match event {
                StoreEvent::Created { store_id, .. } => {
                    self.stores.insert(store_id.to_string());
                    "Created"
                }
                StoreEvent::BookAdded { .. } => "BookAdded",
                StoreEvent::StockAdded { .. } => "StockAdded",
                StoreEvent::Reserved { order, .. } => {
                    self.orders.insert(*order);
                    "Reserved"
                }
                StoreEvent::Released { order, .. } => {
                    self.orders.insert(*order);
                    "Released"
                }
            },
            Record::Order(id, _, _, event) => {
                self.orders.insert(*id);
                match event {
                    OrderEvent::Placed(facts) => {
                        accounts.entry(facts.buyer).or_default();
                        "Placed"
                    }
                    OrderEvent::Paid { .. } => "Paid",
                    OrderEvent::Shipped { .. } => "Shipped",
                    OrderEvent::ReceiptExtended { .. } => "ReceiptExtended",
                    OrderEvent::Completed { .. } => "Completed",
                    OrderEvent::Canceled { .. } => "Canceled",
                }
            }
        };
        *self.kinds.entry(kind).or_default() += 1;
    }
}

/// What is wrong with a data directory, what a repair does about it, and what that costs.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// What is damaged.
    pub findings: Vec<Finding>,
    /// What is done about it, in this order; nothing, if there is nothing to do or nothing can be done.
    pub steps: Vec<RepairStep>,
    /// What is lost by it.
    pub lost: Lost,
    /// Why nothing can be done. Then there are no steps, and a backup has to be restored.
    pub refused: Option<String>,
    /// What stays damaged: no file here holds what is missing.
    pub stays: Vec<String>,
    /// The snapshot that the shop goes on from; `None` for the journal alone.
    pub snapshot: Option<PathBuf>,
    /// The newest event of the repaired shop.
    pub last_lsn: u64,
    /// Accounts, money and copies of the repaired shop, with no order canceled by its deadline.
    pub audit: Option<AuditReport>,
    /// Files that were set aside, after the repair was carried out.
    pub kept: Vec<PathBuf>,
}

impl RepairReport {
    /// Whether there is nothing to do.
    pub fn is_sound(&self) -> bool {
        self.steps.is_empty() && self.refused.is_none()
    }
}
