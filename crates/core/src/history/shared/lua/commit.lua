-- Appends a frame to the log, with what is stored beside it.
-- KEYS: meta log marks sessions, and those of replies and records.
-- ARGV: id term node session number, max_bytes max_events max_age mark_bytes, pieces, and of each:
--   positions payload, replies {key from to milliseconds}, records {shelf field expected from to}
-- `from` and `to` are places in the payload; a record without is removed.
local meta, log, marks, sessions = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local m = redis.call('HMGET', meta,
  'id', 'run', 'state', 'term', 'last', 'bytes', 'time', 'marked', 'floor', 'floor_time')
if not m[1] then return {'EMPTY'} end
if m[1] ~= ARGV[1] then return {'OTHER'} end
if m[2] ~= runner() then return {'MOVED'} end
if m[3] ~= 'open' then return {'RECOVERING'} end
if m[4] ~= ARGV[2] then return {'TERM'} end
local node, session, number = ARGV[3], ARGV[4], tonumber(ARGV[5])
if redis.call('HGET', sessions, node) ~= session .. ':' .. int(number - 1) then
  return {'SESSION'}
end

-- A script cannot roll back, so every condition is checked before the first write.
local pieces, outcomes = {}, {}
local at = 11
for i = 1, tonumber(ARGV[10]) do
  local piece = {positions = tonumber(ARGV[at]), payload = ARGV[at + 1], replies = {}, records = {}}
  local refusal
  local replies = tonumber(ARGV[at + 2])
  at = at + 3
  for r = 1, replies do
    local key = KEYS[tonumber(ARGV[at])]
    local reply = not refusal and redis.call('GET', key)
    if reply then refusal = 'A' .. reply end
    piece.replies[r] = {key, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), ARGV[at + 3]}
    at = at + 4
  end
  local records = tonumber(ARGV[at])
  at = at + 1
  for r = 1, records do
    local shelf, field, expected = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
    if not refusal and expected ~= '*' then
      local found = redis.call('HGET', shelf, field)
      local revision = found and string.match(found, '^(%S+) ') or ''
      if revision ~= expected then refusal = 'C' .. revision end
    end
    piece.records[r] = {shelf, field, tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])}
    at = at + 5
  end
  outcomes[i] = refusal
  pieces[i] = piece
end

local state = {
  term = m[4], last = tonumber(m[5]), bytes = tonumber(m[6]), marked = tonumber(m[8]),
  time = math.max(tonumber(m[7]), clock()), floor = m[9], floor_time = m[10],
}
local before = state.term .. '-' .. m[5]
local entry = {}
for i, piece in ipairs(pieces) do
  if not outcomes[i] then
    state.last = state.last + piece.positions
    state.bytes = state.bytes + #piece.payload
    entry[#entry + 1] = 's'
    entry[#entry + 1] = piece.payload
    outcomes[i] = 'S' .. int(state.last)
    for _, it in ipairs(piece.replies) do
      redis.call('SET', it[1], string.sub(piece.payload, it[2], it[3]), 'PX', it[4])
    end
    for _, it in ipairs(piece.records) do
      if it[3] == 0 then
        redis.call('HDEL', it[1], it[2])
      else
        local value = string.sub(piece.payload, it[3], it[4])
        redis.call('HSET', it[1], it[2], state.term .. '-' .. int(state.last) .. ' ' .. value)
      end
    end
  end
end
redis.call('HSET', sessions, node, session .. ':' .. int(number))
local here = state.term .. '-' .. int(state.last)
if here ~= before then
  redis.call('XADD', log, here, 'p', before, 'b', node .. ':' .. session .. ':' .. int(number),
    't', int(state.time), unpack(entry))
  trim(log, marks, state, {
    bytes = tonumber(ARGV[6]), events = tonumber(ARGV[7]), age = tonumber(ARGV[8]),
    mark = tonumber(ARGV[9]),
  })
  redis.call('HSET', meta, 'last', int(state.last), 'bytes', int(state.bytes),
    'time', int(state.time), 'marked', int(state.marked), 'floor', state.floor,
    'floor_time', state.floor_time)
end
return {'OK', before, int(state.time), unpack(outcomes)}
