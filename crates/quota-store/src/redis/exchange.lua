-- Exchanges: what Envoys say of counters, and what is booked for them.
--
-- KEYS[i] is a counter; its six arguments are envoy, seq, consumed, want, limit, expires_at. Behind
-- those of all counters is one more, the call's nonce.
-- A counter is a hash: `total`, and for each Envoy a field by its id with "<seq> <upto>".
-- The reply has a text for each counter: "<seq> <upto> <total> <previous> <nonce>", or "!" and why
-- there is none. `previous` is the seq that was known before; a smaller one than expected tells that
-- data was lost. The nonce tells to which call this is the answer.
-- A counter that can't be used does not keep the others from being booked.

-- %.0f, because Lua writes numbers from 1e14 on with an exponent, and so loses digits.
local function digits(number)
  return string.format('%.0f', number)
end

local nonce = ARGV[#KEYS * 6 + 1]

local function exchange(key, envoy, seq, consumed, want, limit, expires_at)
  local stored = redis.pcall('HMGET', key, 'total', envoy)
  if stored.err then
    return '!' .. stored.err
  end
  local total = tonumber(stored[1] or 0)
  local last, upto = string.match(stored[2] or '0 0', '^(%d+) (%d+)$')
  last, upto = tonumber(last), tonumber(upto)
  if not (total and last and upto) then
    return '!WRONGTYPE the counter holds what is no number'
  end

  local previous = last
  if seq > last then
    local new = consumed + want
    if new > upto then
      local free = math.max(limit - total, 0)
      new = math.max(consumed, math.min(new, upto + free))
    end
    total = math.max(total + new - upto, 0)
    last, upto = seq, new
    local booked = digits(last) .. ' ' .. digits(upto)
    local done = redis.pcall('HSET', key, 'total', digits(total), envoy, booked)
    if type(done) == 'table' and done.err then
      return '!' .. done.err
    end
    redis.call('EXPIREAT', key, expires_at)
  end
  return table.concat({ digits(last), digits(upto), digits(total), digits(previous), nonce }, ' ')
end

local replies = {}
for i, key in ipairs(KEYS) do
  local a = (i - 1) * 6
  replies[i] = exchange(key, ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]),
    tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5]), ARGV[a + 6])
end
return replies
