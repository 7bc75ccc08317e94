-- Counts denials that the caller has seen. ARGV: for each key those of its limits.

local _, epoch = read_epoch()
for n, packed in ipairs(ARGV) do
  local key = read_key(n, epoch)
  for name, seen in pairs(read_denied(packed)) do
    local c = row_of(key, name)
    if c then
      note_denied(c, seen.denials, seen.cost, seen.last)
    end
    change_sum(seen.template, function(t)
      note_denied(t, seen.denials, seen.cost, seen.last)
    end)
  end
  if #key.rows > 0 then
    store(key, now_for({key}))
  end
end
return 1
