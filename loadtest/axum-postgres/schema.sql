-- The tables of the services on PostgreSQL that `loadtest compare` measures. Kept light on purpose, which is to their
-- advantage: passwords as they are, no foreign keys, no index but the primary keys, and room on the pages of the rows
-- that change all the time, so that an update stays on its page.

CREATE TABLE users (
    id text PRIMARY KEY,
    password text NOT NULL,
    token text NOT NULL DEFAULT '',
    balance bigint NOT NULL DEFAULT 0 CHECK (balance >= 0)
) WITH (fillfactor = 20);

CREATE TABLE stores (
    id text PRIMARY KEY,
    owner text NOT NULL
);

CREATE TABLE stock (
    store_id text NOT NULL,
    book_id text NOT NULL,
    price bigint NOT NULL,
    level bigint NOT NULL CHECK (level >= 0),
    PRIMARY KEY (store_id, book_id)
) WITH (fillfactor = 20);

-- Apart from the stock, which changes with every order.
CREATE TABLE books (
    store_id text NOT NULL,
    book_id text NOT NULL,
    info jsonb NOT NULL,
    PRIMARY KEY (store_id, book_id)
);

CREATE TABLE orders (
    id uuid PRIMARY KEY,
    user_id text NOT NULL,
    store_id text NOT NULL,
    state text NOT NULL DEFAULT 'pending',
    total bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE order_lines (
    order_id uuid NOT NULL,
    book_id text NOT NULL,
    count bigint NOT NULL,
    price bigint NOT NULL,
    PRIMARY KEY (order_id, book_id)
);
