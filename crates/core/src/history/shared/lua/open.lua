-- Opens the next term, once every node has put back what it could or the time for that is over.
-- KEYS: meta log terms waiting
-- ARGV: id node known_term nonce
local meta, log, terms, waiting = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local m = redis.call('HMGET', meta, 'id', 'run', 'state', 'term', 'last', 'nonce', 'until', 'known',
  'time')
if m[1] ~= ARGV[1] then return {'OTHER'} end
if m[2] ~= runner() then return {'MOVED'} end
if m[3] == 'open' then return {'OK', m[4], m[5], m[6]} end
local now = clock()
local milliseconds = math.floor(now / 1000)
local known = math.max(tonumber(m[8]), tonumber(ARGV[3]))
redis.call('SREM', waiting, ARGV[2])
if 0 < redis.call('SCARD', waiting) and milliseconds < tonumber(m[7]) then
  redis.call('HSET', meta, 'known', int(known))
  return {'WAIT'}
end
local term = int(math.max(tonumber(m[4]), known) + 1)
local time = math.max(tonumber(m[9]), now)
redis.call('XADD', log, term .. '-' .. m[5], 'p', m[4] .. '-' .. m[5], 't', int(time), 'k', ARGV[4])
redis.call('HSET', terms, m[4], m[6] .. ':' .. m[5])
redis.call('HSET', terms, term, ARGV[4])
redis.call('HDEL', terms, int(tonumber(term) - 1000))
redis.call('HSET', meta, 'state', 'open', 'term', term, 'nonce', ARGV[4], 'time', int(time),
  'opened', int(milliseconds), 'known', 0)
redis.call('DEL', waiting)
return {'OK', term, m[5], ARGV[4]}
