//! The description of the API: the service, the program and the sources give the same one.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use bookstore::Config;
use common::service::Service;
use common::{Client, bookstore};
use serde_json::Value;

#[test]
fn service_program_and_sources_describe_the_same_api() {
    let committed = include_str!("../docs/openapi.json");
    let printed = bookstore(&[&"openapi"]).ok();
    assert!(printed.stdout == committed, "renew it: cargo run -- openapi > docs/openapi.json");
    let service = Service::start_with(Config::memory(), |_| {});
    let served = Client::new(service.address.port()).get("/openapi.json");
    assert_eq!(served.header("content-type"), Some("application/json"));
    assert_eq!(served.json(), serde_json::from_str::<Value>(committed).unwrap());
}

/// Whatever the document points at stands in it.
#[test]
fn every_reference_and_every_link_leads_somewhere() {
    let document: Value = serde_json::from_str(include_str!("../docs/openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let operations: Vec<&Value> = paths.values().flat_map(|verbs| verbs.as_object().unwrap().values()).collect();
    let mut names: Vec<&str> = operations.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
    let (mut todo, mut references, mut links) = (vec![&document], 0, 0);
    while let Some(value) = todo.pop() {
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            references += 1;
            assert!(document.pointer(target.strip_prefix('#').unwrap()).is_some(), "{target}");
        }
        for link in value.get("links").and_then(Value::as_object).into_iter().flat_map(|links| links.values()) {
            links += 1;
            assert!(names.contains(&link["operationId"].as_str().unwrap()), "{link}");
        }
        match value {
            Value::Array(list) => todo.extend(list),
            Value::Object(members) => todo.extend(members.values()),
            _ => {}
        }
    }
    assert!(references > 100 && links > 40, "{references} references, {links} links");
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "each operation has a name of its own");
}
