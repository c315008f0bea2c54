//! What the words on the command line mean.

use std::fmt;
use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use serde::Serialize;

use crate::mix::Mix;

/// What is done with an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// new_order, then payment of the same order: two requests.
    Paid,
    /// new_order alone: one request. The orders stay pending.
    NewOrder,
    /// new_order, payment, and refund_order of the same order: three requests, after which all is as it was.
    Refunded,
    /// new_order, pay_to_platform, ship: three requests. The server confirms the orders by itself: the audit waits for
    /// that, so start it with a short `--auto-confirm`.
    Shipped,
}

impl fmt::Display for Scenario {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Paid => "paid",
            Self::NewOrder => "new-order",
            Self::Refunded => "refunded",
            Self::Shipped => "shipped",
        })
    }
}

/// How long a TCP connection lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ConnectionMode {
    /// One connection for the whole run.
    Kept,
    /// A new connection for each request, as old clients do.
    PerRequest,
}

/// How many lines an order has: from `min` to `max`, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LineRange {
    /// At least one.
    pub(crate) min: usize,
    /// At least `min`.
    pub(crate) max: usize,
}

/// How many connections work and for how long: flags whose defaults differ from subcommand to subcommand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Connections that each send a request, wait for its answer, and send the next.
    pub(crate) connections: u32,
    /// Time that is measured.
    pub(crate) duration: Duration,
}

/// The shape of the load: flags that all subcommands share which load a server. What is not given of people, stores,
/// books and lines is as the mix has it.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) mix: Mix,
    /// Time before the measured time.
    pub(crate) warmup: Duration,
    pub(crate) buyers: u32,
    pub(crate) stores: u32,
    /// In each store.
    pub(crate) books: u32,
    pub(crate) lines: LineRange,
    pub(crate) connection: ConnectionMode,
    pub(crate) seed: u64,
    /// Requests carry an `Idempotency-Key`.
    pub(crate) keys: bool,
    pub(crate) timeout: Duration,
}

/// The flags behind [`Load`].
#[derive(Args)]
#[command(next_help_heading = "The load")]
struct LoadFlags {
    /// Who buys what where.
    #[arg(long, value_enum, default_value = "reference")]
    mix: Mix,
    /// Time before the measured time: its requests count for the audit, not for the figures.
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    warmup: Duration,
    /// Users who buy, if not as many as the mix has. A server limits the pending orders of one user: long new-order
    /// runs need more of them. Four orders are made ready for each, 65,536 at most.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    buyers: Option<u32>,
    /// Stores, each with an owner of its own, if not as many as the mix has.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    stores: Option<u32>,
    /// Books in each store, if not as many as the mix has.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    books: Option<u32>,
    /// Lines of an order, FROM..TO, both included, or one number; 1..10 in every mix.
    #[arg(long, value_parser = parse_lines)]
    lines: Option<LineRange>,
    /// Whether connections are kept or made anew for each request.
    #[arg(long, value_enum, default_value = "kept")]
    connection: ConnectionMode,
    /// Seed of the pseudo-random orders: the same seed makes the same orders.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Send no `Idempotency-Key`: then a request whose answer is lost is not sent again, and nobody knows its outcome.
    #[arg(long = "no-keys", action = clap::ArgAction::SetFalse)]
    keys: bool,
    /// How long after the measured time answers are waited for; what is still open then counts as outcome unknown.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
}

impl From<LoadFlags> for Load {
    fn from(flags: LoadFlags) -> Self {
        let LoadFlags { mix, warmup, buyers, stores, books, lines, connection, seed, keys, timeout } = flags;
        let shape = mix.shape();
        Self {
            mix,
            warmup,
            buyers: buyers.unwrap_or(shape.buyers),
            stores: stores.unwrap_or(shape.stores),
            books: books.unwrap_or(shape.books),
            lines: lines.unwrap_or(shape.lines),
            connection,
            seed,
            keys,
            timeout,
        }
    }
}

impl Args for Load {
    fn augment_args(command: Command) -> Command {
        LoadFlags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        LoadFlags::augment_args_for_update(command)
    }
}

impl FromArgMatches for Load {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        LoadFlags::from_arg_matches(matches).map(Self::from)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A whole number with a unit: `ms`, `s`, `m` or `h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` does not begin with a whole number"))?;
    let ms_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("`{text}` needs a unit: ms, s, m or h")),
    };
    number
        .checked_mul(ms_per_unit)
        // A year is more than any run takes and keeps all later sums of instants sound.
        .filter(|ms| *ms <= 365 * 24 * 3_600_000)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is too long"))
}

/// A rate such as `5000/s`, in requests a second.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").ok_or_else(|| format!("`{text}` must be N/s, requests a second"))?;
    // More than any generator sends; keeps the gaps between them above a nanosecond.
    positive(number).and_then(|rate| if rate <= 1e8 { Ok(rate) } else { Err(format!("`{text}` is too much")) })
}

/// A share such as `10%`, as a number: 0.1.
pub(crate) fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').ok_or_else(|| format!("`{text}` must be N%"))?;
    positive(number).map(|percent| percent / 100.0)
}

/// A number above 0.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err(format!("`{text}` must be above 0")) }
}

/// `1..10`, both ends included, or a single number.
pub(crate) fn parse_lines(text: &str) -> Result<LineRange, String> {
    let number = |part: &str| part.parse::<usize>().map_err(|_| format!("`{part}` is not a number of lines"));
    let (min, max) = match text.split_once("..") {
        Some((min, max)) => (number(min)?, number(max.trim_start_matches('='))?),
        None => (number(text)?, number(text)?),
    };
    if min == 0 || max < min {
        return Err(format!("`{text}` must be FROM..TO with 1 <= FROM <= TO"));
    }
    Ok(LineRange { min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3_600)));
        for wrong in ["", "10", "s", "1.5s", "-1s", "10 s", "10S", "99999999999999999999s", "9999999h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn positive_numbers() {
        assert_eq!(positive("1.5"), Ok(1.5));
        assert!(["0", "-1", "x", "inf", "NaN", ""].iter().all(|wrong| positive(wrong).is_err()));
    }

    #[test]
    fn rates_and_shares_have_their_unit() {
        assert_eq!(parse_rate("5000/s"), Ok(5_000.0));
        assert_eq!(parse_rate("0.5/s"), Ok(0.5));
        assert!(["5000", "5000/m", "0/s", "/s", "1e9/s", "NaN/s"].iter().all(|wrong| parse_rate(wrong).is_err()));
        assert_eq!(parse_percent("10%"), Ok(0.1));
        assert!(["10", "0%", "-1%", "%"].iter().all(|wrong| parse_percent(wrong).is_err()));
    }

    #[test]
    fn flags_replace_what_the_mix_has() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            load: Load,
        }
        let load = |flags: &[&str]| <Cli as clap::Parser>::try_parse_from([&["x"], flags].concat()).unwrap().load;
        let all = |load: Load| (load.buyers, load.stores, load.books, load.lines.max);
        assert_eq!(all(load(&[])), (10, 4, 100, 10));
        assert_eq!(all(load(&["--mix", "catalogue", "--books", "7", "--lines", "3"])), (100, 4, 7, 3));
        assert!(!load(&["--no-keys"]).keys && load(&[]).keys);
    }

    #[test]
    fn line_ranges_include_both_ends() {
        assert_eq!(parse_lines("1..10"), Ok(LineRange { min: 1, max: 10 }));
        assert_eq!(parse_lines("2..=3"), Ok(LineRange { min: 2, max: 3 }));
        assert_eq!(parse_lines("5"), Ok(LineRange { min: 5, max: 5 }));
        for wrong in ["", "0", "0..3", "4..3", "1..", "..2", "a..b", "1..2..3"] {
            assert!(parse_lines(wrong).is_err(), "{wrong}");
        }
    }
}
