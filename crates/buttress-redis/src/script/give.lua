-- Gives back ARGV[1] tokens that were taken and not used. No bucket gets more than full.
for _, l in ipairs(limits) do
  local w, f = add(0, 0, tonumber(ARGV[1]), l.p, l.e)
  l.w, l.f = l.w - w, l.f - f
  if l.f < 0 then
    l.w, l.f = l.w - 1, l.f + l.e
  end
  if l.w < now then
    l.w, l.f = now, 0
  end
end
store()
return standing(0)
