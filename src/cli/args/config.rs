//! What becomes of the flags: the settings of engine and service.

use std::os::unix::fs::PermissionsExt;

use tracing::warn;

use super::super::serve::refused_setting;
use super::{Durability, Mode, ServeArgs};
use crate::engine::{Config, Limits, OpenError};
use crate::http::{self, AdminToken, AdminTokenError, HttpConfig};

impl ServeArgs {
    /// The data directory, for messages.
    pub(in crate::cli) fn data_dir(&self) -> std::path::Display<'_> {
        self.data.data_dir.display()
    }

    /// Why there can be no backups where they are to be: else each would fail, the first perhaps at night.
    pub(in crate::cli) fn refused_backup_dir(&self) -> Option<String> {
        let dir = self.data.backup_dir.as_deref()?;
        let why = match dir {
            dir if crate::offline::lies_in(dir, &self.data.data_dir) => {
                "it is in the data directory; name one that is elsewhere, best on another disk"
            }
            dir if dir.exists() && !dir.is_dir() => "it is no directory; name one, or one that is to be made",
            _ => return None,
        };
        Some(format!("--backup-dir {}: {why}", dir.display()))
    }

    /// Whether the data directory is a backup.
    pub(in crate::cli) fn is_backup(&self) -> bool {
        crate::offline::is_backup(&self.data.data_dir)
    }

    /// The durability's name.
    pub(in crate::cli) fn durability(&self) -> &'static str {
        match self.data.durability {
            Durability::Sync => "sync",
            Durability::Buffered => "buffered",
            Durability::Snapshot => "snapshot",
        }
    }

    /// What the engine is opened with.
    pub(in crate::cli) fn engine(&self) -> Config {
        let mut config = Config::directory(&self.data.data_dir);
        config.durability = match self.data.durability {
            Durability::Sync => crate::Durability::Sync,
            Durability::Buffered => crate::Durability::Buffered,
            Durability::Snapshot => crate::Durability::Snapshot,
        };
        config.sync_interval = self.data.sync_interval;
        config.commit_delay = self.data.commit_delay;
        config.snapshot_interval = self.data.snapshot_interval;
        config.snapshot_journal_bytes = self.data.snapshot_journal_bytes;
        config.segment_bytes = self.data.segment_bytes;
        config.order_ttl = self.rules.order_ttl;
        config.auto_confirm = self.rules.auto_confirm;
        config.token_ttl = self.rules.token_ttl;
        config.password_params = self.passwords.hash.params();
        self.limit(&mut config.limits);
        config
    }

    fn limit(&self, limits: &mut Limits) {
        limits.in_flight_max = self.capacity.in_flight_max;
        limits.journal_buffer_bytes = self.capacity.journal_buffer;
        limits.live_actors_max = self.capacity.live_actors_max;
        limits.resting_orders_max = self.capacity.resting_orders_max;
        limits.idle_after = self.capacity.idle_after;
        limits.order_lines_max = self.rules.order_lines_max;
        limits.pending_orders_max = self.rules.pending_orders_max;
        limits.deposit_keys_max = self.rules.deposit_keys_max;
        limits.store_books_max = self.rules.store_books_max;
        limits.orders_listed_max = self.rules.orders_listed_max;
        limits.throttle_user = self.passwords.throttle_user;
        limits.throttle_address = self.passwords.throttle_address;
        limits.free_disk_min_bytes = self.data.min_free_disk;
        limits.password_memory_max = self.passwords.password_memory_max;
        if let Some(hashes) = self.passwords.password_hashes_max {
            limits.password_hashes_max = hashes;
        }
    }

    fn admin_token(&self) -> Result<Option<AdminToken>, String> {
        let Some(file) = &self.admin_token_file else { return Ok(None) };
        AdminToken::from_file(file).map(Some).map_err(|error| match &error {
            AdminTokenError::Read { .. } => format!("--admin-token-file: {error}"),
            _ => format!("--admin-token-file {}: {error}", file.display()),
        })
    }

    /// What a start would refuse of this, and why.
    pub(in crate::cli) fn refused(&self) -> Option<String> {
        match self.engine().check() {
            Err(OpenError::Config { name, why }) => Some(refused_setting(name, &why)),
            _ => self.refused_backup_dir(),
        }
    }

    /// Others of this machine should not read what only operators and the service are to know. It is no error: where files
    /// are mounted for one container alone, their mode says little.
    pub(in crate::cli) fn warn_of_open_secrets(&self) {
        let secrets =
            [("--admin-token-file", self.admin_token_file.as_deref()), ("--tls-key", self.tls.tls_key.as_deref())];
        for (flag, file) in secrets {
            let Some(file) = file else { continue };
            let mode = file.metadata().map_or(0, |metadata| metadata.permissions().mode() & 0o7777);
            if mode & 0o007 != 0 {
                let mode = format!("{mode:03o}");
                warn!(flag, file = %file.display(), mode, "everybody on this machine may read or change it: chmod o= it");
            }
        }
    }

    /// What the service runs with; reads the certificate, its key and the token, and says what is wrong with them.
    pub(in crate::cli) fn http(&self) -> Result<HttpConfig, String> {
        Ok(HttpConfig {
            mode: match self.mode {
                Mode::Strict => http::Mode::Strict,
                Mode::Compat => http::Mode::Compat,
            },
            tls: self.tls.identity()?,
            tls_handshake_timeout: self.tls.tls_handshake_timeout,
            order_lines_max: self.rules.order_lines_max,
            body_bytes_max: self.transport.body_limit,
            book_body_bytes_max: self.transport.book_body_limit,
            bodies_in_flight_bytes_max: self.transport.bodies_in_flight,
            header_bytes_max: self.transport.header_limit,
            header_timeout: self.transport.header_timeout,
            body_timeout: self.transport.body_timeout,
            write_timeout: self.transport.write_timeout,
            connections_max: self.transport.connections_max,
            drain_timeout: self.drain_timeout,
            engine_delay_max: self.transport.engine_delay_max,
            pages: self.pages,
            admin_token: self.admin_token()?,
            backup_dir: self.data.backup_dir.clone(),
        })
    }
}
