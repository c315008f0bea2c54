//! The routes for operators, on the admin port; `operator` has judged who asks.

use serde_json::json;

use super::answer::Reply;
use super::call::{Call, Handled};

/// Takes a snapshot now. Answers when it is on the disk.
pub(super) async fn snapshot(call: Call<'_>) -> Handled {
    let report = call.engine().snapshot().await?;
    let body = json!({
        "code": 200,
        "message": "ok",
        "path": report.path.map(|path| path.display().to_string()),
        "bytes": report.bytes,
        "rows": report.rows,
        "took_ms": report.took.as_millis() as u64,
    });
    Ok(Reply::ok_body(body.to_string()))
}
