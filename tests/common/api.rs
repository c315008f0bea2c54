//! The routes as the service itself describes them in `/openapi.json`, for tests that must not forget one.

use serde_json::Value;

use super::client::Client;

/// A route that takes a `POST`.
pub struct Api {
    pub path: String,
    /// Names of the fields of the body.
    pub fields: Vec<String>,
    pub required: Vec<String>,
    pub wants_token: bool,
}

impl Api {
    pub fn has(&self, field: &str) -> bool {
        self.fields.iter().any(|name| name == field)
    }

    /// Whether the body carries a password.
    pub fn wants_password(&self) -> bool {
        self.has("password") || self.has("oldPassword")
    }
}

/// Every `POST` route there is.
pub fn routes(client: &Client) -> Vec<Api> {
    let document = client.get("/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    let routes: Vec<Api> = paths
        .iter()
        .filter_map(|(path, operations)| {
            let operation = operations.get("post")?;
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let names = |value: &Value| -> Vec<String> {
                value.as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
            };
            Some(Api {
                path: path.clone(),
                fields: schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect(),
                required: names(&schema["required"]),
                wants_token: operation["security"][0].get("token").is_some(),
            })
        })
        .collect();
    assert!(routes.len() > 20, "the document has lost its routes");
    routes
}
