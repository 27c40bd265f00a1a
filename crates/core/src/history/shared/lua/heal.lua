-- Puts back frames that this server lacks, while the log is not open.
-- KEYS: meta log marks terms, and those of replies and records.
-- ARGV: id nonce, mark_bytes, frames, and of each: id predecessor time bytes nonce,
--   values {field value}, replies {key value milliseconds}, records {shelf field value}
-- A record with an empty value is removed.
local meta, log, marks, terms = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local m = redis.call('HMGET', meta, 'id', 'run', 'state', 'term', 'last', 'nonce', 'bytes', 'time',
  'marked')
if m[1] ~= ARGV[1] then return {'OTHER'} end
if m[2] ~= runner() then return {'MOVED'} end
if m[3] ~= 'recovering' then return {'CLOSED'} end
local here, nonce, healed = m[4] .. '-' .. m[5], m[6], 0
local state = {
  term = m[4], last = tonumber(m[5]), bytes = tonumber(m[7]), time = tonumber(m[8]),
  marked = tonumber(m[9]),
}
local at = 5
for _ = 1, tonumber(ARGV[4]) do
  local id, predecessor, time, bytes = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local opened = ARGV[at + 4]
  local is_next = predecessor == here
  if is_next and healed == 0 and nonce ~= ARGV[2] then return {'FORKED'} end
  local values = tonumber(ARGV[at + 5])
  at = at + 6
  if is_next then redis.call('XADD', log, id, unpack(ARGV, at, at + 2 * values - 1)) end
  at = at + 2 * values
  local replies = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, replies do
    if is_next then
      redis.call('SET', KEYS[tonumber(ARGV[at])], ARGV[at + 1], 'PX', ARGV[at + 2])
    end
    at = at + 3
  end
  local records = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, records do
    if is_next then
      local shelf, field, value = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
      if value == '' then redis.call('HDEL', shelf, field)
      else redis.call('HSET', shelf, field, value) end
    end
    at = at + 3
  end
  if is_next then
    local term, last = string.match(id, '^(%d+)%-(%d+)$')
    if opened ~= '' then
      redis.call('HSET', terms, state.term, nonce .. ':' .. int(state.last))
      redis.call('HSET', terms, term, opened)
      nonce = opened
    end
    here, healed = id, healed + 1
    state.term, state.last = term, tonumber(last)
    state.bytes = state.bytes + tonumber(bytes)
    state.time = math.max(state.time, tonumber(time))
    if tonumber(ARGV[3]) <= state.bytes - state.marked then
      redis.call('RPUSH', marks, id .. ' ' .. int(state.bytes) .. ' ' .. int(state.time))
      state.marked = state.bytes
    end
  end
end
redis.call('HSET', meta, 'term', state.term, 'last', int(state.last), 'nonce', nonce,
  'bytes', int(state.bytes), 'time', int(state.time), 'marked', int(state.marked))
return {'OK', healed}
