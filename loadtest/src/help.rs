//! What `--help` says beyond the flags.

/// What this is.
pub(crate) const ABOUT: &str = "\
Load generator and measuring tool for servers that speak the bookstore contract.

It makes up people, stores and books over HTTP, loads the server with orders and
payments, and then compares every stock level, every balance and the sum of all
money with what the server acknowledged. It knows a server by its URL only.";

/// Loops, units, exit statuses, examples.
pub(crate) const MORE: &str = "\
Closed and open loop:
  In a closed loop (the default) each connection sends a request, waits for its
  answer, and sends the next. It finds out how much a server can do. A server that
  gets slow is asked less, so the latencies of a closed loop are those of a full
  server, and a pause of it is in one latency for each connection only.
  In an open loop (`run --rate N/s`; `overload` and `crowd` as well) requests are due
  at random moments, N a second on average, whether or not earlier ones were
  answered. Latency counts from the moment a request was due, so a pause is in the
  latency of everything that was due in it. It finds out how long a server takes at
  a load that you choose. Choose one below what the closed loop reaches.
  A request that finds every connection occupied waits for one. What still waits at
  the end of the measured time is sent after it, for --timeout at most; the rest is
  never sent: an error, and in the latency of all with the time it had waited
  (`overload` sends too much anyway: it drops what waits at its end).

Units:
  Durations have one: 500ms, 10s, 2m, 1h. Rates are requests a second: 5000/s. An
  order with its payment is two requests. Latencies are printed in ms and written in
  µs; p99 is what 99 of 100 requests did not exceed. Money is in fen.

Exit status:
  0  it ran, and all that was checked is right
  1  it ran, and something is wrong: nothing was sold, the audit disagrees, a promise
     was not kept, or it is worse than the baseline by more than was permitted
  2  it did not run: wrong flags, no server, a file that cannot be read or written,
     or a signal ended it

Examples:
  bookstore --data-dir data &
  loadtest run                               10 s of orders and payments, 64 connections
  loadtest run --mix hot-store --pid $!      one busy store; the server's CPU as well
  loadtest run --rate 5000/s --duration 1m --html report.html
                                             latency at 5,000 requests/s, as a page
  loadtest run --json now.json --baseline before.json --fail-on-regression 10%
                                             exit status 1 if it got worse
  loadtest compare                           beside a bare server, PostgreSQL, Redis, axum
`loadtest run --help` tells the mixes and what the report holds.";

/// What `run` does and what its report holds.
pub(crate) const RUN: &str = "\
The run:
  1. The latency of a disk sync is measured in --temp-dir.
  2. People are registered, stores opened and filled, as the mix has it. Each run has
     its own, so many may follow each other on the same server. The orders are made
     ready and then sent over and over: 1,024 (the catalogue: 8,192), or four for each
     buyer or store if that is more, 65,536 at most. So of more than 16,000 buyers some
     never buy.
  3. The load, first for --warmup, then for --duration. Progress is on standard error.
     Beside it a seller changes prices and takes books off the shelf, and a buyer
     orders them (not with --no-audit).
  4. The audit. Requests of the warm-up are part of it.

The report:
  On standard output: requests and latencies by route, CPU time a request, errors by
  code, the journal, the audit. --json writes all of it with each second, the
  percentile curve and the environment; its shape has a number (`schema`) and stands
  in docs/loadtest-json.md. --html writes one page with charts that needs no other
  file. Both hold the command lines of this tool and, with --pid, of the server.
  The journal's figures come from the server's /metrics, once a second, if it has one.

Examples:
  loadtest run --connection per-request --connections 16
  loadtest run --mix browse --rate 2000/s --html browse.html
  loadtest run --scenario new-order --buyers 100 --duration 1m
  loadtest run --mix catalogue --books 500   a smaller catalogue

Exit status: 0 all right; 1 nothing sold, the audit disagrees, or worse than the
baseline by more than --fail-on-regression (answers 200 and operations a second, p99
of all and by route, and 0.1 percentage points of errors); 2 it did not run, or the
baseline is of another load.";
