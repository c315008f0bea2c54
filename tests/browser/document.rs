//! `/openapi.json` in a browser.

use crate::Stage;
use crate::common::Server;

/// The browser takes it for what it says that it is.
pub fn the_document_is_shown(stage: &Stage) {
    let server = Server::start(&[]);
    let browser = stage.browser("en-US");
    browser.goto(&format!("http://127.0.0.1:{}/openapi.json", server.port()));
    browser.wait_text("body", "\"openapi\":\"3.1.0\"");
    assert_eq!(browser.run("return document.contentType"), "application/json");
    browser.assert_content(&[("/favicon.ico", 404)]);
}
