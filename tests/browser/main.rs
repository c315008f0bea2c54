//! The pages in a real browser: Debian's chromium and its driver, the real program, real clicks.
//!
//! Where one of the two is missing it says that it was skipped; with `BOOKSTORE_BROWSER=required` that is a failure.
//! `cargo test --test browser -- NAME` runs the tests whose names contain NAME. A test that fails leaves a picture, and
//! `BOOKSTORE_SCREENSHOTS=DIR` says where pictures go. (Who wants to read the Chinese in them needs a font that has it, such
//! as fonts-wqy-microhei.)

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "tests; a browser can do more than one of them asks for"
)]

mod access;
#[path = "../common/mod.rs"]
mod common;
mod console;
mod docs;
mod document;
mod mishaps;
mod shop;
mod webdriver;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use webdriver::{Browser, Driver};

/// What a test gets.
pub struct Stage<'a> {
    driver: &'a Driver,
    test: &'a str,
}

impl Stage<'_> {
    /// A browser of its own, whose user prefers this language.
    pub fn browser(&self, language: &str) -> Browser<'_> {
        Browser::open(self.driver, self.test, language)
    }
}

type Test = (&'static str, fn(&Stage));

const TESTS: &[Test] = &[
    ("webdriver::complaints_are_seen", webdriver::complaints_are_seen),
    ("access::faults_are_seen", access::faults_are_seen),
    ("document::the_document_is_shown", document::the_document_is_shown),
    ("docs::every_route_is_told", docs::every_route_is_told),
    ("docs::a_route_is_tried", docs::a_route_is_tried),
    ("docs::it_fits_a_phone", docs::it_fits_a_phone),
    ("console::the_figures_move_under_load", console::the_figures_move_under_load),
    ("console::the_actions_act", console::the_actions_act),
    ("console::a_service_that_is_gone_is_told", console::a_service_that_is_gone_is_told),
    ("console::what_is_looked_up_is_shown", console::what_is_looked_up_is_shown),
    ("console::money_is_told_to_the_fen", console::money_is_told_to_the_fen),
    ("console::the_token_is_asked_for", console::the_token_is_asked_for),
    ("shop::a_whole_purchase_by_clicks", shop::a_whole_purchase_by_clicks),
    ("shop::the_same_in_english", shop::the_same_in_english),
    ("shop::what_is_clicked_or_sent_twice_is_done_once", shop::what_is_clicked_or_sent_twice_is_done_once),
    ("shop::a_wrong_password_and_a_forgotten_one", shop::a_wrong_password_and_a_forgotten_one),
    ("shop::a_busy_shop_is_asked_again", shop::a_busy_shop_is_asked_again),
    ("shop::a_seller_changes_what_is_on_the_shelf", shop::a_seller_changes_what_is_on_the_shelf),
    ("shop::results_come_in_pages", shop::results_come_in_pages),
    ("shop::a_buyer_takes_more_time", shop::a_buyer_takes_more_time),
    ("shop::an_account_that_is_gone", shop::an_account_that_is_gone),
    ("shop::what_people_write_is_text", shop::what_people_write_is_text),
    ("shop::it_fits_a_phone", shop::it_fits_a_phone),
    ("mishaps::a_browser_that_keeps_nothing", mishaps::a_browser_that_keeps_nothing),
    ("mishaps::a_question_that_was_left", mishaps::a_question_that_was_left),
    ("mishaps::a_basket_is_changed_where_it_stands", mishaps::a_basket_is_changed_where_it_stands),
    ("mishaps::an_answer_that_never_comes", mishaps::an_answer_that_never_comes),
    ("mishaps::a_seller_with_many_orders", mishaps::a_seller_with_many_orders),
    ("mishaps::ids_that_nobody_would_choose", mishaps::ids_that_nobody_would_choose),
    ("mishaps::what_was_typed_stays_in_another_language", mishaps::what_was_typed_stays_in_another_language),
    ("mishaps::amounts_are_read_as_they_are_written", mishaps::amounts_are_read_as_they_are_written),
    ("mishaps::a_logout_whose_answer_is_lost", mishaps::a_logout_whose_answer_is_lost),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let Err(why) = webdriver::is_installed() {
        println!("browser: SKIPPED, {why} (apt-get install chromium chromium-driver)");
        return match std::env::var("BOOKSTORE_BROWSER").as_deref() {
            Ok("required") => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        };
    }
    let driver = Driver::start();
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, test) in TESTS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let began = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| test(&Stage { driver: &driver, test: name })));
        let outcome = if done.is_ok() { "ok" } else { "FAILED" };
        println!("browser: {name} … {outcome}, {:.1} s", began.elapsed().as_secs_f64());
        match done {
            Ok(()) => passed += 1,
            Err(_) => failed.push(*name),
        }
    }
    println!("browser: {passed} passed, {} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
