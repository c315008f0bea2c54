-- An order and its payment in one call. The order is written once, as paid, which is to the advantage of this side: the
-- service answers in between.
-- ARGV: order id, buyer, store, password, then a book and its count for each line.
local buyer, store = 'user:' .. ARGV[2], 'store:' .. ARGV[3]
local account = redis.call('HMGET', buyer, 'password', 'balance')
if not account[1] then return redis.error_reply('511 non exist user id') end
local owner = redis.call('HGET', store, 'owner')
if not owner then return redis.error_reply('513 non exist store id') end
local levels, prices = store .. ':level', store .. ':price'
local books = {}
for at = 5, #ARGV, 2 do books[#books + 1] = ARGV[at] end
local level = redis.call('HMGET', levels, unpack(books))
local price = redis.call('HMGET', prices, unpack(books))
local total, lines, left = 0, {}, {}
for i = 1, #books do
    if not level[i] then return redis.error_reply('515 non exist book id') end
    local count = tonumber(ARGV[4 + 2 * i])
    local rest = tonumber(level[i]) - count
    if rest < 0 then return redis.error_reply('517 stock level low') end
    total = total + count * tonumber(price[i])
    lines[i] = books[i] .. ' ' .. count .. ' ' .. price[i]
    left[2 * i - 1] = books[i]
    left[2 * i] = string.format('%d', rest)
end
if account[1] ~= ARGV[4] then return redis.error_reply('401 authorization fail') end
if tonumber(account[2]) < total then return redis.error_reply('519 not sufficient funds') end
redis.call('HSET', levels, unpack(left))
-- As text, or large numbers would become floats.
total = string.format('%d', total)
redis.call('HSET', 'order:' .. ARGV[1], 'user', ARGV[2], 'store', ARGV[3], 'state', 'paid', 'total', total,
    'lines', table.concat(lines, ','))
redis.call('HINCRBY', buyer, 'balance', '-' .. total)
redis.call('HINCRBY', 'user:' .. owner, 'balance', total)
return redis.status_reply('OK')
