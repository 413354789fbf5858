-- Takes as many tokens as there are, ARGV[1] at the least and ARGV[2] at the most, and leaves
-- ARGV[3] for others: from all buckets or from none.
local least, most, left = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local granted = most
for _, l in ipairs(limits) do
  local room, part = add(now, 0, l.b - left, l.p, l.e)
  -- A guess, one token off at the most, and then exactly.
  local fits = math.floor(((room - l.w) * l.e + part - l.f) / l.p) + 1
  local n = math.min(granted, fits)
  while n >= least do
    local w, f = add(l.w, l.f, n, l.p, l.e)
    if w < room or (w == room and f <= part) then
      break
    end
    n = n - 1
  end
  granted = n
end

if granted < least then
  if changed then
    -- From now on it fills as the new settings say.
    store()
  end
  return standing(0)
end
for _, l in ipairs(limits) do
  l.w, l.f = add(l.w, l.f, granted, l.p, l.e)
end
store()
return standing(granted)
