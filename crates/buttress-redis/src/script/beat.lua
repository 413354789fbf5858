-- Says that a member is there, forgets those that have not said so for ARGV[2] microseconds, and
-- counts those that have.
local now = NOW
redis.call('ZADD', KEYS[1], 'GT', string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - tonumber(ARGV[2])))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.floor(tonumber(ARGV[2]) / 1000) + 1))
return redis.call('ZCARD', KEYS[1])
