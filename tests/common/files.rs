//! Files of a data directory, for tests that look at them and damage them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::shop::Shop;

/// Every file below a directory, with its bytes.
pub fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(content(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

pub fn copy(from: &Path) -> (TempDir, PathBuf) {
    let parent = TempDir::new().unwrap();
    let to = parent.path().join("data");
    for (path, bytes) in content(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(&target, bytes).unwrap();
        fs::set_permissions(&target, fs::metadata(&path).unwrap().permissions()).unwrap();
    }
    (parent, to)
}

pub fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        content(dir).into_keys().filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    found.sort();
    found
}

pub fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// A day in a shop that ended with kill -9: two snapshots, a journal, documents, orders in every state.
pub fn killed_shop() -> Shop {
    let mut shop = Shop::open(&["--snapshot-interval", "1h", "--segment-bytes", "16777216"]);
    for state in ["pending", "paid", "shipped", "completed", "canceled"] {
        shop.order_in(state);
    }
    shop.reopen();
    shop.order_in("completed");
    shop.reopen();
    for state in ["paid", "canceled"] {
        shop.order_in(state);
    }
    shop.server.kill9();
    shop
}
