//! The one table of routes. The router, the metrics and the failure values read it.

use hyper::Method;

use super::answer::Failure;
use super::schema::{Field, Kind, may, need};
use super::{HttpConfig, pages};

/// The label of requests that belong to no route.
pub(super) const UNROUTED: &str = "other";

/// A row of the table.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) verb: Verb,
    pub(super) handler: Handler,
    /// What stands in for the result with every answer but 200.
    pub(super) failure: Failure,
    pub(super) limit: BodyLimit,
    pub(super) authority: Authority,
    /// The fields of the body, for the document; the handlers extract them by themselves.
    pub(super) fields: &'static [Field],
}

/// The methods a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// `GET`, and `HEAD` with it.
    Get,
    Post,
}

impl Verb {
    pub(super) fn takes(self, method: &Method) -> bool {
        match self {
            Verb::Post => *method == Method::POST,
            Verb::Get => *method == Method::GET || *method == Method::HEAD,
        }
    }

    /// The value of the `Allow` header.
    pub(super) fn allow(self) -> &'static str {
        match self {
            Verb::Get => "GET, HEAD",
            Verb::Post => "POST",
        }
    }
}

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// There is one port only, and everything stands on it.
    Only,
    /// The port for everybody, beside one for those who operate the service.
    Public,
    /// The port for those who operate the service.
    Admin,
}

/// Which of the two limits holds for the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyLimit {
    Standard,
    /// Pictures come along.
    Book,
}

impl BodyLimit {
    pub(super) fn bytes_max(self, config: &HttpConfig) -> usize {
        match self {
            BodyLimit::Standard => config.body_bytes_max,
            BodyLimit::Book => config.book_body_bytes_max,
        }
    }
}

/// Whether a route looks at the `token` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    /// A password in the body, or nothing at all.
    Body,
    /// The token, unless the mode is compat.
    Token,
    /// The token in every mode.
    AlwaysToken,
    /// Who operates the service; see `operator`.
    Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handler {
    Register,
    Unregister,
    Login,
    Password,
    Logout,
    CreateStore,
    CloseStore,
    AddBook,
    AddStockLevel,
    SetPrice,
    DelistBook,
    RelistBook,
    Ship,
    StoreOrders,
    AllStoreOrders,
    GetStockLevel,
    NewOrder,
    Payment,
    PayToPlatform,
    Confirm,
    AddFunds,
    OrderStatus,
    BuyerOrder,
    ExtendReceipt,
    SellerOrder,
    BuyerOrders,
    CancelOrder,
    RefundOrder,
    CancelExpired,
    CheckStockLevel,
    CheckOrderCount,
    QueryBalance,
    QueryBook,
    BuyerSearch,
    SellerSearch,
    SearchBooks,
    Health,
    Ready,
    Metrics,
    OpenApi,
    DocsPage,
    ShopPage,
    ConsolePage,
    AdminStatus,
    AdminOrder,
    AdminUser,
    AdminSearch,
    AdminSnapshot,
    AdminAudit,
    AdminDrain,
    AdminBackup,
    AdminBackupProgress,
}

impl Handler {
    /// Whether it gives the files of a page.
    pub(super) fn is_page(self) -> bool {
        matches!(self, Handler::DocsPage | Handler::ShopPage | Handler::ConsolePage)
    }
}

const USER: Field = need("user_id", Kind::Id);
const STORE: Field = need("store_id", Kind::Id);
const BOOK: Field = need("book_id", Kind::Id);
const ORDER: Field = need("order_id", Kind::Id);
const PASSWORD: Field = need("password", Kind::Password);
/// The fields of the routes that are about one order of a user.
const USERS_ORDER: &[Field] = &[USER, ORDER, PASSWORD];

/// The fields of a search.
const SEARCH: &[Field] = &[
    need("keyword", Kind::Keyword),
    may("search_scope", Kind::Text),
    may("search_in_store", Kind::Flag),
    may("store_id", Kind::Id),
    may("page", Kind::Page),
    may("page_size", Kind::PageSize),
];

const fn post(
    path: &'static str,
    handler: Handler,
    failure: Failure,
    authority: Authority,
    fields: &'static [Field],
) -> Route {
    Route { path, verb: Verb::Post, handler, failure, limit: BodyLimit::Standard, authority, fields }
}

const fn admin(path: &'static str, handler: Handler, fields: &'static [Field]) -> Route {
    post(path, handler, Failure::Nothing, Authority::Operator, fields)
}

const fn get(path: &'static str, handler: Handler) -> Route {
    Route {
        path,
        verb: Verb::Get,
        handler,
        failure: Failure::Nothing,
        limit: BodyLimit::Standard,
        authority: Authority::Body,
        fields: &[],
    }
}

/// The busiest routes stand first, for the search is linear; most paths differ in length, so it is a few
/// comparisons of a number.
pub(super) static ROUTES: &[Route] = &[
    post(
        "/buyer/new_order",
        Handler::NewOrder,
        Failure::OrderId,
        Authority::Token,
        &[USER, STORE, need("books", Kind::Lines)],
    ),
    post("/buyer/payment", Handler::Payment, Failure::Nothing, Authority::Body, USERS_ORDER),
    post("/buyer/pay_to_platform", Handler::PayToPlatform, Failure::Nothing, Authority::Body, USERS_ORDER),
    post("/buyer/confirm_receipt_and_pay_toseller", Handler::Confirm, Failure::Nothing, Authority::Body, USERS_ORDER),
    post(
        "/buyer/add_funds",
        Handler::AddFunds,
        Failure::Nothing,
        Authority::Body,
        &[USER, PASSWORD, need("add_value", Kind::Integer)],
    ),
    post("/buyer/cancel_order", Handler::CancelOrder, Failure::Nothing, Authority::Body, USERS_ORDER),
    post("/buyer/refund_order", Handler::RefundOrder, Failure::Nothing, Authority::Body, USERS_ORDER),
    post(
        "/buyer/check_stock_level",
        Handler::CheckStockLevel,
        Failure::StockLevel,
        Authority::Body,
        &[may("user_id", Kind::Id), STORE, BOOK],
    ),
    post("/buyer/check_order_count", Handler::CheckOrderCount, Failure::OrderCount, Authority::Body, &[USER]),
    post("/buyer/query_order_status", Handler::OrderStatus, Failure::OrderStatus, Authority::Body, USERS_ORDER),
    post("/buyer/extend_receipt", Handler::ExtendReceipt, Failure::Nothing, Authority::Body, USERS_ORDER),
    post("/buyer/query_order", Handler::BuyerOrder, Failure::Order, Authority::Body, USERS_ORDER),
    post("/buyer/query_buyer_all_orders", Handler::BuyerOrders, Failure::Orders, Authority::Body, &[USER, PASSWORD]),
    post("/buyer/query_balance", Handler::QueryBalance, Failure::Balance, Authority::Body, &[USER, PASSWORD]),
    post("/buyer/search", Handler::BuyerSearch, Failure::Books, Authority::Body, SEARCH),
    post("/buyer/query_book", Handler::QueryBook, Failure::Book, Authority::Body, &[STORE, BOOK]),
    post("/buyer/auto_cancel_expired_orders", Handler::CancelExpired, Failure::Nothing, Authority::Body, &[]),
    post("/auth/register", Handler::Register, Failure::Nothing, Authority::Body, &[USER, PASSWORD]),
    post(
        "/auth/login",
        Handler::Login,
        Failure::Token,
        Authority::Body,
        &[USER, PASSWORD, may("terminal", Kind::Text)],
    ),
    post("/auth/logout", Handler::Logout, Failure::Nothing, Authority::AlwaysToken, &[USER]),
    post(
        "/auth/password",
        Handler::Password,
        Failure::Nothing,
        Authority::Body,
        &[USER, need("oldPassword", Kind::Password), need("newPassword", Kind::Password)],
    ),
    post("/auth/unregister", Handler::Unregister, Failure::Nothing, Authority::Body, &[USER, PASSWORD]),
    post("/seller/create_store", Handler::CreateStore, Failure::Nothing, Authority::Token, &[USER, STORE]),
    Route {
        path: "/seller/add_book",
        verb: Verb::Post,
        handler: Handler::AddBook,
        failure: Failure::Nothing,
        limit: BodyLimit::Book,
        authority: Authority::Token,
        fields: &[USER, STORE, need("book_info", Kind::BookInfo), may("stock_level", Kind::Amount)],
    },
    post(
        "/seller/add_stock_level",
        Handler::AddStockLevel,
        Failure::Nothing,
        Authority::Token,
        &[USER, STORE, BOOK, need("add_stock_level", Kind::Integer)],
    ),
    post(
        "/seller/set_price",
        Handler::SetPrice,
        Failure::Nothing,
        Authority::Token,
        &[USER, STORE, BOOK, need("price", Kind::Amount)],
    ),
    post("/seller/close_store", Handler::CloseStore, Failure::Nothing, Authority::Token, &[USER, STORE]),
    post("/seller/delist_book", Handler::DelistBook, Failure::Nothing, Authority::Token, &[USER, STORE, BOOK]),
    post("/seller/relist_book", Handler::RelistBook, Failure::Nothing, Authority::Token, &[USER, STORE, BOOK]),
    post("/seller/ship", Handler::Ship, Failure::Nothing, Authority::Token, &[USER, STORE, ORDER]),
    post(
        "/seller/query_one_store_orders",
        Handler::StoreOrders,
        Failure::Orders,
        Authority::Body,
        &[USER, STORE, PASSWORD],
    ),
    post(
        "/seller/query_all_store_orders",
        Handler::AllStoreOrders,
        Failure::Orders,
        Authority::Body,
        &[USER, PASSWORD],
    ),
    post("/seller/query_order", Handler::SellerOrder, Failure::Order, Authority::Body, USERS_ORDER),
    post("/seller/get_stock_level", Handler::GetStockLevel, Failure::StockLevel, Authority::Body, &[STORE, BOOK]),
    post("/seller/search", Handler::SellerSearch, Failure::Books, Authority::Body, SEARCH),
    post("/search/search_books", Handler::SearchBooks, Failure::BooksAsMessage, Authority::Body, SEARCH),
    get("/healthz", Handler::Health),
    get("/readyz", Handler::Ready),
    get("/metrics", Handler::Metrics),
    get("/openapi.json", Handler::OpenApi),
    get("/docs", Handler::DocsPage),
    get("/shop", Handler::ShopPage),
    get("/console", Handler::ConsolePage),
    admin("/admin/status", Handler::AdminStatus, &[]),
    admin("/admin/order", Handler::AdminOrder, &[ORDER]),
    admin("/admin/user", Handler::AdminUser, &[USER]),
    admin("/admin/search", Handler::AdminSearch, SEARCH),
    admin("/admin/snapshot", Handler::AdminSnapshot, &[]),
    admin("/admin/audit", Handler::AdminAudit, &[]),
    admin("/admin/drain", Handler::AdminDrain, &[]),
    admin("/admin/backup", Handler::AdminBackup, &[]),
    admin("/admin/backup_progress", Handler::AdminBackupProgress, &[]),
];

/// The row of a path, with its index. The files of a page belong to its row.
pub(super) fn find(path: &str) -> Option<(usize, &'static Route)> {
    let exactly = |path: &str| ROUTES.iter().enumerate().find(|(_, route)| route.path == path);
    exactly(path).or_else(|| pages::page_of(path).and_then(exactly))
}

impl Route {
    /// Whether the route stands on this port; where it does not, it is a 404. `pages`: whether there are any for everybody.
    pub(super) fn is_at(&self, door: Door, pages: bool) -> bool {
        let is_inside = self.is_for_operators();
        match door {
            Door::Only => !is_inside && (pages || !self.handler.is_page()),
            // What tells about the inside is not for everybody.
            Door::Public => !is_inside && self.handler != Handler::Metrics && (pages || !self.handler.is_page()),
            Door::Admin => is_inside || matches!(self.handler, Handler::Metrics | Handler::Health | Handler::Ready),
        }
    }

    /// Whether the route stands on the admin port and nowhere else.
    fn is_for_operators(&self) -> bool {
        self.authority == Authority::Operator || self.handler == Handler::ConsolePage
    }

    /// Whether it is refused when there is too much to do.
    pub(super) fn is_shed(&self) -> bool {
        self.verb == Verb::Post && self.authority != Authority::Operator
    }

    /// Whether the handler wants the `token` header.
    pub(super) fn wants_token(&self) -> bool {
        matches!(self.authority, Authority::Token | Authority::AlwaysToken)
    }

    /// Whether the route looks at the `Idempotency-Key` header.
    pub(super) fn takes_key(&self) -> bool {
        matches!(
            self.handler,
            Handler::NewOrder
                | Handler::Payment
                | Handler::PayToPlatform
                | Handler::Confirm
                | Handler::AddFunds
                | Handler::CancelOrder
                | Handler::RefundOrder
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_handlers_are_there_once() {
        for (index, route) in ROUTES.iter().enumerate() {
            assert_eq!(find(route.path).map(|(found, _)| found), Some(index), "{}", route.path);
            assert_eq!(ROUTES.iter().filter(|other| other.handler == route.handler).count(), 1, "{}", route.path);
        }
        assert!(find("/buyer/new_order/").is_none());
        assert!(find("/").is_none());
    }

    #[test]
    fn only_these_routes_look_at_the_key() {
        let taking: Vec<_> = ROUTES.iter().filter(|route| route.takes_key()).map(|route| route.path).collect();
        assert_eq!(
            taking,
            [
                "/buyer/new_order",
                "/buyer/payment",
                "/buyer/pay_to_platform",
                "/buyer/confirm_receipt_and_pay_toseller",
                "/buyer/add_funds",
                "/buyer/cancel_order",
                "/buyer/refund_order"
            ]
        );
    }

    #[test]
    fn every_route_stands_on_one_port_or_both() {
        let at = |door, pages| -> Vec<_> {
            ROUTES.iter().filter(|route| route.is_at(door, pages)).map(|route| route.path).collect()
        };
        let for_operators = |path: &&str| path.starts_with("/admin/") || *path == "/console";
        let inside: Vec<_> = ROUTES.iter().map(|route| route.path).filter(for_operators).collect();
        assert_eq!(at(Door::Admin, true), [vec!["/healthz", "/readyz", "/metrics"], inside.clone()].concat());
        assert_eq!(at(Door::Admin, true), at(Door::Admin, false));
        assert!(!at(Door::Only, true).iter().any(for_operators));
        assert_eq!(at(Door::Only, true).len(), ROUTES.len() - inside.len());
        let without = |all: Vec<&'static str>, what: &[&str]| -> Vec<_> {
            all.into_iter().filter(|path| !what.contains(path)).collect()
        };
        assert_eq!(at(Door::Public, true), without(at(Door::Only, true), &["/metrics"]));
        for door in [Door::Only, Door::Public] {
            assert_eq!(at(door, false), without(at(door, true), &["/docs", "/shop"]));
        }
    }

    #[test]
    fn these_routes_look_at_the_token() {
        let wanting: Vec<_> = ROUTES.iter().filter(|route| route.wants_token()).map(|route| route.path).collect();
        assert_eq!(
            wanting,
            [
                "/buyer/new_order",
                "/auth/logout",
                "/seller/create_store",
                "/seller/add_book",
                "/seller/add_stock_level",
                "/seller/set_price",
                "/seller/close_store",
                "/seller/delist_book",
                "/seller/relist_book",
                "/seller/ship"
            ]
        );
    }
}
