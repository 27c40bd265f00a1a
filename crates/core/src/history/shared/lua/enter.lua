-- Lets a node in: creates the log if there is none, notices that another server runs it, and ends
-- the earlier session of the node.
-- KEYS: meta log terms marks sessions nodes about waiting, and all shelves.
-- ARGV: node session known_term recovery lease about, format id key nonce
--   Times in milliseconds.
local meta, log, terms, marks, sessions = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local nodes, about, waiting = KEYS[6], KEYS[7], KEYS[8]
local node, session, known = ARGV[1], ARGV[2], tonumber(ARGV[3])
local here, now = runner(), clock()
local milliseconds = math.floor(now / 1000)
if redis.call('EXISTS', meta) == 0 then
  redis.call('DEL', unpack(KEYS))
  local term = int(known + 1)
  redis.call('HSET', meta, 'id', ARGV[8], 'key', ARGV[9], 'format', ARGV[7], 'run', here,
    'state', 'open', 'term', term, 'nonce', ARGV[10], 'last', 0, 'bytes', 0, 'marked', 0,
    'time', int(now), 'floor', '0-0', 'floor_time', 0, 'opened', int(milliseconds), 'known', 0)
  redis.call('HSET', terms, term, ARGV[10])
  redis.call('XADD', log, term .. '-0', 'p', '0-0', 't', int(now), 'k', ARGV[10])
end
local m = redis.call('HMGET', meta, 'id', 'key', 'format', 'run', 'state', 'term', 'last', 'nonce',
  'floor', 'floor_time', 'known')
if tonumber(ARGV[7]) < tonumber(m[3]) then return {'FORMAT', m[3]} end
if m[4] ~= here or (m[5] == 'open' and tonumber(m[6]) < known) then
  m[5] = 'recovering'
  redis.call('HSET', meta, 'run', here, 'state', 'recovering',
    'until', int(milliseconds + tonumber(ARGV[4])))
  redis.call('DEL', waiting)
  -- All nodes, whatever their leases: a failover takes longer than a lease.
  for _, member in ipairs(redis.call('ZRANGE', nodes, 0, -1)) do
    redis.call('SADD', waiting, member)
  end
end
if tonumber(m[11]) < known then redis.call('HSET', meta, 'known', int(known)) end
redis.call('HSET', sessions, node, session .. ':0')
redis.call('ZADD', nodes, int(milliseconds + tonumber(ARGV[5])), node)
redis.call('HSET', about, node, ARGV[6])
return {'OK', m[5], m[1], m[2], m[6], m[7], m[8], m[9], m[10], int(now),
  redis.call('HGETALL', terms)}
