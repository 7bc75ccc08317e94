-- Gives a key a limit of its own. ARGV: the limit, its name, whether it stacks, whether only if
-- there is none, and the first epoch of a store that has none. 1: something has changed, 0: nothing
-- has, -1: there are 16 already.

local limit, name, stack, if_absent = read_limit(ARGV[1]), ARGV[2], ARGV[3] == '1', ARGV[4] == '1'
local epoch = begin_store(ARGV[5])
local key = read_key(1, epoch)
local c = row_of(key, name)
if c and c.kind == KIND_EXACT
  and (if_absent or (has_limit(c, limit) and c.stack == stack)) then
  return 0
end
local others = 0
for _, row in ipairs(key.rows) do
  others = others + ((row.kind == KIND_EXACT and row.name ~= name) and 1 or 0)
end
if others >= MOST_LIMITS then
  return -1
end
local now = now_for({key})
c = c or new_record(name, epoch)
if c.kind ~= KIND_EXACT and (not c.kind or is_fresh(c, now)) then
  forget(c)
end
migrate(key, c, limit, now)
c.raw = nil
c.kind, c.stack, c.epoch, c.template, c.prefix_bytes = KIND_EXACT, stack, epoch, NO_TEMPLATE, 0
put(key, c)
end_uncovered(key)
store(key, now)
return 1
