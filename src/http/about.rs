//! What the document tells of each route beside its row in the table: a title, the rule, the business answers in the
//! order in which they are judged, and what a client does next.

use super::routes::Handler;

/// What there is to know of a route.
pub(super) struct About {
    pub(super) title: &'static str,
    /// The rule, in sentences.
    pub(super) rule: &'static str,
    /// The answers that the state may ask for, in the order of judgement. What the form, the transport and the throttle
    /// answer follows from the row.
    pub(super) codes: &'static [u16],
    /// What can be called next with what this route was given and has answered.
    pub(super) next: &'static [Handler],
}

const fn tell(title: &'static str, rule: &'static str, codes: &'static [u16], next: &'static [Handler]) -> About {
    About { title, rule, codes, next }
}

/// What a seller can do in a store once a book is there.
const WITH_BOOK: &[Handler] = &[
    Handler::NewOrder,
    Handler::AddStockLevel,
    Handler::GetStockLevel,
    Handler::CheckStockLevel,
    Handler::QueryBook,
    Handler::SetPrice,
    Handler::DelistBook,
    Handler::RelistBook,
];

/// What can become of an order.
const WITH_ORDER: &[Handler] = &[
    Handler::Payment,
    Handler::PayToPlatform,
    Handler::Confirm,
    Handler::OrderStatus,
    Handler::BuyerOrder,
    Handler::CancelOrder,
    Handler::RefundOrder,
    Handler::ExtendReceipt,
];

/// What is open to a buyer who has paid.
const PAID: &[Handler] = &[Handler::Confirm, Handler::OrderStatus, Handler::BuyerOrder, Handler::RefundOrder];

const SEARCH_RULE: &str = "Every word of the keyword must match. A part of a Chinese title, a two-character word and a \
    single character all find the book; full-width and half-width, upper and lower case are the same. `search_scope` is \
    `all` or names of fields, separated by blanks or commas: title, author, publisher, isbn, tags, content, book_intro. \
    `store_id` counts with `search_in_store` only. A page past the end is an empty list. Books come without pictures. \
    A page whose books are longer than 32 MiB together is a 530: ask for fewer.";

/// What the document tells of the route with this handler, if it tells of it.
pub(super) fn about(handler: Handler) -> Option<About> {
    let about = match handler {
        Handler::Register => tell(
            "Open an account",
            "The account has a balance of 0. The id may be one that was given up before; the new account inherits nothing.",
            &[512],
            &[Handler::Login, Handler::AddFunds, Handler::QueryBalance, Handler::Password, Handler::Unregister],
        ),
        Handler::Unregister => tell(
            "Close an account",
            "The balance must be 0; no order of the user may be open (pending, paid, shipped), and the user may own no \
             store that is not closed. All tokens end.",
            &[401, 530],
            &[Handler::Register],
        ),
        Handler::Login => tell(
            "Get a token",
            "The token goes into the header `token` of the routes that want one. Many can be valid for one user at once; \
             each is valid for an hour unless the operator has set another time. `terminal` may be any text.",
            &[401],
            &[
                Handler::CreateStore,
                Handler::AddFunds,
                Handler::QueryBalance,
                Handler::BuyerOrders,
                Handler::AllStoreOrders,
                Handler::Logout,
            ],
        ),
        Handler::Password => tell("Change the password", "All tokens of the user end.", &[401], &[]),
        Handler::Logout => tell(
            "Revoke a token",
            "Only the token in the header ends, in every mode. 429: too many of this user's revoked tokens have not expired \
             yet.",
            &[401, 429],
            &[],
        ),
        Handler::CreateStore => {
            tell("Open a store", "Store ids are global.", &[511, 401, 514], &[Handler::AddBook, Handler::CloseStore])
        }
        Handler::CloseStore => tell(
            "Close a store for good",
            "A store with an open order (pending, paid, shipped) cannot be closed. The id stays taken. What reads still \
             answers; the store's books are not found any more.",
            &[511, 401, 513, 401, 530],
            &[],
        ),
        Handler::AddBook => tell(
            "List a book",
            "The id of the book is unique in the store. Unknown keys of `book_info` are kept and given back. Only the \
             owner of the store may do this.",
            &[511, 401, 513, 401, 516, 530],
            WITH_BOOK,
        ),
        Handler::AddStockLevel => tell(
            "Add or take copies",
            "`add_stock_level` may be negative; the level never goes below 0. Only the owner of the store may do this.",
            &[511, 401, 513, 401, 515, 530],
            &[Handler::GetStockLevel],
        ),
        Handler::SetPrice => tell(
            "Change the price of a book",
            "An order keeps the price at which it was placed. Only the owner of the store may do this.",
            &[511, 401, 513, 401, 515],
            &[Handler::QueryBook],
        ),
        Handler::DelistBook => tell(
            "Take a book off the shelf",
            "The book is not found and cannot be ordered; its id stays taken. A book that is off already is a 200. Only \
             the owner of the store may do this.",
            &[511, 401, 513, 401, 515],
            &[Handler::RelistBook, Handler::QueryBook],
        ),
        Handler::RelistBook => tell(
            "Put a book back on the shelf",
            "A book that is on it already is a 200. Only the owner of the store may do this.",
            &[511, 401, 513, 401, 515],
            &[Handler::QueryBook],
        ),
        Handler::Ship => tell(
            "Ship a paid order",
            "Only the owner of the store may do this. An order of another store is a 518.",
            &[511, 401, 513, 401, 518, 520, 529],
            &[],
        ),
        Handler::StoreOrders => tell(
            "List the orders of a store",
            "Newest first and complete; a list that would be too long is a 530, never cut. 522: the store is not this \
             user's.",
            &[511, 513, 401, 522, 530],
            &[],
        ),
        Handler::AllStoreOrders => tell(
            "List the orders of all stores of a seller",
            "An object of store id and list; stores without orders are there with an empty one. 522: the user owns no \
             store.",
            &[511, 401, 522, 530],
            &[],
        ),
        Handler::SellerOrder => tell(
            "Look at one order of a store",
            "The order with its way. 518: unknown, or of a store that is not this user's.",
            &[511, 401, 518],
            &[],
        ),
        Handler::GetStockLevel => tell("Ask for a stock level, as a seller", "Open to everybody.", &[513, 515], &[]),
        Handler::NewOrder => tell(
            "Place an order",
            "All or nothing: stock is taken for every line or for none. The same book on two lines counts together. The \
             order is `pending` and is canceled by itself unless it is paid in time. Each line is judged in order: 515, \
             then 517. 429: too many pending orders of this user.",
            &[511, 401, 513, 429, 515, 517, 530],
            WITH_ORDER,
        ),
        Handler::Payment => tell(
            "Pay the seller",
            "The seller has the money at once; a later confirmation moves none. 401: not this user's order, or a wrong \
             password. 511: the account that placed the order is gone.",
            &[518, 401, 511, 401, 526, 527, 519],
            PAID,
        ),
        Handler::PayToPlatform => tell(
            "Pay to the platform",
            "The platform holds the money until the buyer confirms. 401 and 511 as in `payment`.",
            &[518, 401, 511, 401, 526, 527, 400, 519],
            PAID,
        ),
        Handler::Confirm => tell(
            "Confirm the receipt",
            "The order is `completed`; what the platform holds goes to the seller. Shipping first is not required. \
             401: not this user's order, or a wrong password.",
            &[518, 401, 520, 528],
            &[Handler::OrderStatus, Handler::BuyerOrder],
        ),
        Handler::AddFunds => tell(
            "Put in or take out money",
            "`add_value` may be negative: a withdrawal. The balance never goes below 0. 429 also: too many kept \
             idempotency keys of this user.",
            &[401, 429, 530],
            &[Handler::QueryBalance],
        ),
        Handler::OrderStatus => {
            tell("Ask for the state of an order", "518: unknown, or not this user's.", &[511, 401, 518], &[])
        }
        Handler::BuyerOrder => tell(
            "Look at one order of a buyer",
            "The order with its way. 518: unknown, or not this user's.",
            &[511, 401, 518],
            &[],
        ),
        Handler::ExtendReceipt => tell(
            "Put off the confirmation by itself",
            "Once, for an order that is shipped and confirmed by itself. 530: it is not shipped, not confirmed by itself, or \
             was put off before.",
            &[511, 401, 518, 520, 528, 530],
            &[],
        ),
        Handler::BuyerOrders => tell(
            "List the orders of a buyer",
            "Newest first and complete; a list that would be too long is a 530, never cut.",
            &[511, 401, 530],
            &[],
        ),
        Handler::CancelOrder => tell(
            "Cancel a pending order",
            "Its copies go back to the shelf. 521: it is not pending any more.",
            &[511, 401, 518, 521],
            &[Handler::OrderStatus],
        ),
        Handler::RefundOrder => tell(
            "Take back a paid order that is not shipped",
            "The copies go back to the shelf and the money to the buyer. 520: it is pending. 521: it is shipped, \
             completed or canceled. 519: the seller does not have the money any more.",
            &[511, 401, 518, 520, 521, 519],
            &[Handler::OrderStatus, Handler::QueryBalance],
        ),
        Handler::CancelExpired => tell(
            "Cancel what is unpaid and past its deadline",
            "Takes no body. It happens by itself anyway; this only forces the sweep. A failure is a 530 with the message \
             `not`.",
            &[530],
            &[],
        ),
        Handler::CheckStockLevel => tell("Ask for a stock level, as a buyer", "Open to everybody.", &[513, 515], &[]),
        Handler::CheckOrderCount => {
            tell("Count the orders of a user", "Whatever their state. An unknown user has 0.", &[], &[])
        }
        Handler::QueryBalance => tell("Ask for the balance", "In fen (1/100 yuan).", &[401], &[]),
        Handler::QueryBook => tell(
            "Look at a book",
            "The whole `book_info`, pictures included. A book that is off the shelf is given, too.",
            &[513, 515],
            &[],
        ),
        Handler::BuyerSearch => tell("Search for books, as a buyer", SEARCH_RULE, &[524, 525, 523, 530], &[]),
        Handler::SellerSearch => tell("Search for books, as a seller", SEARCH_RULE, &[524, 525, 523, 530], &[]),
        Handler::SearchBooks => {
            tell("Search for books; the message is the list itself", SEARCH_RULE, &[524, 525, 523, 530], &[])
        }
        Handler::Health => tell("Whether the process answers", "Looks at nothing else.", &[], &[]),
        Handler::Ready => tell(
            "Whether requests should be sent here",
            "503 while the journal is not sound or the service drains.",
            &[],
            &[],
        ),
        Handler::Metrics => tell("Counters for Prometheus", "With `--admin-listen` on that port only.", &[], &[]),
        Handler::OpenApi => tell("This document", "Made from the table of routes that the router reads.", &[], &[]),
        Handler::DocsPage | Handler::ShopPage | Handler::ConsolePage => return None,
        Handler::AdminStatus
        | Handler::AdminOrder
        | Handler::AdminUser
        | Handler::AdminSearch
        | Handler::AdminSnapshot
        | Handler::AdminAudit
        | Handler::AdminBackup
        | Handler::AdminBackupProgress
        | Handler::AdminDrain => return None,
    };
    Some(about)
}
