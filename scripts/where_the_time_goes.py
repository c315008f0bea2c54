#!/usr/bin/env python3
"""Where each microsecond of the server goes: a table of stages that sums up to the whole.

Starts the server, loads it, samples it with perf, and puts each sample into the stage that its innermost frame of a known
name belongs to; what only serves others (the allocator, copies) goes to whom it serves. Shares become microseconds of CPU
a request by the server's own CPU time over the same seconds. Wants perf, root, and a server with frame pointers:

    RUSTFLAGS=-Cforce-frame-pointers=yes cargo build --release --bin bookstore --target-dir target/profiled
    scripts/where_the_time_goes.py --server target/profiled/release/bookstore --loadtest target/release/loadtest

Arguments behind `--` go to `loadtest run`. `--folded FILE` writes the stacks as flame graph programs read them.
"""

import argparse
import collections
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

# By the name of the system call, for what happens in the kernel on the runtime's threads.
CALLS = [
    ("kernel: socket read", r"_(recv|recvfrom|recvmsg|read|readv)$"),
    ("kernel: socket write", r"_(send|sendto|sendmsg|writev)$"),
    # Only mio's waker writes to anything but a socket on these threads.
    ("kernel: wake-ups (futex, eventfd)", r"_(futex|write|sched_yield)$"),
    ("kernel: epoll", r"_epoll_"),
    ("kernel: connections (accept, close)", r"_(accept4?|close|shutdown|setsockopt|fcntl)$"),
]

# By the name of a function, from the innermost frame on: the first frame that any of them knows decides.
STAGES = [
    ("JSON in", r"serde_json|bookstore::http::(fields|json|hot|bodies|dispatch|buyer::new_order_fields)"),
    ("answer out", r"bookstore::http::(answer|orders)"),
    ("password, token, order id", r"bookstore::auth|jsonwebtoken|blake3|sha2|hmac|IdSource|uuid"),
    ("gate", r"Answers::(reply|release|advanced|remove)|release_durable|release_ready"),
    ("admission", r"Answers::(admit|insert)|bookstore::http::(passes|shed|turnstile)|engine::load"),
    ("encode", r"rmp|bookstore::domain::codec|encode_event"),
    ("append to the journal's buffer", r"bookstore::journal|crc32"),
    ("handle and apply", r"bookstore::domain"),
    ("actors: mailboxes, hops, sleep and wake", r"bookstore::actors|ractor"),
    ("engine: the call", r"bookstore::engine"),
    ("HTTP: ours around hyper", r"bookstore::http|bookstore::cli"),
    ("HTTP: hyper", r"hyper|httparse|^<?http::|http_body"),
    ("runtime: tasks, timers, polling", r"tokio|mio::"),
]
JOURNAL = "journal's thread: write, sync, tell"
COLD = "orders leave memory for the disk"
KERNEL = "kernel: interrupts, page faults"
OTHER = "not told apart"


def stage(comm, frames):
    """The stage of a stack, innermost frame first."""
    if comm == "journal":
        return JOURNAL
    if any(re.search(r"redb|bookstore::cold|engine::(overflow|leaving)", frame) for frame in frames):
        return COLD
    for frame in frames:
        # The last two are the C library's side of the same calls.
        if frame.startswith(("__x64_sys_", "__arm64_sys_", "__libc_recv", "__send")):
            for name, pattern in CALLS:
                if re.search(pattern, frame):
                    return name
            return "kernel: other calls"
    for frame in frames:
        for name, pattern in STAGES:
            if re.search(pattern, frame):
                return name
    return KERNEL if any(frame.startswith(("do_", "asm_", "irqentry_", "entry_")) for frame in frames) else OTHER


def samples(text):
    """(thread, frames) of each sample of `perf script`."""
    for block in text.split("\n\n"):
        lines = block.strip("\n").split("\n")
        if not lines[0].strip():
            continue
        comm = lines[0].split()[0]
        frames = []
        for line in lines[1:]:
            found = re.match(r"\s+[0-9a-f]+ (.*?)(?: \([^()]*\))?$", line)
            if found:
                frames.append(re.sub(r"\+0x[0-9a-f]+$", "", found[1]))
        yield comm, frames


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def requests(url):
    text = urllib.request.urlopen(url + "/metrics").read().decode()
    lines = [line for line in text.splitlines() if line.startswith("bookstore_http_requests_total{")]
    return sum(float(line.split()[1]) for line in lines if "/metrics" not in line)


def measure(args, directory):
    server = subprocess.Popen(
        [args.server, "--listen", "127.0.0.1:0", "--data-dir", directory + "/data", *args.server_arg],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        found = next(filter(None, (re.match(r"listening on (http://\S+)", line) for line in server.stdout)), None)
        if found is None:
            sys.exit("the server does not listen")
        url = found[1]
        seconds = args.seconds
        load = subprocess.Popen(
            [args.loadtest, "run", "--url", url, "--warmup", "1s", "--duration", f"{seconds + 3}s", *args.load],
            stdout=subprocess.PIPE, text=True)
        time.sleep(3)
        before = cpu_seconds(server.pid), requests(url), time.monotonic()
        data = directory + "/perf.data"
        subprocess.run(
            ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(args.frequency), "--call-graph", "fp",
             "-p", str(server.pid), "-o", data, "--", "sleep", str(seconds)],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cpu, done, took = (now - then for now, then in zip((cpu_seconds(server.pid), requests(url), time.monotonic()), before))
        print(load.communicate()[0].strip())
        if load.returncode != 0:
            sys.exit("the load failed")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
    script = subprocess.run(
        ["perf", "script", "-i", data, "--no-inline", "-F", "comm,ip,sym,dso"],
        check=True, capture_output=True, text=True).stdout
    return cpu, done, took, list(samples(script))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--server", default="target/profiled/release/bookstore")
    parser.add_argument("--server-arg", action="append", default=[])
    parser.add_argument("--loadtest", default="target/release/loadtest")
    parser.add_argument("--seconds", type=int, default=4, help="time that is sampled")
    parser.add_argument("--frequency", type=int, default=499, help="samples a second of each core")
    parser.add_argument("--dir", help="where the data directory is made and removed; default: that for temporary files")
    parser.add_argument("--folded", help="write the stacks to this file, one a line with its count")
    parser.add_argument("load", nargs="*", help="arguments for loadtest run, behind --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as directory:
        cpu, done, took, taken = measure(args, directory)
    if args.folded:
        stacks = collections.Counter(";".join([comm, *reversed(frames)]) for comm, frames in taken)
        with open(args.folded, "w") as out:
            out.writelines(f"{stack} {count}\n" for stack, count in stacks.items())
    each = cpu / done * 1e6
    print(f"{done / took:.0f} requests/s while sampled, {each:.2f} µs of the server's CPU each, {len(taken)} samples")
    counts = collections.Counter(stage(comm, frames) for comm, frames in taken)
    print("\n| stage | share | CPU µs a request |\n|---|---|---|")
    for name, count in counts.most_common():
        share = count / len(taken)
        print(f"| {name} | {share:.1%} | {share * each:.2f} |")
    print(f"| all of it | 100.0% | {each:.2f} |")


if __name__ == "__main__":
    main()
