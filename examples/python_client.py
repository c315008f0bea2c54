#!/usr/bin/env python3
"""What an existing client of this API does, from register to completed, on real books.

    python3 examples/python_client.py --url http://127.0.0.1:5000

Needs Python 3.11 and nothing else. `BookstoreClient` has one method for each route and opens one TCP connection for
each request, as old clients do. What old clients could not do: it gives each order, payment, deposit, confirmation and
cancellation an `Idempotency-Key`, and sends it again when no answer comes. `main` plays a shop day against a running server and keeps its own books beside it:
it prints a line for each step and exits with 1 if the server disagrees anywhere. Each run uses new ids, so it can be
repeated on one server.

With `--mode compat` it sends an empty token, as the oldest clients do; the server must run with `--mode compat` then.
"""

import argparse
import http.client
import json
import sys
import time
import uuid
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit


class Disagreement(Exception):
    """The server said something else than it should have."""


class BookstoreClient:
    """One method for each route; each gives the outcome code, and what the route answers besides, if anything."""

    def __init__(self, url, timeout_s=30):
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"not an http:// address: {url}")
        self.host, self.port, self.prefix = parts.hostname, parts.port or 80, parts.path.rstrip("/")
        self.timeout_s = timeout_s

    def post(self, path, body=None, token=None, key=None):
        """One request on a connection of its own. Gives the code and the answer's object."""
        headers = {}
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if token is not None:
            headers["token"] = token
        if key is not None:
            headers["Idempotency-Key"] = key
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout_s)
        try:
            connection.request("POST", self.prefix + path, payload, headers)
            response = connection.getresponse()
            status, text = response.status, response.read()
        finally:
            connection.close()
        answer = json.loads(text)
        # Old clients read one or the other.
        if answer.get("code") != status:
            raise Disagreement(f"{path}: status {status}, but the body says {answer.get('code')}")
        # /search/search_books answers with the list itself as the message.
        is_ok = answer.get("message") == "ok" or isinstance(answer.get("message"), list)
        if is_ok != (status == 200):
            raise Disagreement(f"{path}: status {status}, but the message is {answer.get('message')!r}")
        return status, answer

    def change(self, path, body, token=None, key=None):
        """A change under a key, a new one unless told: it is sent until its outcome is known, and is done once."""
        key = key or str(uuid.uuid4())
        for wait_s in (0.1, 0.5, 1, 2, 4, None):
            try:
                status, answer = self.post(path, body, token, key)
                if status != 503 or wait_s is None:
                    return status, answer
            except (OSError, http.client.HTTPException):
                # Nobody knows what became of it.
                if wait_s is None:
                    raise
            time.sleep(wait_s)

    def code(self, path, body=None, token=None):
        return self.post(path, body, token)[0]

    def value(self, name, path, body, token=None):
        status, answer = self.post(path, body, token)
        if name not in answer:
            raise Disagreement(f"{path}: the answer has no {name}")
        return status, answer[name]

    # /auth

    def register(self, user_id, password):
        return self.code("/auth/register", {"user_id": user_id, "password": password})

    def unregister(self, user_id, password):
        return self.code("/auth/unregister", {"user_id": user_id, "password": password})

    def login(self, user_id, password, terminal):
        body = {"user_id": user_id, "password": password, "terminal": terminal}
        return self.value("token", "/auth/login", body)

    def password(self, user_id, old_password, new_password):
        body = {"user_id": user_id, "oldPassword": old_password, "newPassword": new_password}
        return self.code("/auth/password", body)

    def logout(self, user_id, token):
        return self.code("/auth/logout", {"user_id": user_id}, token)

    # /seller

    def create_store(self, user_id, token, store_id):
        return self.code("/seller/create_store", {"user_id": user_id, "store_id": store_id}, token)

    def add_book(self, user_id, token, store_id, book_info, stock_level):
        body = {"user_id": user_id, "store_id": store_id, "book_info": book_info, "stock_level": stock_level}
        return self.code("/seller/add_book", body, token)

    def add_stock_level(self, user_id, token, store_id, book_id, add_stock_level):
        body = {"user_id": user_id, "store_id": store_id, "book_id": book_id, "add_stock_level": add_stock_level}
        return self.code("/seller/add_stock_level", body, token)

    def ship(self, user_id, token, store_id, order_id):
        return self.code("/seller/ship", {"user_id": user_id, "store_id": store_id, "order_id": order_id}, token)

    def query_one_store_orders(self, user_id, store_id, password):
        body = {"user_id": user_id, "store_id": store_id, "password": password}
        return self.value("orders", "/seller/query_one_store_orders", body)

    def query_all_store_orders(self, user_id, password):
        return self.value("orders", "/seller/query_all_store_orders", {"user_id": user_id, "password": password})

    def get_stock_level(self, store_id, book_id):
        return self.value("stock_level", "/seller/get_stock_level", {"store_id": store_id, "book_id": book_id})

    # /buyer

    def new_order(self, user_id, token, store_id, books, key=None):
        """`books` is a list of (book id, count). The same key is the same order."""
        lines = [{"id": book_id, "count": count} for book_id, count in books]
        body = {"user_id": user_id, "store_id": store_id, "books": lines}
        status, answer = self.change("/buyer/new_order", body, token, key)
        return status, answer["order_id"]

    def payment(self, user_id, password, order_id):
        body = {"user_id": user_id, "password": password, "order_id": order_id}
        return self.change("/buyer/payment", body)[0]

    def pay_to_platform(self, user_id, password, order_id):
        body = {"user_id": user_id, "password": password, "order_id": order_id}
        return self.change("/buyer/pay_to_platform", body)[0]

    def confirm_receipt_and_pay_toseller(self, user_id, password, order_id):
        body = {"user_id": user_id, "password": password, "order_id": order_id}
        return self.change("/buyer/confirm_receipt_and_pay_toseller", body)[0]

    def add_funds(self, user_id, password, add_value, key=None):
        body = {"user_id": user_id, "password": password, "add_value": add_value}
        return self.change("/buyer/add_funds", body, key=key)[0]

    def query_order_status(self, user_id, password, order_id):
        body = {"user_id": user_id, "password": password, "order_id": order_id}
        return self.value("order_status", "/buyer/query_order_status", body)

    def query_buyer_all_orders(self, user_id, password):
        return self.value("orders", "/buyer/query_buyer_all_orders", {"user_id": user_id, "password": password})

    def cancel_order(self, user_id, password, order_id):
        body = {"user_id": user_id, "password": password, "order_id": order_id}
        return self.change("/buyer/cancel_order", body)[0]

    def auto_cancel_expired_orders(self):
        """No body and no Content-Type: that is how this route has always been called."""
        return self.code("/buyer/auto_cancel_expired_orders")

    def check_stock_level(self, user_id, store_id, book_id):
        body = {"user_id": user_id, "store_id": store_id, "book_id": book_id}
        return self.value("stock_level", "/buyer/check_stock_level", body)

    def check_order_count(self, user_id):
        return self.value("order_count", "/buyer/check_order_count", {"user_id": user_id})

    def search(self, keyword, store_id=None, scope="all", page=1, page_size=20, path="/buyer/search"):
        """The code and the books of the page. After a start the index is not complete for a moment: 503 says so."""
        body = {"keyword": keyword, "search_scope": scope, "page": page, "page_size": page_size}
        if store_id is not None:
            body |= {"search_in_store": True, "store_id": store_id}
        for _ in range(600):
            status, answer = self.post(path, body)
            if status != 503:
                break
            time.sleep(0.1)
        name = "message" if path == "/search/search_books" else "books"
        return status, answer.get(name) if status == 200 else []

    def query_book(self, store_id, book_id):
        """The code, and the book whole, pictures included."""
        status, answer = self.post("/buyer/query_book", {"store_id": store_id, "book_id": book_id})
        return status, answer.get("book_info")

    def query_balance(self, user_id, password):
        return self.value("balance", "/buyer/query_balance", {"user_id": user_id, "password": password})


class User:
    """Somebody with an account, and the balance he must have."""

    def __init__(self, user_id):
        self.id = user_id
        self.password = f"password of {user_id}"
        self.token = ""
        self.balance = 0


class Order:
    """An order as it must stand on the server."""

    def __init__(self, order_id, buyer, books, total):
        self.id, self.buyer, self.books, self.total = order_id, buyer, books, total
        self.status, self.shipped, self.in_escrow = "pending", False, False


class ShopDay:
    """Plays the day and keeps the books beside the server."""

    STOCK = 50
    FUNDS = 10_000_000

    def __init__(self, client, mode, books):
        self.client, self.mode = client, mode
        self.books = {book["id"]: book for book in books}
        run = uuid.uuid4().hex[:12]
        self.seller = User(f"seller-{run}")
        self.buyers = [User(f"buyer-{run}-{number}") for number in range(3)]
        self.store, self.empty_store = f"store-{run}", f"empty-store-{run}"
        self.stock = {}
        self.orders = []
        self.put_in = 0
        self.wrong = 0

    # How a step is reported

    def step(self, what, got, expected):
        """Prints one line, and remembers if it is a bad one."""
        if got == expected:
            print(f"ok    {what}")
            return
        self.wrong += 1
        print(f"WRONG {what}: expected {shorten(expected)}, got {shorten(got)}")

    def must(self, what, got, expected):
        """A step without which the next ones make no sense."""
        self.step(what, got, expected)
        if got != expected:
            raise Disagreement(f"cannot go on after: {what}")

    # The day

    def play(self):
        self.open_shop()
        self.list_books()
        self.find_books()
        self.buy_every_book()
        self.refusals()
        self.go_through_states()
        self.check_everything()
        self.close_shop()

    def open_shop(self):
        for user in [self.seller, *self.buyers]:
            self.must(f"register {user.id}", self.client.register(user.id, user.password), 200)
            self.log_in(user, "first terminal")
        seller, first = self.seller, self.buyers[0]
        self.step("register the same id again", self.client.register(first.id, "other"), 512)
        self.step("login with a wrong password", self.client.login(first.id, "wrong", "t"), (401, ""))
        for store in [self.store, self.empty_store]:
            self.must(f"create_store {store}", self.client.create_store(seller.id, seller.token, store), 200)
        self.step("create_store again", self.client.create_store(first.id, first.token, self.store), 514)
        for buyer in self.buyers:
            self.must(f"add_funds {buyer.id}", self.client.add_funds(buyer.id, buyer.password, self.FUNDS), 200)
            buyer.balance += self.FUNDS
            self.put_in += self.FUNDS

    def log_in(self, user, terminal):
        code, token = self.client.login(user.id, user.password, terminal)
        self.must(f"login {user.id}", (code, bool(token)), (200, True))
        user.token = token if self.mode == "strict" else ""

    def list_books(self):
        seller = self.seller
        for book_id, book in self.books.items():
            code = self.client.add_book(seller.id, seller.token, self.store, book, self.STOCK)
            self.must(f"add_book {book_id} {book['title']}", code, 200)
            self.stock[book_id] = self.STOCK
        some = next(iter(self.books))
        again = self.client.add_book(seller.id, seller.token, self.store, self.books[some], 1)
        self.step("add_book again", again, 516)
        for amount in (7, -3):
            code = self.client.add_stock_level(seller.id, seller.token, self.store, some, amount)
            self.step(f"add_stock_level {amount}", code, 200)
            self.stock[some] += amount
        below = self.client.add_stock_level(seller.id, seller.token, self.store, some, -self.stock[some] - 1)
        self.step("add_stock_level below 0", below, 530)

    def find_books(self):
        for book in list(self.books.values())[:10]:
            title = book["title"]
            # The whole title, a part of it, one character.
            for keyword in dict.fromkeys([title, title[:2], title[:1]]):
                code, found = self.client.search(keyword, self.store, "title", page_size=100)
                ids = [element["id"] for element in found]
                self.step(f"search {keyword}: {title} is found", (code, ids.count(book["id"])), (200, 1))
        book = next(iter(self.books.values()))
        for path in ["/buyer/search", "/seller/search", "/search/search_books"]:
            _, found = self.client.search(book["isbn"], self.store, "isbn", path=path)
            without_pictures = {name: value for name, value in book.items() if name != "pictures"}
            beside = {"store_id": self.store, "stock_level": self.stock[book["id"]]}
            self.step(f"{path} {book['isbn']}", found, [without_pictures | beside])
        self.step("search what nobody wrote", self.client.search("饕餮饕餮饕餮", self.store), (525, []))
        self.step("search in no store", self.client.search(book["title"], "no such store"), (524, []))
        self.step("query_book", self.client.query_book(self.store, book["id"]), (200, book))
        self.step("query_book of no book", self.client.query_book(self.store, "no such book"), (515, None))

    def order(self, buyer, books):
        """Places an order of (book id, count), which must succeed."""
        key = str(uuid.uuid4())
        code, order_id = self.client.new_order(buyer.id, buyer.token, self.store, books, key)
        self.must(f"new_order of {len(books)} lines for {buyer.id}", (code, bool(order_id)), (200, True))
        if not self.orders:
            again = self.client.new_order(buyer.id, buyer.token, self.store, books, key)
            self.step("new_order again under its key", again, (200, order_id))
            other = self.client.new_order(buyer.id, buyer.token, self.store, books * 2, key)
            self.step("another order under that key", other, (422, ""))
        counts = defaultdict(int)
        for book_id, count in books:
            counts[book_id] += count
            self.stock[book_id] -= count
        total = sum(self.books[book_id]["price"] * count for book_id, count in counts.items())
        order = Order(order_id, buyer, dict(counts), total)
        self.orders.append(order)
        return order

    def pay(self, order):
        code = self.client.payment(order.buyer.id, order.buyer.password, order.id)
        self.step(f"payment of {order.total} fen", code, 200)
        order.buyer.balance -= order.total
        self.seller.balance += order.total
        order.status = "paid"

    def pay_to_platform(self, order):
        code = self.client.pay_to_platform(order.buyer.id, order.buyer.password, order.id)
        self.step(f"pay_to_platform of {order.total} fen", code, 200)
        order.buyer.balance -= order.total
        order.status, order.in_escrow = "paid", True

    def ship(self, order):
        code = self.client.ship(self.seller.id, self.seller.token, self.store, order.id)
        self.step("ship", code, 200)
        order.status, order.shipped = "shipped", True

    def confirm(self, order):
        code = self.client.confirm_receipt_and_pay_toseller(order.buyer.id, order.buyer.password, order.id)
        self.step("confirm_receipt_and_pay_toseller", code, 200)
        if order.in_escrow:
            self.seller.balance += order.total
            order.in_escrow = False
        order.status = "completed"

    def cancel(self, order):
        code = self.client.cancel_order(order.buyer.id, order.buyer.password, order.id)
        self.step("cancel_order", code, 200)
        for book_id, count in order.books.items():
            self.stock[book_id] += count
        order.status = "canceled"

    def buy_every_book(self):
        """Orders of ten books each, in turns paid at once, paid to the platform, canceled and left pending."""
        ids = list(self.books)
        for number, start in enumerate(range(0, len(ids), 10)):
            buyer = self.buyers[number % len(self.buyers)]
            lines = [(book_id, 1 + index % 3) for index, book_id in enumerate(ids[start : start + 10])]
            order = self.order(buyer, lines)
            match number % 4:
                case 0:
                    self.pay(order)
                case 1:
                    self.pay_to_platform(order)
                case 2:
                    self.cancel(order)
        twice = self.order(self.buyers[0], [(ids[0], 1), (ids[0], 2)])
        self.pay_to_platform(twice)

    def refusals(self):
        """What must not work, and must leave no trace: the check at the day's end would find one."""
        client, store, some = self.client, self.store, next(iter(self.books))
        first, second, seller = self.buyers[0], self.buyers[1], self.seller
        nobody, no_order = f"nobody-{first.id}", str(uuid.uuid4())
        refused = lambda code: (code, "")
        order = lambda user, token, store, books: client.new_order(user, token, store, books)
        too_many = [(some, 1), (some, self.stock[some])]
        self.step("new_order of an unknown user", order(nobody, first.token, store, [(some, 1)]), refused(511))
        self.step("new_order in an unknown store", order(first.id, first.token, nobody, [(some, 1)]), refused(513))
        self.step("new_order of an unknown book", order(first.id, first.token, store, [(nobody, 1)]), refused(515))
        self.step("new_order of too many copies", order(first.id, first.token, store, too_many), refused(517))
        self.step("new_order of 0 copies", order(first.id, first.token, store, [(some, 0)]), refused(530))
        if self.mode == "strict":
            self.step("new_order with an empty token", order(first.id, "", store, [(some, 1)]), refused(401))
            foreign = order(first.id, second.token, store, [(some, 1)])
            self.step("new_order with another's token", foreign, refused(401))
        self.step("payment of no order", client.payment(first.id, first.password, no_order), 518)
        pending = self.order(first, [(some, 1)])
        self.step("payment by somebody else", client.payment(second.id, second.password, pending.id), 401)
        self.step("payment with a wrong password", client.payment(first.id, "wrong", pending.id), 401)
        self.step("ship before payment", client.ship(seller.id, seller.token, store, pending.id), 520)
        early = client.confirm_receipt_and_pay_toseller(first.id, first.password, pending.id)
        self.step("confirm before payment", early, 520)
        self.step("ship by somebody else", client.ship(first.id, first.token, store, pending.id), 401)
        balance = self.buyers[2].balance
        overdraft = client.add_funds(self.buyers[2].id, self.buyers[2].password, -balance - 1)
        self.step("withdrawal of more than there is", overdraft, 530)
        self.poor_buyer(some)
        self.cancel(pending)
        self.step("payment of a canceled order", client.payment(first.id, first.password, pending.id), 526)
        self.step("cancel_order again", client.cancel_order(first.id, first.password, pending.id), 521)

    def poor_buyer(self, book_id):
        """Somebody whose money does not suffice until he withdraws less."""
        poor = self.buyers[2]
        unpaid = self.order(poor, [(book_id, 1)])
        kept = unpaid.total - 1
        self.move_funds(poor, kept - poor.balance)
        for name in ("payment", "pay_to_platform"):
            code = getattr(self.client, name)(poor.id, poor.password, unpaid.id)
            self.step(f"{name} without enough money", code, 519)
        self.move_funds(poor, self.FUNDS)
        self.pay(unpaid)

    def move_funds(self, user, amount):
        key = str(uuid.uuid4())
        for _ in range(2):
            code = self.client.add_funds(user.id, user.password, amount, key)
            self.step(f"add_funds of {amount} fen, twice under one key", code, 200)
        user.balance += amount
        self.put_in += amount

    def go_through_states(self):
        """Ships and confirms what was paid, leaving one order of each kind half-way."""
        client = self.client
        for order in [order for order in self.orders if order.status == "paid"][:-1]:
            buyer = order.buyer
            self.step("payment again", client.payment(buyer.id, buyer.password, order.id), 527)
            self.step("cancel_order after payment", client.cancel_order(buyer.id, buyer.password, order.id), 521)
            # Shipping first is not required.
            if order.total % 3:
                self.ship(order)
                again = client.ship(self.seller.id, self.seller.token, self.store, order.id)
                self.step("ship again", again, 529)
            if order.total % 5:
                self.confirm(order)
                again = client.confirm_receipt_and_pay_toseller(buyer.id, buyer.password, order.id)
                self.step("confirm again", again, 528)
        self.step("auto_cancel_expired_orders", client.auto_cancel_expired_orders(), 200)

    # What must be true in the end

    def check_everything(self):
        self.check_orders()
        for book_id, level in self.stock.items():
            answer = self.client.check_stock_level(self.buyers[0].id, self.store, book_id)
            self.step(f"check_stock_level {book_id} is {level}", answer, (200, level))
        some = next(iter(self.books))
        answer = self.client.get_stock_level(self.store, some)
        self.step("get_stock_level says the same", answer, (200, self.stock[some]))
        self.check_money()

    def check_orders(self):
        client, seller = self.client, self.seller
        expected = {order.id: self.element(order) for order in self.orders}
        for order in self.orders:
            answer = client.query_order_status(order.buyer.id, order.buyer.password, order.id)
            self.step(f"query_order_status is {order.status}", answer, (200, order.status))
        for buyer in self.buyers:
            mine = {order.id: expected[order.id] for order in self.orders if order.buyer is buyer}
            code, orders = client.query_buyer_all_orders(buyer.id, buyer.password)
            self.step(f"query_buyer_all_orders of {buyer.id}", (code, listed(orders)), (200, mine))
            self.step("newest first", newest_first(orders), True)
            self.step(f"check_order_count is {len(mine)}", client.check_order_count(buyer.id), (200, len(mine)))
        code, orders = client.query_one_store_orders(seller.id, self.store, seller.password)
        self.step("query_one_store_orders", (code, listed(orders)), (200, expected))
        code, stores = client.query_all_store_orders(seller.id, seller.password)
        all_stores = {store: listed(orders) for store, orders in stores.items()} if code == 200 else stores
        self.step("query_all_store_orders", (code, all_stores), (200, {self.store: expected, self.empty_store: {}}))

    def element(self, order):
        """An order as the lists show it, without its time."""
        return {
            "order_id": order.id,
            "user_id": order.buyer.id,
            "store_id": self.store,
            "status": order.status,
            "total_price": order.total,
            "is_paid": order.status in ("paid", "shipped", "completed"),
            "is_shipped": order.shipped,
            "is_received": order.status == "completed",
            "order_completed": order.status == "completed",
            "books": sorted((book_id, count, self.books[book_id]["price"]) for book_id, count in order.books.items()),
        }

    def check_money(self):
        balances = 0
        for user in [self.seller, *self.buyers]:
            code, balance = self.client.query_balance(user.id, user.password)
            self.step(f"query_balance of {user.id} is {user.balance}", (code, balance), (200, user.balance))
            balances += balance
        escrow = sum(order.total for order in self.orders if order.in_escrow)
        self.step("balances and escrow are what was put in", balances + escrow, self.put_in)

    def close_shop(self):
        client, last, seller = self.client, self.buyers[2], self.seller
        for order in self.orders:
            if order.buyer is last and order.status == "pending":
                self.cancel(order)
            elif order.buyer is last and order.status in ("paid", "shipped"):
                self.confirm(order)
        self.check_money()
        self.step("unregister with money left", client.unregister(last.id, last.password), 530)
        self.step("unregister the owner of a store", client.unregister(seller.id, seller.password), 530)
        new_password = last.password + ", changed"
        self.step("password with a wrong old one", client.password(last.id, "wrong", new_password), 401)
        self.step("password", client.password(last.id, last.password, new_password), 200)
        self.step("login with the old password", client.login(last.id, last.password, "t"), (401, ""))
        last.password = new_password
        code, token = client.login(last.id, last.password, "last terminal")
        self.must("login with the new password", code, 200)
        self.step("logout", client.logout(last.id, token), 200)
        self.step("logout again", client.logout(last.id, token), 401)
        if self.mode == "strict":
            answer = client.new_order(last.id, token, self.store, [(next(iter(self.books)), 1)])
            self.step("new_order after logout", answer, (401, ""))
        self.move_funds(last, -last.balance)
        self.step("unregister", client.unregister(last.id, last.password), 200)
        self.step("login after unregister", client.login(last.id, last.password, "t"), (401, ""))


def listed(orders):
    """A list of orders by id, without their times; anything else as it is."""
    if not isinstance(orders, list):
        return orders
    found = {}
    for order in orders:
        element = {name: value for name, value in order.items() if name != "created_time"}
        element["books"] = sorted((line["id"], line["count"], line["price"]) for line in order["books"])
        found[order["order_id"]] = element
    return found


def newest_first(orders):
    times = [datetime.fromisoformat(order["created_time"]) for order in orders]
    return times == sorted(times, reverse=True)


def shorten(value):
    text = repr(value)
    return text if len(text) <= 400 else text[:400] + "…"


def read_books(path):
    with open(path, encoding="utf-8") as lines:
        books = [json.loads(line) for line in lines if line.strip()]
    if not books:
        raise ValueError(f"{path} holds no books")
    return books


def main():
    parser = argparse.ArgumentParser(description="Plays a shop day against a bookstore server and checks it.")
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--books", default=Path(__file__).with_name("books.jsonl"), help="a book_info on each line")
    parser.add_argument("--mode", choices=["strict", "compat"], default="strict")
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        day = ShopDay(BookstoreClient(arguments.url), arguments.mode, read_books(arguments.books))
        day.play()
    except (Disagreement, OSError, http.client.HTTPException, ValueError) as error:
        hint = f"; is the service at {arguments.url}?" if isinstance(error, ConnectionError) else ""
        print(f"WRONG {error}{hint}")
        return 1
    seconds = time.monotonic() - began
    verdict = "all agree" if day.wrong == 0 else f"{day.wrong} DISAGREE"
    print(f"{len(day.books)} books, {len(day.orders)} orders, {seconds:.1f} s: {verdict}")
    return 0 if day.wrong == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
