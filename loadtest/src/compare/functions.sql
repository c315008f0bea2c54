-- An order and its payment as two functions, a transaction each: no statement travels but the call.

-- Ids in sequence, which keep to one end of an index: with random ones it was slower.
CREATE SEQUENCE order_numbers CACHE 100;

CREATE FUNCTION new_order(buyer text, store text, book_ids text[], counts bigint[]) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    new_id uuid := lpad(to_hex(nextval('order_numbers')), 32, '0')::uuid;
    line record;
    line_price bigint;
    line_prices bigint[] := '{}';
    line_books text[] := '{}';
    line_counts bigint[] := '{}';
    total bigint := 0;
BEGIN
    PERFORM FROM users WHERE id = buyer;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'non exist user id %', buyer;
    END IF;
    PERFORM FROM stores WHERE id = store;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'non exist store id %', store;
    END IF;
    -- In the same order everywhere, so that two orders cannot wait for each other.
    FOR line IN SELECT * FROM unnest(book_ids, counts) AS wanted(book, count) ORDER BY book LOOP
        UPDATE stock SET level = level - line.count
            WHERE store_id = store AND book_id = line.book AND level >= line.count
            RETURNING price INTO line_price;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'stock level low or non exist book id %', line.book;
        END IF;
        total := total + line_price * line.count;
        line_books := line_books || line.book;
        line_counts := line_counts || line.count;
        line_prices := line_prices || line_price;
    END LOOP;
    INSERT INTO orders (id, user_id, store_id, total) VALUES (new_id, buyer, store, total);
    INSERT INTO order_lines (order_id, book_id, count, price)
        SELECT new_id, * FROM unnest(line_books, line_counts, line_prices);
    RETURN new_id;
END
$$;

CREATE FUNCTION payment(buyer text, paid_order uuid, given_password text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found_order record;
    kept_password text;
BEGIN
    SELECT user_id, store_id, total, state INTO found_order FROM orders WHERE id = paid_order FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'invalid order id %', paid_order;
    END IF;
    SELECT password INTO kept_password FROM users WHERE id = buyer;
    IF found_order.user_id <> buyer OR kept_password IS DISTINCT FROM given_password THEN
        RAISE EXCEPTION 'authorization fail';
    END IF;
    IF found_order.state <> 'pending' THEN
        RAISE EXCEPTION 'order is paid, order id %', paid_order;
    END IF;
    UPDATE users SET balance = balance - found_order.total WHERE id = buyer AND balance >= found_order.total;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'not sufficient funds, order id %', paid_order;
    END IF;
    UPDATE orders SET state = 'paid' WHERE id = paid_order;
    -- Last, because many buyers pay the same few sellers, and the row is held until the commit.
    UPDATE users SET balance = balance + found_order.total
        WHERE id = (SELECT owner FROM stores WHERE id = found_order.store_id);
END
$$;
