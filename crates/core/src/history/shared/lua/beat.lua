-- Renews the lease of a node, removes nodes whose leases have ended, and trims the log by age.
-- KEYS: meta log marks sessions nodes about
-- ARGV: id node lease about, max_bytes max_events max_age mark_bytes
local meta, log, marks, sessions, nodes, about = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local m = redis.call('HMGET', meta,
  'id', 'run', 'state', 'term', 'last', 'bytes', 'time', 'marked', 'floor', 'floor_time', 'opened')
if not m[1] then return {'EMPTY'} end
if m[1] ~= ARGV[1] then return {'OTHER'} end
if m[2] ~= runner() then return {'MOVED'} end
if m[3] ~= 'open' then return {'RECOVERING'} end
local now, lease = clock(), tonumber(ARGV[3])
local milliseconds = math.floor(now / 1000)
redis.call('ZADD', nodes, int(milliseconds + lease), ARGV[2])
redis.call('HSET', about, ARGV[2], ARGV[4])
-- After a pause of Redis itself, all nodes have the time of a lease to come back.
if tonumber(m[11]) + lease < milliseconds then
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', nodes, 0, int(milliseconds))) do
    redis.call('ZREM', nodes, gone)
    redis.call('HDEL', about, gone)
    redis.call('HDEL', sessions, gone)
  end
end
local state = {
  term = m[4], last = tonumber(m[5]), bytes = tonumber(m[6]), marked = tonumber(m[8]),
  time = math.max(tonumber(m[7]), now), floor = m[9], floor_time = m[10],
}
trim(log, marks, state, {
  bytes = tonumber(ARGV[5]), events = tonumber(ARGV[6]), age = tonumber(ARGV[7]),
  mark = tonumber(ARGV[8]),
})
redis.call('HSET', meta, 'time', int(state.time), 'marked', int(state.marked),
  'floor', state.floor, 'floor_time', state.floor_time)
return {'OK', m[4], m[5], state.floor, state.floor_time, int(state.time),
  redis.call('ZRANGE', nodes, 0, -1, 'WITHSCORES'), redis.call('HGETALL', about)}
