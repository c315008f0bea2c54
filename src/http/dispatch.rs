//! From a row of the table to its handler.

use std::sync::atomic::Ordering;

use tracing::warn;

use super::answer::Reply;
use super::call::Call;
use super::routes::{Authority, Handler, Route};
use super::search::Message;
use super::{admin, auth, backup, buyer, openapi, ops, search, seller, told};
use crate::domain::Refusal;
use crate::engine::Error;

/// Runs the handler of a route.
pub(super) async fn run(route: &Route, call: Call<'_>) -> Reply {
    let handled = match route.handler {
        Handler::NewOrder => buyer::new_order(call).await,
        Handler::Payment => buyer::payment(call).await,
        Handler::PayToPlatform => buyer::pay_to_platform(call).await,
        Handler::Confirm => buyer::confirm(call).await,
        Handler::AddFunds => buyer::add_funds(call).await,
        Handler::CancelOrder => buyer::cancel_order(call).await,
        Handler::RefundOrder => buyer::refund_order(call).await,
        Handler::CheckStockLevel => buyer::check_stock_level(call).await,
        Handler::CheckOrderCount => buyer::check_order_count(call).await,
        Handler::OrderStatus => buyer::query_order_status(call).await,
        Handler::ExtendReceipt => buyer::extend_receipt(call).await,
        Handler::BuyerOrder => buyer::query_order(call).await,
        Handler::SellerOrder => seller::query_order(call).await,
        Handler::BuyerOrders => buyer::query_buyer_all_orders(call).await,
        Handler::QueryBook => search::query_book(call).await,
        Handler::BuyerSearch | Handler::SellerSearch => search::search(call, Message::Ok).await,
        Handler::SearchBooks => search::search(call, Message::Books).await,
        Handler::QueryBalance => buyer::query_balance(call).await,
        Handler::CancelExpired => buyer::auto_cancel_expired_orders(call).await,
        Handler::Register => auth::register(call).await,
        Handler::Login => auth::login(call).await,
        Handler::Logout => auth::logout(call).await,
        Handler::Password => auth::password(call).await,
        Handler::Unregister => auth::unregister(call).await,
        Handler::CreateStore => seller::create_store(call).await,
        Handler::CloseStore => seller::close_store(call).await,
        Handler::AddBook => seller::add_book(call).await,
        Handler::AddStockLevel => seller::add_stock_level(call).await,
        Handler::SetPrice => seller::set_price(call).await,
        Handler::DelistBook => seller::delist_book(call).await,
        Handler::RelistBook => seller::relist_book(call).await,
        Handler::Ship => seller::ship(call).await,
        Handler::StoreOrders => seller::query_one_store_orders(call).await,
        Handler::AllStoreOrders => seller::query_all_store_orders(call).await,
        Handler::GetStockLevel => seller::get_stock_level(call).await,
        Handler::Health => Ok(Reply::ok()),
        Handler::Ready => Ok(ops::ready(call)),
        Handler::Metrics => Ok(ops::metrics(call)),
        Handler::OpenApi => Ok(Reply::document(openapi::document())),
        Handler::AdminStatus => Ok(admin::status(call)),
        Handler::AdminOrder => admin::order(call).await,
        Handler::AdminUser => admin::user(call).await,
        Handler::AdminSearch => search::search(call, Message::Ok).await,
        Handler::AdminSnapshot => admin::snapshot(call).await,
        Handler::AdminAudit => admin::audit(call).await,
        Handler::AdminDrain => Ok(admin::drain(call)),
        Handler::AdminBackup => backup::make(call).await,
        Handler::AdminBackupProgress => Ok(backup::progress(call)),
        // Their files are given before a request gets here.
        Handler::DocsPage | Handler::ShopPage | Handler::ConsolePage => {
            Ok(Reply::transport(404, "not found", route.failure))
        }
    };
    handled.unwrap_or_else(|error| {
        hint_at_compat(route, &call, &error);
        told::failed(route.path, &error);
        Reply::refused(&error, route.failure)
    })
}

/// Somebody who runs an old client against the strict mode should learn about the other one, once.
fn hint_at_compat(route: &Route, call: &Call<'_>, error: &Error) {
    let is_empty_token = route.authority == Authority::Token
        && call.token.is_empty()
        && !call.is_compat()
        && *error == Error::Refused(Refusal::Unauthorized);
    if is_empty_token && !call.shared.compat_hinted.swap(true, Ordering::Relaxed) {
        warn!(
            path = route.path,
            "a request with an empty token was refused; clients that send none need --mode compat \
             (said once)"
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::engine::{Config, Engine};
    use crate::http::HttpConfig;
    use crate::http::routes::ROUTES;
    use crate::http::schema::Kind;
    use crate::http::shared::Shared;

    async fn message(shared: &Shared, route: &Route, body: &Map<String, Value>) -> String {
        let body = Value::Object(body.clone()).to_string();
        let peer = None;
        let reply = run(route, Call { shared, body: body.as_bytes(), token: "", key: None, peer }).await;
        let json: Value = serde_json::from_slice(reply.json_body()).unwrap();
        json["message"].as_str().unwrap().to_owned()
    }

    /// The handlers and the table must agree on the fields, else the document lies.
    #[tokio::test]
    async fn the_fields_are_those_of_the_handlers() {
        let shared = Shared::new(Engine::open(Config::memory()).await.unwrap(), HttpConfig::default());
        for route in ROUTES.iter().filter(|route| !route.fields.is_empty()) {
            let full: Map<_, _> = route.fields.iter().map(|field| (field.name.to_owned(), field.example())).collect();
            let accepted = message(&shared, route, &full).await;
            assert!(!accepted.starts_with("invalid parameter"), "{}: {accepted}", route.path);
            for field in route.fields {
                let mut body = full.clone();
                body.insert(field.name.into(), Value::Null);
                let missing = format!("invalid parameter {}: is missing", field.name);
                assert_eq!(message(&shared, route, &body).await == missing, field.required, "{}", route.path);
                body.insert(field.name.into(), if field.kind == Kind::Flag { json!(1) } else { json!(true) });
                let wrong = message(&shared, route, &body).await;
                assert!(wrong.starts_with(&format!("invalid parameter {}: ", field.name)), "{}: {wrong}", route.path);
            }
        }
    }
}
