-- The same as limit.lua for a template. ARGV: its prefix, the template, whether only if there is
-- none, and the first epoch of a store that has none.

local prefix, t, if_absent = ARGV[1], read_template(ARGV[2], 1), ARGV[3] == '1'
begin_store(ARGV[4])
local field = template_field(prefix, t.name)
local packed = redis.call('HGET', KEYS[2], field)
if packed then
  local before = read_template(packed, 1)
  if if_absent or (has_limit(before, t) and before.stack == t.stack) then
    return 0
  end
  t.id = before.id
elseif #templates_of(prefix) >= MOST_LIMITS then
  return -1
end
redis.call('HSET', KEYS[2], field, write_template(t))
redis.call('HSETNX', KEYS[4], t.id, string.rep('\0', 56))
note(1, prefix, t)
return 1
