//! An answer of the service, and the rules of the contract that hold for every one of them.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::http::Response;

#[derive(Debug)]
pub struct Answer {
    pub path: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

/// The contract's table of codes and messages; `{}` stands for the id.
const MESSAGES: [(u16, &str); 22] = [
    (400, "order is already settled, order id {}"),
    (401, "authorization fail"),
    (422, "idempotency key was used with another body"),
    (511, "non exist user id {}"),
    (512, "exist user id {}"),
    (513, "non exist store id {}"),
    (514, "exist store id {}"),
    (515, "non exist book id {}"),
    (516, "exist book id {}"),
    (517, "stock level low, book id {}"),
    (518, "invalid order id {}"),
    (519, "not sufficient funds, order id {}"),
    (520, "not be paid, order id {}"),
    (521, "cannot be canceled, order id {}"),
    (522, "no store for user, user id {}"),
    (523, "book with keyword {} not found"),
    (524, "store with id {} not found"),
    (525, "book with keyword {} not found in store {}"),
    (526, "order is canceled, order id {}"),
    (527, "order is paid, order id {}"),
    (528, "order is confirmed, order id {}"),
    (529, "order is shipped, order id {}"),
];

fn template(code: u16) -> Option<&'static str> {
    MESSAGES.iter().find(|(known, _)| *known == code).map(|(_, text)| *text)
}

/// The field, beside code and message, that a route gives with every answer but 200.
pub fn failure_value(path: &str) -> Option<(&'static str, Value)> {
    Some(match path {
        "/auth/login" => ("token", json!("")),
        "/buyer/new_order" => ("order_id", json!("")),
        "/buyer/query_order" | "/seller/query_order" => ("order", json!("None")),
        "/buyer/query_order_status" => ("order_status", json!("None")),
        "/seller/query_one_store_orders" | "/seller/query_all_store_orders" | "/buyer/query_buyer_all_orders" => {
            ("orders", json!("None"))
        }
        "/seller/get_stock_level" | "/buyer/check_stock_level" | "/buyer/query_book" => ("stock_level", json!(-1)),
        "/buyer/check_order_count" => ("order_count", json!(-1)),
        "/buyer/query_balance" => ("balance", json!(-1)),
        _ => return None,
    })
}

/// Whether the description of the API names this code among those of the route. What the router answers is no route's.
fn is_told(path: &str, status: u16) -> bool {
    static DOCUMENT: LazyLock<Value> =
        LazyLock::new(|| serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap());
    let Some(verbs) = DOCUMENT["paths"].get(path) else { return true };
    let told = |verb: &str| verbs[verb]["responses"].get(status.to_string()).is_some();
    [404, 405, 414].contains(&status) || told("post") || told("get")
}

impl Answer {
    /// Reads an answer and holds it against the rules for every answer; the error says which is broken.
    pub fn read(path: &str, response: &Response) -> Result<Answer, String> {
        let status = response.status;
        let fail = |why: &str| format!("{path} answered {status} {}: {why}", response.text());
        let body: Value = serde_json::from_slice(&response.body).map_err(|error| fail(&error.to_string()))?;
        let content_type = response.header("content-type").unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if media_type != "application/json" {
            return Err(fail(&format!("its content type is `{content_type}`")));
        }
        if !body.is_object() {
            return Err(fail("it is not a JSON object"));
        }
        if body["code"] != json!(status) {
            return Err(fail("`code` is not the status"));
        }
        if !is_told(path, status) {
            return Err(fail("docs/openapi.json does not name this code for the route"));
        }
        // This route gives the list of books as its message.
        let message = match &body["message"] {
            Value::String(message) => message.as_str(),
            list if path == "/search/search_books" && status == 200 && *list == body["books"] => "ok",
            _ => return Err(fail("`message` is not a string")),
        };
        if status == 200 && message != "ok" {
            return Err(fail("the message of a success is `ok`"));
        }
        let start = template(status).and_then(|text| text.split("{}").next()).unwrap_or_default();
        if !message.starts_with(start) {
            return Err(fail(&format!("its message does not start with `{start}`")));
        }
        if status == 401 && response.header("www-authenticate") != Some("Token") {
            return Err(fail("a 401 carries `WWW-Authenticate: Token`"));
        }
        if status == 429 && response.header("retry-after").is_none() {
            return Err(fail("a 429 carries `Retry-After`"));
        }
        if let (Some((field, value)), true) = (failure_value(path), status != 200)
            && body[field] != value
        {
            return Err(fail(&format!("`{field}` is not {value}")));
        }
        Ok(Answer { path: path.to_owned(), status, headers: response.headers.clone(), body })
    }

    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The answer must have this status, whatever its message.
    #[track_caller]
    pub fn is(&self, status: u16) -> &Answer {
        assert_eq!(self.status, status, "{} answered {}", self.path, self.body);
        self
    }

    #[track_caller]
    pub fn ok(&self) -> &Answer {
        self.is(200)
    }

    /// The answer must be this refusal of the table, with its exact message about `id`.
    #[track_caller]
    pub fn refused(&self, code: u16, id: &str) -> &Answer {
        self.is(code);
        let expected = template(code).unwrap().replace("{}", id);
        assert_eq!(self.message(), expected, "{}", self.path);
        self
    }

    #[track_caller]
    pub fn unauthorised(&self) -> &Answer {
        self.refused(401, "")
    }

    /// The answer must be a 530 that names the field.
    #[track_caller]
    pub fn invalid(&self, field: &str) -> &Answer {
        self.is(530);
        let start = format!("invalid parameter {field}: ");
        assert!(self.message().starts_with(&start), "{} answered {}", self.path, self.body);
        self
    }

    /// A text field of the answer.
    #[track_caller]
    pub fn text(&self, field: &str) -> String {
        match self.body[field].as_str() {
            Some(text) => text.to_owned(),
            None => panic!("{} answered no text `{field}`: {}", self.path, self.body),
        }
    }

    /// A number field of the answer.
    #[track_caller]
    pub fn number(&self, field: &str) -> i64 {
        match self.body[field].as_i64() {
            Some(number) => number,
            None => panic!("{} answered no number `{field}`: {}", self.path, self.body),
        }
    }

    /// The `orders` of the answer, as a list.
    #[track_caller]
    pub fn orders(&self) -> &Vec<Value> {
        match self.ok().body["orders"].as_array() {
            Some(orders) => orders,
            None => panic!("{} answered no list `orders`: {}", self.path, self.body),
        }
    }
}
