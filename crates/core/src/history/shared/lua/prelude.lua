-- What the scripts share. Numbers are written in full, because Lua shortens large ones.
local function int(number)
  return string.format('%.0f', number)
end

-- Who runs this log: a process of Redis, as the primary of one replication history.
local function runner()
  local info = redis.call('INFO', 'server', 'replication')
  return string.match(info, 'run_id:(%w+)') .. string.match(info, 'master_replid:(%w+)')
end

-- The time in microseconds.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Marks each so many bytes of the log, and drops what is before a mark that is beyond a limit.
local function trim(log, marks, state, limits)
  if limits.mark <= state.bytes - state.marked then
    local here = state.term .. '-' .. int(state.last)
    redis.call('RPUSH', marks, here .. ' ' .. int(state.bytes) .. ' ' .. int(state.time))
    state.marked = state.bytes
  end
  for _ = 1, 2 do
    local oldest = redis.call('LINDEX', marks, 0)
    if not oldest then return end
    local term, number, bytes, time = string.match(oldest, '^(%d+)%-(%d+) (%d+) (%d+)$')
    local is_due = limits.bytes < state.bytes - tonumber(bytes)
      or limits.events < state.last - tonumber(number)
      or limits.age < state.time - tonumber(time)
    if not is_due then return end
    redis.call('XTRIM', log, 'MINID', term .. '-' .. int(tonumber(number) + 1))
    redis.call('LPOP', marks)
    state.floor, state.floor_time = term .. '-' .. number, time
  end
end
