#!/bin/sh
# A whole purchase with curl, from register to completed:
#
#   examples/purchase.sh [URL]        # default http://127.0.0.1:5000
#
# Ends at the first answer that is not what it should be, with status 1. Can be run again: names are new each time.
set -eu

url=${1:-http://127.0.0.1:5000}
run=$(date +%s)-$$
seller=seller-$run buyer=buyer-$run store=store-$run

# post ROUTE TOKEN BODY: sets `answer`; anything but code 200 ends it all.
post() {
    answer=$(curl --silent --show-error --max-time 30 "$url$1" -H "token: $2" -H 'Content-Type: application/json' --data "$3")
    case $answer in
        '{"code":200,'*) printf '%-32s %s\n' "$1" "$answer" ;;
        *) printf '%s: %s\n' "$1" "$answer" >&2; exit 1 ;;
    esac
}

# field NAME: a string out of `answer`.
field() {
    printf '%s' "$answer" | sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"
}

# log_in USER: registers and logs in; sets `token`.
log_in() {
    post /auth/register '' "{\"user_id\":\"$1\",\"password\":\"s3cret\"}"
    post /auth/login '' "{\"user_id\":\"$1\",\"password\":\"s3cret\",\"terminal\":\"curl\"}"
    token=$(field token)
}

log_in "$seller"
seller_token=$token
post /seller/create_store "$seller_token" "{\"user_id\":\"$seller\",\"store_id\":\"$store\"}"
post /seller/add_book "$seller_token" "{\"user_id\":\"$seller\",\"store_id\":\"$store\",\"stock_level\":10,
    \"book_info\":{\"id\":\"1000067\",\"title\":\"美丽心灵\",\"price\":3880}}"

log_in "$buyer"
post /buyer/add_funds "$token" "{\"user_id\":\"$buyer\",\"password\":\"s3cret\",\"add_value\":10000}"

# With a key a request may be sent again: it is done once.
order="{\"user_id\":\"$buyer\",\"store_id\":\"$store\",\"books\":[{\"id\":\"1000067\",\"count\":2}]}"
answer=$(curl --silent --show-error --max-time 30 "$url/buyer/new_order" -H "token: $token" -H "Idempotency-Key: $run" --data "$order")
first=$(field order_id)
answer=$(curl --silent --show-error --max-time 30 "$url/buyer/new_order" -H "token: $token" -H "Idempotency-Key: $run" --data "$order")
id=$(field order_id)
[ "$first" = "$id" ] || { echo "sent twice, there are two orders: $first and $id" >&2; exit 1; }
printf '%-32s %s\n' '/buyer/new_order, twice' "$answer"

post /buyer/pay_to_platform "$token" "{\"user_id\":\"$buyer\",\"password\":\"s3cret\",\"order_id\":\"$id\"}"
post /seller/ship "$seller_token" "{\"user_id\":\"$seller\",\"store_id\":\"$store\",\"order_id\":\"$id\"}"
post /buyer/confirm_receipt_and_pay_toseller "$token" "{\"user_id\":\"$buyer\",\"password\":\"s3cret\",\"order_id\":\"$id\"}"
post /buyer/query_order_status "$token" "{\"user_id\":\"$buyer\",\"password\":\"s3cret\",\"order_id\":\"$id\"}"
[ "$(field order_status)" = completed ] || { echo "the order is not completed" >&2; exit 1; }
post /buyer/query_balance "$token" "{\"user_id\":\"$buyer\",\"password\":\"s3cret\"}"
