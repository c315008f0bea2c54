//! The pages for people and who may use the routes for operators, over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::process::Command;

use common::{Client, Response, Server};

fn ask(client: &Client, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    client.send(format!("{bytes}content-length: 0\r\n\r\n").as_bytes()).unwrap()
}

#[test]
fn each_page_stands_where_it_belongs_with_a_strict_policy() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let (public, admin) = (server.client(), Client::new(server.admin_port()));
    for (client, other, page) in [(&public, &admin, "/docs"), (&public, &admin, "/shop"), (&admin, &public, "/console")]
    {
        for (file, kind) in
            [("", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css"), ("/common.css", "text/css")]
        {
            let path = format!("{page}{file}");
            let answer = client.get(&path);
            assert_eq!(answer.status, 200, "{path}");
            assert!(answer.header("content-type").unwrap().starts_with(kind), "{path}");
            let policy = answer.header("content-security-policy").unwrap();
            assert!(
                policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
                "{policy}"
            );
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            let tag = answer.header("etag").unwrap();
            let again = ask(client, "GET", &path, &[("host", "127.0.0.1"), ("if-none-match", tag)]);
            assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
            assert_eq!(again.header("etag"), Some(tag));
            assert_eq!(other.get(&path).status, 404, "{path}");
            assert_eq!(ask(client, "POST", &path, &[("host", "127.0.0.1")]).status, 405, "{path}");
        }
        assert_eq!(client.get(&format!("{page}/other.js")).status, 404);
    }
}

#[test]
fn without_pages_there_are_none_and_without_an_admin_port_no_console() {
    let server = Server::start(&["--pages=false"]);
    let client = server.client();
    for path in ["/docs", "/shop", "/shop/app.js", "/console"] {
        assert_eq!(client.get(path).body, client.get("/no_such_path").body, "{path}");
    }
    let server = Server::start(&[]);
    let client = server.client();
    assert_eq!(client.get("/shop").status, 200);
    assert_eq!(client.get("/console").status, 404);
    assert_eq!(ask(&client, "POST", "/admin/snapshot", &[("host", "127.0.0.1")]).status, 404);
}

#[test]
fn without_a_token_only_this_machine_operates() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let admin = Client::new(server.admin_port());
    let snapshot = |headers: &[(&str, &str)]| ask(&admin, "POST", "/admin/snapshot", headers);
    let done = snapshot(&[("host", "localhost:1")]);
    assert_eq!(done.status, 200, "{}", done.text());
    let body: serde_json::Value = serde_json::from_slice(&done.body).unwrap();
    assert!(std::path::Path::new(body["path"].as_str().unwrap()).exists());
    for forbidden in [
        &[("host", "bookstore.example")][..],
        &[("host", "localhost:1"), ("origin", "http://bookstore.example")],
        &[("host", "localhost:1"), ("sec-fetch-site", "cross-site")],
        &[("host", "localhost:1"), ("x-forwarded-for", "10.0.0.1")],
    ] {
        let answer = snapshot(forbidden);
        assert_eq!(answer.status, 403, "{forbidden:?}");
        assert!(answer.text().contains("forbidden: "), "{}", answer.text());
    }
}

#[test]
fn with_a_token_only_who_shows_it_operates() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "a-token-of-operators\n").unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let server = Server::start(&["--admin-listen", "127.0.0.1:0", "--admin-token-file", &path]);
    let admin = Client::new(server.admin_port());
    let shown =
        |token: &str| ask(&admin, "POST", "/admin/snapshot", &[("host", "localhost"), ("authorization", token)]);
    assert_eq!(shown("Bearer a-token-of-operators").status, 200);
    let wrong = shown("Bearer a-token-of-operatorz");
    assert_eq!((wrong.status, wrong.header("www-authenticate")), (401, Some("Bearer")));
    // Who scrapes has none.
    assert_eq!(admin.get("/metrics").status, 200);

    std::fs::write(file.path(), "short").unwrap();
    let refused = Command::new(common::binary())
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--admin-token-file", &path])
        .arg("--data-dir")
        .arg(tempfile::tempdir().unwrap().path().join("data"))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("--admin-token-file") && said.contains("openssl rand"), "{said}");
}
