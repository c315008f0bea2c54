//! That a step is told as one of the request that it is done for, and of no other.

use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::{Config, Credential, Engine, NewBook, NewLine};
use crate::trace::{self, Request};

/// The steps that were told, each with the id of its request.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(String, String)>>>);

impl Told {
    fn of(&self, id: &str) -> Vec<String> {
        let told = self.0.lock().unwrap();
        told.iter().filter(|(request, _)| request == id).map(|(_, step)| step.clone()).collect()
    }
}

impl<S: Subscriber> Layer<S> for Told {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Step<'a>(&'a Told);
        impl Visit for Step<'_> {
            fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

            fn record_str(&mut self, field: &Field, value: &str) {
                if field.name() == "step" {
                    let id = trace::current().id().map(|id| id.to_string()).unwrap_or_default();
                    self.0.0.lock().unwrap().push((id, value.to_owned()));
                }
            }
        }
        event.record(&mut Step(self));
    }
}

async fn within<T>(id: &str, work: impl Future<Output = T>) -> T {
    let mut request = Request::begin(Some(id), "/test");
    trace::within(&mut request, std::pin::pin!(work)).await
}

/// On one thread: the second command comes while the first one's saga is under way, waits for it, and is judged by its last
/// step. What follows is the second one's all the same.
#[tokio::test]
async fn who_waited_for_a_saga_goes_on_under_his_own_id() {
    let told = Told::default();
    let _told = tracing::subscriber::set_default(tracing_subscriber::registry().with(told.clone()));
    let engine = Engine::open(Config::memory()).await.unwrap();
    let who = Credential::Trusted;
    for user in ["seller", "buyer"] {
        engine.register(user, "p").await.unwrap();
    }
    engine.add_funds("buyer", who, 1_000).await.unwrap();
    engine.create_store("seller", who, "store").await.unwrap();
    let book = NewBook { id: "book", price: 100, document: "{}" };
    engine.add_book("seller", who, "store", book, 5).await.unwrap();
    let lines = [NewLine { book_id: "book", count: 1 }];
    let placed = within("place", engine.new_order("buyer", who, "store", &lines)).await.unwrap().to_string();
    assert_eq!(told.of("place")[..3], ["place", "reserve", "reserved"]);

    let paid = within("pay", engine.pay_to_platform("buyer", &placed, who));
    let refunded = within("refund", engine.refund_order("buyer", &placed, who));
    let (paid, refunded) = tokio::join!(paid, refunded);
    paid.unwrap();
    refunded.unwrap();
    assert_eq!(told.of("pay")[..3], ["pay", "debit", "debited"]);
    let refund = told.of("refund");
    assert_eq!(refund.iter().filter(|step| *step == "refund").count(), 2, "it did not wait: {refund:?}");
    for step in ["credit", "release", "released"] {
        assert!(refund.contains(&step.to_owned()), "{step}: {refund:?}");
    }
    assert!(told.of("").iter().all(|step| !["debit", "release"].contains(&step.as_str())));
    engine.close().await.unwrap();
}
