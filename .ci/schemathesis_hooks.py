"""Lets requests meet: else no two would ever be about the same user, store or book, and chains of them would end at once.

What is generated gets few names and one password. What opens something gets a new name most of the time, so that it is not taken.
A request that should succeed, and is about a user nobody knows, is made one of somebody who was seen before: a user with his
token, his store, a book in it, an order. What comes along a link is known already and stays, and so does what is wrong on
purpose.
"""

import itertools
import json
import random
import time
import urllib.request

import schemathesis
from schemathesis import GenerationMode
from schemathesis.generation.meta import TestPhase

PASSWORD = "pa55word"
NAMES = {"user_id": "user", "store_id": "store", "book_id": "book", "id": "book"}
NEW = {"/auth/register": "user_id", "/seller/create_store": "store_id"}

numbers = itertools.count(1)
chance = random.Random(7)


def is_sound(value, longest):
    return isinstance(value, str) and 1 <= len(value.encode("utf-8", "replace")) <= longest and value.isprintable()


def with_few_names(fields):
    # What is wrong stays wrong, and some of what is right stays as it is.
    for name, stem in NAMES.items():
        value = fields.get(name)
        if is_sound(value, 256) and len(value) % 5:
            fields[name] = f"{stem}{len(value) % 2}"
    for name in ("password", "oldPassword", "newPassword"):
        if is_sound(fields.get(name), 1024):
            fields[name] = PASSWORD
    for inner in [fields.get("book_info"), *(fields.get("books") if isinstance(fields.get("books"), list) else [])]:
        if isinstance(inner, dict):
            with_few_names(inner)


def with_new_name(path, fields):
    if path == "/seller/add_book" and isinstance(fields.get("book_info"), dict):
        fields, name = fields["book_info"], "id"
    else:
        name = NEW.get(path)
    value = fields.get(name)
    if is_sound(value, 256) and len(value) % 4:
        fields[name] = f"new-{next(numbers)}"


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict):
        with_few_names(body)
        with_new_name(context.operation.path, body)
    return body


class Shop:
    """What was answered with 200 so far."""

    def __init__(self):
        self.tokens = {}  # of each user; None when he has none
        self.owners = {}  # of each store
        self.books = []  # (store, book)
        self.orders = []  # (buyer, store, order)

    def learn(self, path, body, answer):
        user, store = body.get("user_id"), body.get("store_id")
        if path == "/auth/register":
            self.tokens[user] = None
        elif path == "/auth/login":
            self.tokens[user] = answer["token"]
        elif path in ("/auth/logout", "/auth/password"):
            self.tokens[user] = None
        elif path == "/auth/unregister":
            self.tokens.pop(user, None)
        elif path == "/seller/create_store":
            self.owners[store] = user
        elif path == "/seller/close_store":
            self.owners.pop(store, None)
        elif path == "/seller/add_book":
            self.books.append((store, body["book_info"]["id"]))
        elif path == "/buyer/new_order":
            self.orders.append((user, store, answer["order_id"]))

    def somebody(self, path, wants_token):
        """A user, a store, a book and an order that go together as far as there are any."""
        users = [user for user, token in self.tokens.items() if token or not wants_token]
        user = chance.choice(users) if users else None
        found = {"user_id": user}
        if path in ("/seller/ship", "/seller/query_order"):
            sold = [(self.owners[store], store, order) for _, store, order in self.orders if store in self.owners]
            sold = [row for row in sold if row[0] in users]
            if sold:
                found["user_id"], found["store_id"], found["order_id"] = chance.choice(sold)
            return found
        if path.startswith("/seller/"):
            owned = [(owner, store) for store, owner in self.owners.items() if owner in users]
            if owned and path != "/seller/create_store":
                found["user_id"], found["store_id"] = chance.choice(owned)
        else:
            bought = [row for row in self.orders if row[0] in users]
            if bought and path != "/buyer/new_order":
                found["user_id"], _, found["order_id"] = chance.choice(bought)
        books = [row for row in self.books if row[0] == found.get("store_id", row[0]) and row[0] in self.owners]
        if books:
            found["store_id"], found["book_id"] = chance.choice(books)
        return found


shop = Shop()


def post(base_url, path, body, token=""):
    headers = {"content-type": "application/json", "token": token}
    request = urllib.request.Request(base_url.rstrip("/") + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)
    shop.learn(path, body, answer)
    return answer


def open_shop(base_url):
    """Two sellers with a store each, two buyers with money, and orders of theirs."""
    run = f"run{next(numbers)}-{time.time_ns()}"
    for side in range(2):
        seller, buyer, store = (f"{run}-{what}{side}" for what in ("seller", "buyer", "store"))
        for user in (seller, buyer):
            post(base_url, "/auth/register", {"user_id": user, "password": PASSWORD})
            post(base_url, "/auth/login", {"user_id": user, "password": PASSWORD})
            post(base_url, "/buyer/add_funds", {"user_id": user, "password": PASSWORD, "add_value": 10**6})
        as_seller = {"user_id": seller, "store_id": store}
        post(base_url, "/seller/create_store", as_seller, shop.tokens[seller])
        for number in range(2):
            book = {"id": f"book{number}", "title": "book", "price": 7}
            body = as_seller | {"book_info": book, "stock_level": 10**6}
            post(base_url, "/seller/add_book", body, shop.tokens[seller])
            for _ in range(6):
                body = {"user_id": buyer, "store_id": store, "books": [{"id": book["id"], "count": 1}]}
                post(base_url, "/buyer/new_order", body, shop.tokens[buyer])


@schemathesis.hook
def before_call(context, case, kwargs):
    meta, path, body = case.meta, case.operation.path, case.body
    is_chained = meta is not None and meta.phase.name == TestPhase.STATEFUL
    if not is_chained or meta.generation.mode != GenerationMode.POSITIVE or not isinstance(body, dict):
        return
    if not shop.orders:
        open_shop(case.operation.base_url)
    wants_token = "token" in (case.headers or {})
    if path != "/auth/register" and body.get("user_id") not in shop.tokens:
        for name, value in shop.somebody(path, wants_token).items():
            if value is not None and name in body and name != NEW.get(path):
                body[name] = value
        for name in {"password", "oldPassword", "newPassword"} & body.keys():
            body[name] = PASSWORD
    token = shop.tokens.get(body.get("user_id"))
    if wants_token and token and case.headers["token"] not in shop.tokens.values():
        case.headers["token"] = token


@schemathesis.hook
def after_call(context, case, response):
    if response.status_code == 200 and isinstance(case.body, dict):
        shop.learn(case.operation.path, case.body, response.json())
