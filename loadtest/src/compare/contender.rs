//! Who is compared, what each of them is, and how to get what is not there.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::CompareArgs;
use super::postgres::Programs;
use super::process::{find_in, search_path};
use crate::Failure;
use crate::args::{ConnectionMode, Scenario};
use crate::server::{Durability, beside_this};

/// How the axum server is built, from the root of the repository.
const BUILD_AXUM: &str = "cargo build --release --manifest-path loadtest/axum-postgres/Cargo.toml --target-dir target";

/// One of those that are measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Contender {
    /// hyper and JSON that read, parse and answer the same, with nothing behind them: the ceiling.
    Bare,
    /// This service; what it acknowledged is on the disk.
    Sync,
    /// The same, with an Idempotency-Key on each request, which none of the others has.
    Keyed,
    /// This service; a crash of the machine may cost the last moment.
    Buffered,
    /// This service; a crash costs what came after the last snapshot.
    Snapshot,
    /// PostgreSQL, a function for the order and one for the payment, called by pgbench. No HTTP.
    Postgres,
    /// Redis, a function for both at once, its log synced before each answer. No HTTP.
    RedisAlways,
    /// The same, its log synced every second.
    RedisEverysec,
    /// axum and PostgreSQL, a transaction for each request, over HTTP.
    Axum,
}

impl Contender {
    /// This service.
    pub(super) fn durability(self) -> Option<Durability> {
        match self {
            Self::Sync | Self::Keyed => Some(Durability::Sync),
            Self::Buffered => Some(Durability::Buffered),
            Self::Snapshot => Some(Durability::Snapshot),
            _ => None,
        }
    }

    /// Whether it speaks HTTP.
    fn has_http(self) -> bool {
        !matches!(self, Self::Postgres | Self::RedisAlways | Self::RedisEverysec)
    }

    /// Whether it can do the scenario by itself.
    pub(super) fn does(self, scenario: Scenario) -> bool {
        self.has_http() || scenario == Scenario::Paid
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Bare => "bare hyper",
            Self::Sync => "bookstore, sync",
            Self::Keyed => "bookstore, sync, with keys",
            Self::Buffered => "bookstore, buffered",
            Self::Snapshot => "bookstore, snapshot",
            Self::Postgres => "PostgreSQL functions, pgbench",
            Self::RedisAlways => "Redis function, fsync always",
            Self::RedisEverysec => "Redis function, fsync everysec",
            Self::Axum => "axum + PostgreSQL",
        })
    }
}

/// Where the programs are that are not this one.
pub(super) struct Installed {
    pub(super) postgres: Option<Programs>,
    pub(super) redis: Option<PathBuf>,
    pub(super) axum: Option<PathBuf>,
}

impl Installed {
    pub(super) fn find(args: &CompareArgs) -> Result<Self, Failure> {
        let redis = args.redis.clone().filter(|path| path.is_file());
        Ok(Self {
            postgres: Programs::find(args.postgres_bin.as_deref()),
            redis: if args.redis.is_some() { redis } else { find_in(search_path(), "redis-server") },
            axum: Some(args.axum.clone().map_or_else(|| beside_this("axum-postgres"), Ok)?)
                .filter(|path| path.is_file()),
        })
    }

    /// Why one cannot be measured, and what to do about it.
    pub(super) fn missing(&self, contender: Contender, connection: ConnectionMode) -> Option<String> {
        if connection == ConnectionMode::PerRequest && !contender.has_http() {
            return Some("it has no HTTP, and keeps its connections in any case".to_owned());
        }
        let postgres = self.postgres.is_none().then(|| "PostgreSQL is missing: apt install postgresql".to_owned());
        match contender {
            Contender::Postgres => postgres,
            Contender::RedisAlways | Contender::RedisEverysec => {
                self.redis.is_none().then(|| "Redis is missing: apt install redis-server".to_owned())
            }
            Contender::Axum => {
                postgres.or_else(|| self.axum.is_none().then(|| format!("it is not built: {BUILD_AXUM}")))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let nothing = Installed { postgres: None, redis: None, axum: None };
        let missing = |contender| nothing.missing(contender, ConnectionMode::Kept);
        assert!(missing(Contender::Postgres).unwrap().ends_with("apt install postgresql"));
        assert!(missing(Contender::RedisEverysec).unwrap().ends_with("apt install redis-server"));
        assert!(missing(Contender::Axum).unwrap().ends_with("apt install postgresql"));
        assert_eq!([Contender::Bare, Contender::Sync, Contender::Keyed].map(missing), [None, None, None]);
        let per_request = |contender| nothing.missing(contender, ConnectionMode::PerRequest);
        assert!(per_request(Contender::RedisAlways).unwrap().starts_with("it has no HTTP"));
        assert_eq!(per_request(Contender::Buffered), None);
    }
}
