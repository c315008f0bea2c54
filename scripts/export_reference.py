#!/usr/bin/env python3
"""Exports the Flask + SQLAlchemy bookstore to the load format (docs/load-format.md).

    python3 scripts/export_reference.py bookstore.db -o shop.jsonl
    python3 scripts/export_reference.py postgresql://user:password@host/dbname -o shop.jsonl
    bookstore load shop.jsonl data --order-ids ids.jsonl

Python 3.9 or later. SQLite needs nothing else; PostgreSQL needs psycopg 3 or psycopg2. It reads in one transaction and
changes nothing. Stop the old service first, else what changes meanwhile is not exported.

Deployments differ in their names. TABLES and COLUMNS below list what is looked for, the first that exists is taken;
change them, or say `--table orders=my_orders --column orders.created_time=placed_at`. `--show` prints what was found.

What the tables do not say:
- Passwords stand in the users table in clear. They are exported so, as `password`, and hashed by `bookstore load`: keep
  the file as you keep the database, and remove it afterwards.
- Whether the platform or the seller holds the money of an order that is paid and not completed: --paid-to.
- The time zone of times without one: --utc-offset. Orders without a time get the time of the export.
- An order that the old service deleted when it was paid is not there to be exported.
"""

import argparse
import ast
import base64
import contextlib
import datetime
import itertools
import json
import os
import sqlite3
import sys

# What a table is for -> names that it may have.
TABLES = {
    "users": ["user", "users", "usr", "account", "accounts"],
    "stores": ["user_store", "user_stores", "store_owner", "seller_store", "stores"],
    "store_books": ["store", "store_book", "store_books", "inventory", "stock"],
    "books": ["book", "books", "book_info"],
    "orders": ["new_order", "new_orders", "orders", "order", "order_info"],
    "order_lines": ["new_order_detail", "new_order_details", "order_detail", "order_details", "order_item", "order_items"],
}

# Table and what a column is for -> names that it may have.
COLUMNS = {
    "users": {
        "user_id": ["user_id", "uid", "username", "id"],
        "password": ["password", "password_hash", "passwd", "pwd"],
        "balance": ["balance", "money", "funds"],
    },
    "stores": {
        "store_id": ["store_id", "sid", "id"],
        "user_id": ["user_id", "owner_id", "seller_id", "owner", "uid"],
    },
    "store_books": {
        "store_id": ["store_id", "sid"],
        "book_id": ["book_id", "bid", "id"],
        "stock_level": ["stock_level", "stock", "quantity", "level"],
        "book_info": ["book_info", "info", "document"],
        "price": ["price", "book_price"],
    },
    # Only if the table of the stores' books has no book_info.
    "books": {
        "id": ["id", "book_id", "bid"],
        "title": ["title", "name"],
        "author": ["author"], "publisher": ["publisher"], "original_title": ["original_title"],
        "translator": ["translator"], "pub_year": ["pub_year"], "pages": ["pages"], "price": ["price"],
        "currency_unit": ["currency_unit"], "binding": ["binding"], "isbn": ["isbn"], "author_intro": ["author_intro"],
        "book_intro": ["book_intro"], "content": ["content"], "tags": ["tags"], "pictures": ["pictures", "picture"],
    },
    "orders": {
        "order_id": ["order_id", "oid", "id"],
        "user_id": ["user_id", "buyer_id", "buyer", "uid"],
        "store_id": ["store_id", "sid"],
        "status": ["status", "order_status", "state"],
        "created_time": ["created_time", "create_time", "created_at", "order_time", "timestamp", "time"],
        "is_paid": ["is_paid", "paid"],
        "is_shipped": ["is_shipped", "shipped", "is_sent"],
        "is_received": ["is_received", "received"],
        "order_completed": ["order_completed", "is_completed", "completed"],
        "is_canceled": ["is_canceled", "is_cancelled", "canceled", "cancelled"],
    },
    "order_lines": {
        "order_id": ["order_id", "oid"],
        "book_id": ["book_id", "bid"],
        "count": ["count", "quantity", "num", "amount"],
        "price": ["price", "unit_price"],
    },
}

REQUIRED = {
    "users": ["user_id", "password"],
    "stores": ["store_id", "user_id"],
    "store_books": ["store_id", "book_id"],
    "orders": ["order_id", "user_id", "store_id"],
    "order_lines": ["order_id", "book_id", "count", "price"],
}

# What stands in the status column -> the contract's word. Numbers as text.
STATUS = {
    "pending": "pending", "unpaid": "pending", "created": "pending", "new": "pending",
    "paid": "paid", "shipped": "shipped", "delivering": "shipped", "sent": "shipped", "received": "received",
    "completed": "completed", "complete": "completed", "done": "completed", "finished": "completed",
    "canceled": "canceled", "cancelled": "canceled",
}

TEXTS = ["author", "publisher", "original_title", "translator", "pub_year", "currency_unit", "binding", "isbn",
         "author_intro", "book_intro", "content"]


class Stop(Exception):
    """Something that a person has to look at."""


def main():
    args = arguments()
    try:
        with contextlib.closing(connect(args.database)) as database:
            export(database, args)
    except Stop as why:
        print(f"export_reference: {why}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Who reads stdout has seen enough; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as why:
        print(f"export_reference: cannot write {args.output}: {why}", file=sys.stderr)
        return 1
    return 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", help="a SQLite file, or a postgresql:// URL")
    parser.add_argument("-o", "--output", default="-", help="the file to write (default: stdout)")
    parser.add_argument("--table", action="append", default=[], metavar="WHAT=NAME", help="as in orders=my_orders")
    parser.add_argument("--column", action="append", default=[], metavar="WHAT.COLUMN=NAME",
                        help="as in orders.created_time=placed_at")
    parser.add_argument("--paid-to", choices=["seller", "platform"], default="seller",
                        help="who holds the money of orders that are paid and not completed (default: seller)")
    parser.add_argument("--utc-offset", default="+00:00", metavar="+HH:MM", help="of times without a time zone")
    parser.add_argument("--show", action="store_true", help="print which tables and columns are taken, and end")
    args = parser.parse_args()
    try:
        args.zone = datetime.datetime.fromisoformat("2000-01-01T00:00:00" + args.utc_offset).tzinfo
        if args.zone is None:
            raise ValueError
    except ValueError:
        parser.error(f"--utc-offset {args.utc_offset}: must be as in +08:00")
    for name in ("table", "column"):
        for pair in getattr(args, name):
            if "=" not in pair or (name == "column" and "." not in pair.split("=")[0]):
                parser.error(f"--{name} {pair}: must be as in the help")
    return args


# Databases: both are asked in plain SQL.

def connect(name):
    if "://" in name:
        return Postgres(name)
    if not os.path.isfile(name):
        raise Stop(f"{name}: no such file; PostgreSQL is named as postgresql://…")
    return Sqlite(name)


class Sqlite:
    def __init__(self, name):
        path = os.path.abspath(name).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        self.connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            self.connection.execute("BEGIN")
            self.names = {row[0].lower(): row[0] for row in self.connection.execute(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
        except sqlite3.DatabaseError as error:
            raise Stop(f"{name}: {error}") from error

    def columns(self, table):
        return [row[1] for row in self.connection.execute(f"PRAGMA table_info({quoted(table)})")]

    def rows(self, query):
        return self.connection.execute(query)

    def close(self):
        self.connection.close()


class Postgres:
    def __init__(self, name):
        try:
            import psycopg as driver
        except ImportError:
            try:
                import psycopg2 as driver
            except ImportError:
                raise Stop("PostgreSQL needs a driver: pip install 'psycopg[binary]' (or psycopg2-binary)") from None
        # SQLAlchemy's names tell its driver, too: postgresql+psycopg2://
        scheme, _, rest = name.partition("://")
        try:
            self.connection = driver.connect(scheme.split("+")[0] + "://" + rest)
            self.cursor("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            found = self.cursor("SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()")
            self.names = {row[0].lower(): row[0] for row in found.fetchall()}
        except driver.Error as error:
            raise Stop(str(error).strip()) from error
        self.numbers = itertools.count()

    def cursor(self, query):
        cursor = self.connection.cursor()
        cursor.execute(query)
        return cursor

    def columns(self, table):
        query = "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = "
        return [row[0] for row in self.cursor(query + "'" + table.replace("'", "''") + "'").fetchall()]

    def rows(self, query):
        # A cursor with a name stays in the server, so that a million rows do not come at once.
        with self.connection.cursor(name=f"export_{next(self.numbers)}") as cursor:
            cursor.itersize = 10_000
            cursor.execute(query)
            yield from cursor

    def close(self):
        self.connection.close()


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


class Found:
    """A table of the database with the columns that were found."""

    def __init__(self, what, table, columns):
        self.what, self.table, self.columns = what, table, columns

    def select(self, database):
        names = ", ".join(quoted(name) for name in self.columns.values())
        for row in database.rows(f"SELECT {names} FROM {quoted(self.table)}"):
            yield dict(zip(self.columns, row))


def find(database, args):
    tables = {what: list(names) for what, names in TABLES.items()}
    columns = {what: {role: list(names) for role, names in roles.items()} for what, roles in COLUMNS.items()}
    for pair in args.table:
        what, name = pair.split("=", 1)
        if what not in tables:
            raise Stop(f"--table {pair}: is none of {', '.join(tables)}")
        tables[what] = [name]
    for pair in args.column:
        where, name = pair.split("=", 1)
        what, role = where.split(".", 1)
        if role not in columns.get(what, {}):
            raise Stop(f"--column {pair}: there is no {where}")
        columns[what][role] = [name]
    found = {}
    for what, names in tables.items():
        for name in names:
            table = database.names.get(name.lower())
            if table is None or any(table == other.table for other in found.values()):
                continue
            there = {column.lower(): column for column in database.columns(table)}
            roles = {}
            for role, candidates in columns[what].items():
                column = next((there[candidate.lower()] for candidate in candidates if candidate.lower() in there), None)
                if column is not None:
                    roles[role] = column
            if all(role in roles for role in REQUIRED.get(what, [])):
                found[what] = Found(what, table, roles)
                break
    for what in ("users", "stores", "store_books"):
        if what not in found:
            names = ", ".join(sorted(database.names.values())) or "no table"
            raise Stop(f"no table of {what} with {', '.join(REQUIRED[what])} was found; there is: {names}. "
                       f"Name it: --table {what}=NAME, --column {what}.COLUMN=NAME")
    for pair in args.table + args.column:
        what = pair.split("=")[0].split(".")[0]
        if what not in found:
            raise Stop(f"{pair}: there is no such table, or it lacks {', '.join(REQUIRED.get(what, []))}")
    return found


def export(database, args):
    found = find(database, args)
    if args.show:
        for what, table in found.items():
            pairs = ", ".join(f"{role}={column}" for role, column in table.columns.items())
            print(f"{what}={table.table}: {pairs}")
        return
    if args.output == "-":
        write(database, found, args, sys.stdout)
        return
    part = args.output + ".part"
    # For its owner only: there are passwords in it.
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as output:
        try:
            write(database, found, args, output)
        except BaseException:
            os.remove(part)
            raise
    os.replace(part, args.output)


def write(database, found, args, output):
    counts = dict.fromkeys(["account", "store", "book", "order"], 0)
    notes = []

    def put(line):
        counts[line["type"]] += 1
        output.write(json.dumps(line, ensure_ascii=False, separators=(",", ":"), default=str) + "\n")

    for row in found["users"].select(database):
        put(account(row))
    # The owners' table may name a store more than once, where it also lists its books.
    known = set()
    for row in found["stores"].select(database):
        if row["store_id"] not in known:
            known.add(row["store_id"])
            put({"type": "store", "store_id": str(row["store_id"]), "user_id": str(row["user_id"])})
    details = book_details(database, found)
    for row in found["store_books"].select(database):
        info = book_info(row, details)
        stock = row.get("stock_level")
        put({"type": "book", "store_id": str(row["store_id"]), "stock_level": 0 if stock is None else int(stock),
             "book_info": info})
    if "orders" in found and "order_lines" in found:
        for line in orders(database, found, args, notes):
            put(line)
    else:
        notes.append("no tables of orders and their lines were found, so there are none")
    output.flush()
    counted = ", ".join(f"{count} {name}s" for name, count in counts.items())
    print(f"export_reference: {counted}", file=sys.stderr)
    for note in notes:
        print(f"export_reference: {note}", file=sys.stderr)


def account(row):
    password = str(row["password"])
    field = "password_hash" if password.startswith("$argon2id$") else "password"
    return {"type": "account", "user_id": str(row["user_id"]), field: password, "balance": int(row.get("balance") or 0)}


def book_details(database, found):
    """The rows of the table of books by id, if the stores' table does not hold them."""
    if "book_info" in found["store_books"].columns or "books" not in found or "id" not in found["books"].columns:
        return {}
    return {str(row["id"]): row for row in found["books"].select(database)}


def book_info(row, details):
    book = str(row["book_id"])
    if row.get("book_info") is not None:
        info = row["book_info"]
        if isinstance(info, (bytes, str)):
            info = parsed(info, book)
        info = dict(info)
    else:
        info = from_columns(details.get(book, {}))
    info["id"] = book
    info["title"] = str(info.get("title") or book)
    # What an order pays is the price of the store's own row, where there is one.
    if row.get("price") is not None:
        info["price"] = row["price"]
    if info.get("price") is None:
        raise Stop(f"the book {book} of store {row['store_id']} has no price")
    info["price"] = int(info["price"])
    return info


def parsed(text, book):
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        info = json.loads(text)
    except ValueError:
        # What str() makes of a dict.
        try:
            info = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            raise Stop(f"the book_info of book {book} is neither JSON nor a Python dict") from None
    if not isinstance(info, dict):
        raise Stop(f"the book_info of book {book} is not an object")
    return info


def from_columns(row):
    info = {"id": None, "title": row.get("title")}
    for name in TEXTS:
        if row.get(name) is not None:
            info[name] = str(row[name])
    for name in ("pages", "price"):
        if row.get(name) is not None:
            info[name] = int(row[name])
    info["tags"] = texts(row.get("tags"))
    info["pictures"] = texts(row.get("pictures"))
    return info


def texts(value):
    """A list, in JSON or one a line; bytes are a picture."""
    if value is None or value == "":
        return []
    if isinstance(value, memoryview):
        value = bytes(value)
    if isinstance(value, bytes):
        return [base64.b64encode(value).decode("ascii")]
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            value = json.loads(value)
        else:
            value = [part for part in value.split("\n") if part]
    return [str(part) for part in value]


def orders(database, found, args, notes):
    order, line = found["orders"], found["order_lines"]
    names = [f"o.{quoted(column)}" for column in order.columns.values()]
    names += [f"l.{quoted(line.columns[role])}" for role in ("book_id", "count", "price")]
    key = quoted(order.columns["order_id"])
    query = (f"SELECT {', '.join(names)} FROM {quoted(order.table)} o LEFT JOIN {quoted(line.table)} l "
             f"ON l.{quoted(line.columns['order_id'])} = o.{key} ORDER BY o.{key}")
    now = datetime.datetime.now(datetime.timezone.utc)
    width = len(order.columns)
    paid, untimed = 0, 0
    for _, rows in itertools.groupby(database.rows(query), key=lambda row: row[list(order.columns).index("order_id")]):
        rows = list(rows)
        row = dict(zip(order.columns, rows[0][:width]))
        books = [{"id": str(book), "count": int(count), "price": int(price)}
                 for book, count, price in (each[width:] for each in rows) if book is not None]
        state = status(row)
        out = {"type": "order", "order_id": str(row["order_id"]), "user_id": str(row["user_id"]),
               "store_id": str(row["store_id"]), "status": state}
        if state in ("paid", "shipped", "received"):
            paid += 1
            out["paid_to"] = args.paid_to
        if state in ("received", "completed") and row.get("is_shipped") is not None:
            out["is_shipped"] = bool(row["is_shipped"])
        at = row.get("created_time")
        untimed += at is None
        out["created_time"] = milliseconds(now if at is None else at, args.zone, row["order_id"])
        out["books"] = books
        yield out
    if paid:
        notes.append(f"{paid} orders are paid and not completed; their money is taken to be the {args.paid_to}'s "
                     "(--paid-to seller or platform)")
    if untimed:
        notes.append(f"{untimed} orders have no time and got that of the export")


def status(row):
    if row.get("status") is not None:
        value = str(row["status"]).strip().lower()
        if value not in STATUS:
            raise Stop(f"order {row['order_id']} has the status {row['status']!r}; say in STATUS what that is")
        return STATUS[value]
    flags = [("is_canceled", "canceled"), ("order_completed", "completed"), ("is_received", "received"),
             ("is_shipped", "shipped"), ("is_paid", "paid")]
    return next((word for flag, word in flags if row.get(flag)), "pending")


def milliseconds(value, zone, order):
    """Since 1970. Numbers are seconds or, if they are too large for that, milliseconds."""
    if isinstance(value, str):
        text = value.strip()
        try:
            value = float(text)
        except ValueError:
            try:
                # Python before 3.11 does not know the letter.
                value = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
            except ValueError:
                raise Stop(f"order {order} has the time {text!r}, which is not understood") from None
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=zone)
        return round(value.timestamp() * 1000)
    return int(value) if value > 1e11 else round(float(value) * 1000)


if __name__ == "__main__":
    sys.exit(main())
