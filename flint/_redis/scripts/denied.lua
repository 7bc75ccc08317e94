-- Counts denials that the caller has seen. ARGV: for each key those of its limits.

local _, epoch = read_epoch()
for n, packed in ipairs(ARGV) do
  local key, from = read_key(n, epoch), 1
  while from <= #packed do
    local v = {struct.unpack('>I4I4I4I4I4I4c8Bc0', packed, from)}
    local denials, cost, last = {v[1], v[2]}, {v[3], v[4]}, {v[5], v[6]}
    from = v[9]
    local c = row_of(key, v[8])
    if c then
      note_denied(c, denials, cost, last)
    end
    change_sum(v[7], function(t) note_denied(t, denials, cost, last) end)
  end
  if #key.rows > 0 then
    store(key, now_for({key}))
  end
end
return 1
