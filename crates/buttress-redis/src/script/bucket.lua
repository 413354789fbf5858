-- Buckets of one key, one for each limit: when each is full again, in whole microseconds and a part
-- of one. A limit is p/e microseconds for a token, in lowest terms, and b tokens at the most, and b
-- times e is at most 2^53: all numbers are whole ones that a double holds, and nothing is rounded.
local now = NOW

local function add(w, f, n, p, e)
  local whole, rest = math.floor(p / e), p % e
  local parts = f + n * rest % e
  w = w + n * whole + math.floor(n * rest / e)
  if parts >= e then
    return w + 1, parts - e
  end
  return w, parts
end

local kept = {}
for number in string.gmatch(redis.call('GET', KEYS[1]) or '', '%d+') do
  kept[#kept + 1] = tonumber(number)
end

-- A limit: w and f say when its bucket is full. One that was stored by other settings keeps the
-- tokens that it had, as far as they fit: a change is no burst, and is rounded up.
local limits, changed = {}, false
for i = 1, (#ARGV - FIRST + 1) / 3 do
  local at = FIRST + 3 * i - 3
  local p, e, b = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local w, f, op, oe, ob = unpack(kept, 5 * i - 4, 5 * i)
  if not ob or w < now then
    w, f = now, 0
  elseif op ~= p or oe ~= e or ob ~= b then
    local had = math.max(ob - ((w - now) * oe + f) / op, 0)
    w, f, changed = now, 0, true
    if had < b then
      w = now + math.ceil((b - had) * p / e) + 1
    end
  end
  limits[i] = { w = w, f = f, p = p, e = e, b = b }
end

local function store()
  local out, last = {}, now
  for _, l in ipairs(limits) do
    out[#out + 1] = string.format('%.0f %.0f %.0f %.0f %.0f', l.w, l.f, l.p, l.e, l.b)
    last = math.max(last, l.w)
  end
  -- What others store who have more limits, stays.
  for at = 5 * #limits + 1, #kept - 4, 5 do
    out[#out + 1] = string.format('%.0f %.0f %.0f %.0f %.0f', unpack(kept, at, at + 4))
    last = math.max(last, kept[at])
  end
  -- Once all are full, there is nothing to remember.
  if last <= now then
    redis.call('DEL', KEYS[1])
    return
  end
  redis.call('SET', KEYS[1], table.concat(out, ' '), 'PX', string.format('%.0f', math.floor((last - now) / 1000) + 1))
end

local function standing(granted)
  local reply = { granted }
  for _, l in ipairs(limits) do
    reply[#reply + 1] = l.w - now
    reply[#reply + 1] = l.f
  end
  return reply
end
