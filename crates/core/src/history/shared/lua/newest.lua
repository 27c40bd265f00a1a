-- Returns the newest position, if this server still runs the log.
-- KEYS: meta
-- ARGV: id
local m = redis.call('HMGET', KEYS[1], 'id', 'run', 'state', 'term', 'last')
if not m[1] then return {'EMPTY'} end
if m[1] ~= ARGV[1] then return {'OTHER'} end
if m[2] ~= runner() then return {'MOVED'} end
if m[3] ~= 'open' then return {'RECOVERING'} end
return {'OK', m[4], m[5]}
