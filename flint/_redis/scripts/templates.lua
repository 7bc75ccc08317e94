-- Templates, and their changes, which counters go through when they are next used.

local function template_field(prefix, name)
  return struct.pack('>I4', #prefix) .. prefix .. name
end

local function templates_of(prefix)
  local found, start = {}, struct.pack('>I4', #prefix) .. prefix
  for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
    if string.sub(field, 1, #start) == start then
      found[#found + 1] = read_template(redis.call('HGET', KEYS[2], field))
    end
  end
  table.sort(found, function(a, b) return precedes(a.name, b.name) end)
  return found
end

-- Notes a change: 1 configured, 2 removed, 3 reset. When it was.
local function note(kind, prefix, t)
  local epoch_told, epoch = read_epoch()
  local at = clock()
  local last = redis.call('LINDEX', KEYS[3], -1)
  if last then
    at = greater_of(at, read_change(last).at)
  end
  local group, stacks = templates_of(prefix), false
  for _, one in ipairs(group) do
    stacks = stacks or one.stack
  end
  local ends_shorter = #group > 0 and not stacks
  redis.call('RPUSH', KEYS[3], struct.pack(CHANGE, kind, t.id, ends_shorter and 1 or 0,
    t.algorithm, t.stack and 1 or 0, at[1], at[2], t.rate[1], t.rate[2], t.per[1], t.per[2],
    t.burst[1], t.burst[2], #prefix, prefix, #t.name, t.name))
  redis.call('SET', KEYS[1], string.match(epoch_told, '^[^:]*:') .. string.format('%d', epoch + 1))
  return at
end
