-- All templates, behind the epoch that they are of.

local epoch_told = read_epoch()
return {epoch_told, redis.call('HGETALL', KEYS[2])}
