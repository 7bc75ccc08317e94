-- Removes or resets the limits of a key. ARGV: whether to reset, and the name of one of them, if
-- not all are meant. How many there were.

local resets, name = ARGV[1] == '1', ARGV[2]
local _, epoch = read_epoch()
local key = read_key(1, epoch)
local now = now_for({key})
local ended, templates = 0, {}
for _, c in ipairs(key.rows) do
  local is_there = c.kind == KIND_EXACT or (c.kind and not is_fresh(c, now))
  if is_there and (not name or c.name == name) then
    ended = ended + 1
    if resets and c.kind == KIND_EXACT then
      clear_state(c)
      c.raw, c.last, c.last_reset = nil, now, now
    else
      if resets and c.kind == KIND_COUNTER then
        templates[#templates + 1] = c.template
      end
      c.kind = nil
    end
  end
end
if ended > 0 then
  if not resets then
    end_uncovered(key)
  end
  store(key, now)
  for _, id in ipairs(templates) do
    change_sum(id, function(t) t.last_reset = greater_of(t.last_reset, now) end)
  end
end
return ended
