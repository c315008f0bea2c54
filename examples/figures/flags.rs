//! `--name value`, or `--name` alone, and nothing more.

use std::collections::BTreeMap;
use std::str::FromStr;

use bookstore::Durability;

use crate::Failure;

/// The flags that were given and not asked for yet.
pub(crate) struct Flags(BTreeMap<String, String>);

impl Flags {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut args = args.peekable();
        let mut flags = BTreeMap::new();
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").ok_or_else(|| format!("{arg:?} is not a flag"))?;
            let value = args.next_if(|next| !next.starts_with("--")).unwrap_or_default();
            flags.insert(name.to_owned(), value);
        }
        Ok(Flags(flags))
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub(crate) fn number<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, Failure> {
        match self.0.remove(name) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| format!("--{name} {value}: not such a number").into()),
        }
    }

    pub(crate) fn durability(&mut self, default: Durability) -> Result<Durability, Failure> {
        self.text("durability").map_or(Ok(default), |name| durability(&name))
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.0.first_key_value() {
            None => Ok(()),
            Some((name, _)) => Err(format!("unknown flag --{name}; --help lists them").into()),
        }
    }
}

/// A durability by its name.
pub(crate) fn durability(name: &str) -> Result<Durability, Failure> {
    match name {
        "sync" => Ok(Durability::Sync),
        "buffered" => Ok(Durability::Buffered),
        "snapshot" => Ok(Durability::Snapshot),
        other => Err(format!("--durability {other}: not sync, buffered or snapshot").into()),
    }
}
