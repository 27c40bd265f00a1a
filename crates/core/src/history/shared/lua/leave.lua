-- Takes a node that stops off the lists, so that no new term waits for it.
-- KEYS: meta sessions nodes about waiting
-- ARGV: id node
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return {'OTHER'} end
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('HDEL', KEYS[4], ARGV[2])
redis.call('SREM', KEYS[5], ARGV[2])
return {'OK'}
