//! Which orders at rest are confirmed by themselves, and when: the only thing of them that is in memory, and this is where
//! a start finds it.

use redb::{ReadableTable, TableDefinition};

use super::ColdError;
use super::orders::{View, order_key};
use crate::domain::{Millis, Order, OrderId};

/// The time, big endian, and the order's id → nothing.
pub(super) const AWAITED: TableDefinition<'static, &[u8; 24], ()> = TableDefinition::new("awaited");

/// The entry of an order that waits for that.
pub(super) fn awaited_key(id: OrderId, order: &Order) -> Option<[u8; 24]> {
    let at = order.awaits()?;
    let mut key = [0; 24];
    key[..8].copy_from_slice(&at.to_be_bytes());
    key[8..].copy_from_slice(&order_key(id));
    Some(key)
}

impl View {
    /// Shows when each order here is confirmed by itself, the first one first.
    ///
    /// # Errors
    /// [`ColdError::Failed`]; [`ColdError::Damaged`] if redb does not get through its file.
    pub fn awaited(&self, visit: &mut dyn FnMut(Millis, OrderId)) -> Result<(), ColdError> {
        self.run(|transaction| {
            for entry in transaction.open_table(AWAITED)?.iter()? {
                let key = *entry?.0.value();
                let (mut at, mut id) = ([0; 8], [0; 16]);
                at.copy_from_slice(&key[..8]);
                id.copy_from_slice(&key[8..]);
                visit(Millis::from_be_bytes(at), OrderId::from_u128(u128::from_be_bytes(id)));
            }
            Ok(())
        })
    }
}
