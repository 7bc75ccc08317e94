-- All templates, behind the epoch that they are of and whether none has been evicted.

local epoch_told = read_epoch()
local templates = epoch_told == '' and {} or redis.call('HGETALL', KEYS[2])
return {epoch_told, is_whole() and 1 or 0, templates}
