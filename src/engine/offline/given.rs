//! What a load is given, judged by the contract's rules.

use super::rows::LoadError;
use crate::domain::Refusal;
use crate::engine::{Error, check_id};

const OLD_ORDER_ID_BYTES_MAX: usize = 1_024;

/// An order id of before, by its hash.
pub(super) fn old_id(id: &str) -> Result<u128, LoadError> {
    if id.is_empty() || id.len() > OLD_ORDER_ID_BYTES_MAX {
        return Err(LoadError::row("order_id", "must be 1 to 1,024 bytes"));
    }
    let hash = blake3::hash(id.as_bytes());
    Ok(u128::from_le_bytes(std::array::from_fn(|place| hash.as_bytes()[place])))
}

/// The contract's rule for ids.
pub(super) fn check(field: &'static str, id: &str) -> Result<(), LoadError> {
    match check_id(field, id) {
        Err(Error::Refused(Refusal::Invalid { why, .. })) => Err(LoadError::row(field, why)),
        Err(error) => Err(LoadError::row(field, error.to_string())),
        Ok(()) => Ok(()),
    }
}

pub(super) fn check_not_negative(field: &'static str, value: i64) -> Result<(), LoadError> {
    if value < 0 { Err(LoadError::row(field, "must be 0 or more")) } else { Ok(()) }
}
