-- The same for the templates of a prefix. ARGV: the prefix, whether to reset, and the name of one.

local prefix, resets, name = ARGV[1], ARGV[2] == '1', ARGV[3]
local ended = 0
if read_epoch() == '' then
  return ended
end
for _, t in ipairs(templates_of(prefix)) do
  if not name or t.name == name then
    ended = ended + 1
    if resets then
      local at = note(3, prefix, t)
      change_sum(t.id, function(sum) sum.last_reset = greater_of(sum.last_reset, at) end)
    else
      redis.call('HDEL', KEYS[2], template_field(prefix, t.name))
      redis.call('HDEL', KEYS[4], t.id)
      note(2, prefix, t)
    end
  end
end
return ended
