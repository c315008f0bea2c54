//! A round in which orders at rest leave memory, in steps. What it wants next is asked of the shards, the journal and the
//! store of orders by somebody else: the engine does it beside its traffic, a simulator step by step.
//!
//! 1. the shards name orders, with their sequence numbers;
//! 2. the journal is synced past those numbers (so that no row is ever ahead of the journal);
//! 3. the rows of those that are unchanged are written to `orders.redb`, durably;
//! 4. those that are still unchanged, and that no command holds, leave memory.
//!
//! A crash between any two steps loses nothing and doubles nothing: recovery takes the higher of an order's two rows
//! as its base, and its journaled events after that. Rows are never deleted, only overwritten by newer ones.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::domain::{Leaving, Order, OrderId, SHARDS};
use crate::journal::{Flush, Journal, JournalFailed, Lsn};
use crate::planted::{Fault, planted};

/// Rows that a shard shows before it turns to its other messages.
const SHOWN_AT_ONCE: usize = 256;

/// Lines of orders after which a commit is full, so that what is copied for it is bounded whatever the orders are.
const LINES_AT_ONCE: usize = 1 << 18;

/// Orders with their sequence numbers.
pub type Named = Vec<(OrderId, u32)>;

/// What a round wants next.
#[derive(Debug)]
pub enum RoundStep {
    /// What of this shard may leave, as [`OrderShard::leaving`](crate::domain::OrderShard::leaving) says:
    /// [`Round::named`].
    Name(usize, Leaving),
    /// The journal, synced past what was named: [`Round::sync`], and to go on when [`Round::is_synced`].
    Sync,
    /// The rows of these, as [`OrderShard::rows`](crate::domain::OrderShard::rows) gives them: [`Round::shown`].
    Show(usize, Named),
    /// These rows written to the store of orders, resting on nothing past the LSN: [`Round::written`].
    Write(Vec<(OrderId, Order)>, Lsn),
    /// Those that are written to leave, see [`OrderShard::leave`](crate::domain::OrderShard::leave): [`Round::left`].
    Leave(usize, Named, Arc<HashSet<OrderId>>),
    /// Nothing: it is through.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Name,
    Sync,
    Show,
    Write,
    Leave,
}

/// Where a round is.
#[derive(Debug)]
pub struct Round {
    leaving: Leaving,
    stage: Stage,
    /// By shard.
    named: Vec<Named>,
    /// Everything that happened to them is at or below it.
    head: Option<Lsn>,
    flush: Option<Flush>,
    /// Others are due as well.
    more: bool,
    /// The shard that shows next, and from which of its named orders on.
    next: (usize, usize),
    piece: Piece,
    written: Arc<HashSet<OrderId>>,
    left: u64,
}

/// What goes into one commit.
#[derive(Debug, Default)]
struct Piece {
    /// By shard.
    named: BTreeMap<usize, Named>,
    rows: Vec<(OrderId, Order)>,
    /// Of all its orders, each of which counts as one more.
    lines: usize,
}

impl Round {
    /// A round of the orders that `leaving` means, in each shard.
    pub fn new(leaving: Leaving) -> Self {
        Round {
            leaving,
            stage: Stage::Name,
            named: Vec::with_capacity(SHARDS),
            head: None,
            flush: None,
            more: false,
            next: (0, 0),
            piece: Piece::default(),
            written: Arc::default(),
            left: 0,
        }
    }

    /// What is wanted next. Each step but `Sync` is given once.
    pub fn step(&mut self) -> RoundStep {
        loop {
            match self.stage {
                Stage::Name => return RoundStep::Name(self.named.len(), self.leaving),
                Stage::Sync if self.named.iter().all(Vec::is_empty) => return RoundStep::Nothing,
                Stage::Sync => return RoundStep::Sync,
                Stage::Show => match self.named.get(self.next.0) {
                    Some(named) if self.next.1 < named.len() => {
                        let from = self.next.1;
                        let some = named[from..named.len().min(from + SHOWN_AT_ONCE)].to_vec();
                        self.next.1 += some.len();
                        return RoundStep::Show(self.next.0, some);
                    }
                    Some(_) => self.next = (self.next.0 + 1, 0),
                    None if self.piece.named.is_empty() => return RoundStep::Nothing,
                    None => self.show_no_more(),
                },
                Stage::Write => return RoundStep::Write(std::mem::take(&mut self.piece.rows), self.head.unwrap_or(0)),
                Stage::Leave => match self.piece.named.pop_first() {
                    Some((shard, named)) => return RoundStep::Leave(shard, named, self.written.clone()),
                    None if planted(Fault::LeftBeforeCommitted) && !self.piece.rows.is_empty() => {
                        self.stage = Stage::Write;
                    }
                    None => {
                        self.piece = Piece::default();
                        self.stage = Stage::Show;
                    }
                },
            }
        }
    }

    /// What a shard has named, and whether it has more.
    pub fn named(&mut self, named: Named, more: bool) {
        self.named.push(named);
        self.more |= more;
        if self.named.len() == SHARDS {
            self.stage = Stage::Sync;
        }
    }

    /// Asks the journal to sync past what was named; gives its head when that was first asked.
    pub fn sync(&mut self, journal: &Journal) -> Lsn {
        let head = *self.head.get_or_insert_with(|| journal.head());
        self.flush.get_or_insert_with(|| journal.request_flush());
        head
    }

    /// Whether that came true; then the round goes on.
    ///
    /// # Errors
    /// [`JournalFailed`] if it never will.
    pub fn is_synced(&mut self, journal: &Journal) -> Result<bool, JournalFailed> {
        let synced = match &self.flush {
            Some(_) if planted(Fault::RowAheadOfJournal) => true,
            Some(flush) => journal.is_flushed(flush)?,
            None => false,
        };
        if synced {
            self.stage = Stage::Show;
        }
        Ok(synced)
    }

    /// The rows that a shard has shown of those that it was asked for.
    pub fn shown(&mut self, shard: usize, asked: &[(OrderId, u32)], rows: Vec<(OrderId, Order)>) {
        self.piece.named.entry(shard).or_default().extend_from_slice(asked);
        self.piece.lines += rows.iter().map(|(_, order)| 1 + order.lines.len()).sum::<usize>();
        self.piece.rows.extend(rows);
        if self.piece.lines >= LINES_AT_ONCE {
            self.show_no_more();
        }
    }

    fn show_no_more(&mut self) {
        self.stage = Stage::Write;
        if planted(Fault::LeftBeforeCommitted) {
            self.written = Arc::new(self.piece.rows.iter().map(|(id, _)| *id).collect());
            self.stage = Stage::Leave;
        }
    }

    /// The orders whose rows are on disk now; none if they could not be written.
    pub fn written(&mut self, written: HashSet<OrderId>) {
        self.written = Arc::new(written);
        self.stage = Stage::Leave;
    }

    /// How many left a shard.
    pub fn left(&mut self, left: usize) {
        self.left += left as u64;
    }

    /// How many left in all.
    pub fn left_so_far(&self) -> u64 {
        self.left
    }

    /// Whether there is more to do at once. Where none could leave, the next round would not help.
    pub fn has_more(&self) -> bool {
        self.more && self.left > 0
    }
}
