-- The counters of a key are one string, and the admissions of its sliding_window_logs one sorted
-- set. KEYS: the epoch, the templates, their changes, their sums; then for each key these two.

local KIND_EXACT, KIND_COUNTER, KIND_INLINE, KIND_NONE = 0, 2, 3, 255
local NO_LIMIT, TOO_MANY, WRONG_COST = 2, 3, 4
local MOST_LIMITS, MOST_ENTRIES = 16, 1048576
local NO_TEMPLATE = string.rep('\0', 8)

local FIELDS = {'rate', 'per', 'burst', 'state1', 'state2', 'state3', 'last'}
local TOTALS = {'allowed', 'denied', 'allowed_cost', 'denied_cost', 'last_allowed', 'last_denied',
  'last_reset'}
-- Totals stand in a record only where something was counted. quick.lua knows where the fields are
-- of one without totals and a name, which has 77 bytes.
local RECORD = '>BBBBI4c8I4' .. string.rep('I4I4', #FIELDS)
local NAME = '>Bc0'
local SUM = '>' .. string.rep('I4I4', 7)
local TEMPLATE = '>c8BBI4I4I4I4I4I4I4Bc0'
local CHANGE = '>Bc8BBBI4I4I4I4I4I4I4I4I4c0Bc0'

-- ---- Totals ----

local function add_cost(sum, cost)
  sum = add(sum, cost)
  return sum[1] < 2 * HALF and sum or {2 * HALF - 1, HALF - 1}
end

local function note_allowed(t, cost, now)
  t.raw = nil
  t.allowed = add(t.allowed, ONE)
  t.allowed_cost = add_cost(t.allowed_cost, cost)
  t.last_allowed = greater_of(t.last_allowed, now)
end

local function note_denied(t, denials, cost, at)
  t.raw = nil
  t.denied = add(t.denied, denials)
  t.denied_cost = add_cost(t.denied_cost, cost)
  t.last_denied = greater_of(t.last_denied, at)
end

local function read_totals(t, packed, from)
  local v = {struct.unpack(SUM, packed, from)}
  for n, field in ipairs(TOTALS) do
    t[field] = {v[2 * n - 1], v[2 * n]}
  end
  return v[15]
end

local function write_totals(t)
  local v = {}
  for n, field in ipairs(TOTALS) do
    v[2 * n - 1], v[2 * n] = unpack(t[field])
  end
  return struct.pack(SUM, unpack(v))
end

local function clear_totals(t)
  for _, field in ipairs(TOTALS) do
    t[field] = ZERO
  end
end

-- Changes what has been counted under a template.
local function change_sum(id, change)
  local packed, t = redis.call('HGET', KEYS[4], id), {}
  if packed then -- or the template has been removed
    read_totals(t, packed)
    change(t)
    redis.call('HSET', KEYS[4], id, write_totals(t))
  end
end

-- The denials that a caller has seen of a key's limits, by name.
local function read_denied(packed)
  local denied, from = {}, 1
  while from <= #packed do
    local v = {struct.unpack('>I4I4I4I4I4I4c8Bc0', packed, from)}
    denied[v[8]] = {denials = {v[1], v[2]}, cost = {v[3], v[4]}, last = {v[5], v[6]},
      template = v[7]}
    from = v[9]
  end
  return denied
end

-- ---- Records ----

local function read_record(raw, from)
  local v = {struct.unpack(RECORD, raw, from)}
  local c = {kind = v[1], algorithm = v[2], stack = v[3] == 1, epoch = v[5], template = v[6],
    prefix_bytes = v[7], rate = {v[8], v[9]}, per = {v[10], v[11]}, burst = {v[12], v[13]},
    state1 = {v[14], v[15]}, state2 = {v[16], v[17]}, state3 = {v[18], v[19]},
    last = {v[20], v[21]}, has_log = v[2] == 5}
  local next = v[22]
  if v[4] == 1 then
    next = read_totals(c, raw, next)
  else
    clear_totals(c)
  end
  c.name, next = struct.unpack(NAME, raw, next)
  c.raw = string.sub(raw, from, next - 1)
  return c, next
end

-- `raw` is the record as it was read, and is kept until something changes.
local function write_record(c)
  if c.raw then
    return c.raw
  end
  local has_totals = not (is_zero(c.allowed) and is_zero(c.denied) and is_zero(c.last_reset))
  c.raw = struct.pack(RECORD, c.kind or KIND_NONE, c.algorithm, c.stack and 1 or 0,
    has_totals and 1 or 0, c.epoch, c.template, c.prefix_bytes, c.rate[1], c.rate[2], c.per[1],
    c.per[2], c.burst[1], c.burst[2], c.state1[1], c.state1[2], c.state2[1], c.state2[2],
    c.state3[1], c.state3[2], c.last[1], c.last[2]) .. (has_totals and write_totals(c) or '')
    .. struct.pack(NAME, #c.name, c.name)
  return c.raw
end

-- A counter that has used nothing.
local function new_record(name, epoch)
  local c = {algorithm = 1, stack = false, epoch = epoch, template = NO_TEMPLATE, prefix_bytes = 0,
    name = name}
  for _, field in ipairs(FIELDS) do
    c[field] = ZERO
  end
  clear_totals(c)
  return c
end

local function give_limit(c, limit)
  c.algorithm, c.rate, c.per, c.burst = limit.algorithm, limit.rate, limit.per, limit.burst
end

local function has_limit(c, limit)
  return c.algorithm == limit.algorithm and equal(c.rate, limit.rate) and equal(c.per, limit.per)
    and equal(c.burst, limit.burst)
end

-- algorithm, rate, per_ns and burst
local function read_limit(packed)
  local v = {struct.unpack('>BI4I4I4I4I4I4', packed)}
  return {algorithm = v[1], rate = {v[2], v[3]}, per = {v[4], v[5]}, burst = {v[6], v[7]}}
end

local function read_template(packed, from)
  local v = {struct.unpack(TEMPLATE, packed, from)}
  local t = {id = v[1], algorithm = v[2], stack = v[3] == 1, rate = {v[4], v[5]},
    per = {v[6], v[7]}, burst = {v[8], v[9]}, prefix_bytes = v[10], name = v[11]}
  return t, v[12]
end

local function write_template(t)
  return struct.pack(TEMPLATE, t.id, t.algorithm, t.stack and 1 or 0, t.rate[1], t.rate[2],
    t.per[1], t.per[2], t.burst[1], t.burst[2], t.prefix_bytes, #t.name, t.name)
end

local function read_change(packed)
  local v = {struct.unpack(CHANGE, packed)}
  return {kind = v[1], id = v[2], ends_shorter = v[3] == 1, algorithm = v[4], stack = v[5] == 1,
    at = {v[6], v[7]}, rate = {v[8], v[9]}, per = {v[10], v[11]}, burst = {v[12], v[13]},
    prefix = v[14], name = v[15]}
end

-- ---- Logs ----

-- A member is its limit's name, its time, and all units up to it.
local function log_prefix(c)
  return struct.pack('>Bc0', #c.name, c.name)
end

local function log_member(c, at, units)
  return log_prefix(c) .. struct.pack('>I4I4I4I4', at[1], at[2], units[1], units[2])
end

-- Behind all members of a time and before those of the next.
local function log_end(c, at)
  return '(' .. log_prefix(c) .. struct.pack('>I4I4', at[1], at[2]) .. string.rep('\255', 9)
end

local function read_member(member)
  local v = {struct.unpack('>I4I4I4I4', member, #member - 15)}
  return {v[1], v[2]}, {v[3], v[4]}
end

-- A memory that is full lets what removes go first, and then everything else. So nothing is removed
-- where there is nothing.
local function clear_log(key, c)
  local from, to = '[' .. log_prefix(c), '(' .. log_prefix(c) .. string.rep('\255', 25)
  if redis.call('ZLEXCOUNT', key.log, from, to) > 0 then
    redis.call('ZREMRANGEBYLEX', key.log, from, to)
  end
end

local function add_entry(key, c, at, units)
  redis.call('ZADD', key.log, 0, log_member(c, at, units))
end

-- The newest entry that has left the window.
local function log_base(key, c, now)
  if less(now, c.per) then
    return nil
  end
  return redis.call('ZREVRANGEBYLEX', key.log, log_end(c, subtract(now, c.per)),
    '[' .. log_prefix(c), 'LIMIT', 0, 1)[1]
end

-- The units behind an entry, or behind what was there before the first.
local function units_behind(c, member)
  local _, units = ZERO, ZERO
  if member then
    _, units = read_member(member)
  end
  if less(c.state1, units) then
    return subtract(add(c.state1, {2 * HALF, 0}), units)
  end
  return subtract(c.state1, units)
end

-- The last of the oldest entries that must leave until the cost fits.
local function last_to_leave(key, c, first, room)
  local low = redis.call('ZRANK', key.log, first)
  local high = low + c.entries - 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local member = redis.call('ZRANGE', key.log, middle, middle)[1]
    if less(room, units_behind(c, member)) then
      low = middle + 1
    else
      high = middle
    end
  end
  return (read_member(redis.call('ZRANGE', key.log, low, low)[1]))
end

-- ---- Algorithms ----

-- The units used as of a time, rounded up.
local function used(key, c, at)
  if is_fresh(c, at) then
    return ZERO
  elseif c.algorithm <= 3 then
    local whole, left = scaled(subtract(c.state1, at), c.rate, c.per)
    return lesser_of(c.burst, add(whole, scaled_up(ONE, add(left, c.state2), c.per)))
  elseif c.algorithm == 4 then
    return c.state2
  elseif c.algorithm == 5 then
    return c.is_one_entry and c.state1 or units_behind(c, log_base(key, c, at))
  end
  slide(c, at)
  return lesser_of(c.rate, add(weight(c, at), c.state3))
end

local function clear_state(c)
  c.raw = nil
  c.state1, c.state2, c.state3 = ZERO, ZERO, ZERO
  c.is_one_entry = c.has_log
end

local function forget(c)
  clear_state(c)
  clear_totals(c)
end

-- Other values: what was used counts as used at the moment of the change.
local function migrate(key, c, limit, at)
  local units = lesser_of(used(key, c, at), limit.burst)
  give_limit(c, limit)
  clear_state(c)
  c.last = at
  if is_zero(units) then
    return
  elseif c.algorithm <= 3 then
    local whole, left = scaled(units, c.per, c.rate)
    c.state1, c.state2 = add(at, whole), left
  elseif c.algorithm == 4 then
    c.state1, c.state2 = at, units
  elseif c.algorithm == 5 then
    c.state1, c.is_one_entry = units, true
    c.state2, c.state3 = {1, units[2]}, at
  else
    slide(c, at)
    c.state3 = units
  end
end

local function look_at_log(key, c, now, cost)
  c.units, c.entries, c.oldest, c.leaves = ZERO, 0, ZERO, ZERO
  if is_fresh(c, now) then
    return
  elseif c.is_one_entry then
    c.units, c.entries, c.oldest, c.leaves = c.state1, 1, c.last, c.last
    return
  end
  c.base = log_base(key, c, now)
  c.units = units_behind(c, c.base)
  local from = less(now, c.per) and '[' .. log_prefix(c) or log_end(c, subtract(now, c.per))
  local to = '(' .. log_prefix(c) .. string.rep('\255', 25)
  c.entries = redis.call('ZLEXCOUNT', key.log, from, to)
  local first = redis.call('ZRANGEBYLEX', key.log, from, to, 'LIMIT', 0, 1)[1]
  if not first then -- it has been evicted
    c.units, c.entries = ZERO, 0
    return
  end
  c.oldest = read_member(first)
  c.leaves = c.oldest
  if not less(c.rate, cost) and less(subtract(c.rate, cost), c.units) then
    c.leaves = last_to_leave(key, c, first, subtract(c.rate, cost))
  end
end

-- Whether the cost is admitted.
local function look(key, c, now, cost)
  c.now = now
  if less(c.burst, cost) then
    c.status, c.allows = WRONG_COST, false
  elseif c.algorithm == 5 then
    look_at_log(key, c, now, cost)
    c.allows = not less(subtract(c.rate, cost), c.units)
      and (c.entries < MOST_ENTRIES or equal(c.last, now))
  else
    c.allows = state_allows(c, now, cost)
  end
end

-- Makes the log what the counter says, if that is one entry or none.
local function settle_log(key, c)
  if not c.is_one_entry then
    return
  end
  if key.is_new and c.algorithm == 5 then
    -- A log stays longer than its record: what there is is of counters that have gone.
    if redis.call('EXISTS', key.log) == 1 then
      redis.call('DEL', key.log)
    end
    key.is_new = false
  elseif c.has_log then
    clear_log(key, c)
  end
  c.has_log, c.is_one_entry = c.algorithm == 5, false
  if c.has_log and not is_zero(c.state2) then
    add_entry(key, c, c.last, c.state1)
  end
end

local function admit_to_log(key, c, now, cost)
  if c.entries == 0 then
    clear_state(c)
    c.has_log, c.is_one_entry = true, true
  end
  settle_log(key, c)
  local before = c.state1
  c.state1, c.has_log = add(c.state1, cost), true
  c.state1 = {c.state1[1] % (2 * HALF), c.state1[2]}
  add_entry(key, c, now, c.state1)
  if c.base then
    redis.call('ZREMRANGEBYLEX', key.log, '[' .. log_prefix(c), '(' .. c.base)
  end
  if c.entries > 0 and equal(c.last, now) then
    redis.call('ZREM', key.log, log_member(c, now, before))
  else
    c.entries = c.entries + 1
  end
  c.oldest = c.entries == 1 and now or c.oldest
  c.units = add(c.units, cost)
  c.leaves = c.oldest
  c.state2, c.state3 = {c.entries, c.units[2]}, c.oldest
end

-- Counts an admission that `look` has granted.
local function admit(key, c, now, cost)
  c.raw = nil
  if c.algorithm == 5 then
    admit_to_log(key, c, now, cost)
  else
    admit_to_state(c, now, cost)
  end
  c.last = now
end

-- ---- Keys ----

local function read_epoch()
  local told = redis.call('GET', KEYS[1])
  return told or '', told and tonumber(string.match(told, '%d+$')) or 0
end

-- Whether there is a store, and nothing of its templates has been evicted.
local function is_whole()
  local epoch_told, epoch = read_epoch()
  return epoch_told ~= '' and redis.call('LLEN', KEYS[3]) == epoch
    and (redis.call('EXISTS', KEYS[2]) == 1 or redis.call('EXISTS', KEYS[4]) == 0)
end

-- The epoch of a store that is whole. Else another store begins, whose name tells everybody to
-- configure again what they have configured.
local function begin_store(first_epoch)
  local _, epoch = read_epoch()
  if is_whole() then
    return epoch
  end
  redis.call('SET', KEYS[1], first_epoch)
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
  return 0
end

-- Takes a counter under a template through the changes since it was last used. Its kind is nil
-- when it has ended, or when some of them have been evicted.
local function catch_up(key, c, epoch)
  c.raw = nil
  local changes = redis.call('LRANGE', KEYS[3], c.epoch, epoch - 1)
  if #changes < epoch - c.epoch then
    c.kind = nil
    return
  end
  for _, packed in ipairs(changes) do
    local change = read_change(packed)
    local prefix = change.prefix
    if string.sub(key.key, 1, #prefix) == prefix then
      local is_own = change.id == c.template
      if change.kind == 2 and is_own then
        c.kind = nil
        return
      end
      local takes_over = change.kind == 1 and #prefix >= c.prefix_bytes and change.name == c.name
      if not takes_over and change.ends_shorter and #prefix > c.prefix_bytes then
        c.kind = nil
        return
      end
      if takes_over or (change.kind == 3 and is_own) then
        local at = greater_of(change.at, c.last)
        if change.kind == 3 or is_fresh(c, at) then
          forget(c)
        end
        if takes_over then
          migrate(key, c, change, at)
          c.template, c.prefix_bytes, c.stack = change.id, #prefix, change.stack
        end
      end
    end
  end
  c.epoch = epoch
end

-- A key and what there is for it, in order of name.
local function read_key(number, epoch)
  local key = {record = KEYS[3 + 2 * number], log = KEYS[4 + 2 * number], rows = {}}
  key.key = string.sub(key.record, #KEYS[1] - 5 + 3)
  local raw = redis.call('GET', key.record) or ''
  key.is_new = raw == ''
  local from = 1
  while from <= #raw do
    local c
    c, from = read_record(raw, from)
    if c.kind == KIND_COUNTER and c.epoch < epoch then
      catch_up(key, c, epoch)
    end
    key.rows[#key.rows + 1] = c
  end
  return key
end

local function now_for(keys)
  local now = clock()
  for _, key in ipairs(keys) do
    for _, c in ipairs(key.rows) do
      now = greater_of(now, c.last)
    end
  end
  return now
end

local function row_of(key, name)
  for n, c in ipairs(key.rows) do
    if c.name == name then
      return c, n
    end
  end
  return nil, #key.rows + 1
end

-- By their bytes; Lua itself compares strings as the server's locale says.
local function precedes(a, b)
  for n = 1, math.min(#a, #b) do
    local x, y = string.byte(a, n), string.byte(b, n)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

-- Puts a counter in the place of what there is under its name.
local function put(key, c)
  local before, n = row_of(key, c.name)
  if before and before ~= c and before.has_log then
    c.has_log, c.is_one_entry = true, true
  end
  key.rows[n] = c
  table.sort(key.rows, function(a, b) return precedes(a.name, b.name) end)
end

-- Writes what there is for a key, but for what cannot be told from nothing.
local function store(key, now)
  local parts, until_fresh, is_permanent, log_until = {}, ZERO, false, nil
  for _, c in ipairs(key.rows) do
    if c.kind == KIND_EXACT or (c.kind and not is_fresh(c, now)) then
      settle_log(key, c)
      parts[#parts + 1] = write_record(c)
      if c.algorithm == 5 then
        -- A period more than it needs, so that not every admission has to say it again.
        log_until = greater_of(log_until or ZERO, add(fresh_at(c), c.per))
      end
      if c.kind == KIND_EXACT then
        is_permanent = true
      else
        until_fresh = greater_of(until_fresh, fresh_at(c))
      end
    elseif c.has_log then
      clear_log(key, c)
    end
  end
  if #parts == 0 then
    redis.call('DEL', key.record, key.log)
  elseif is_permanent then
    redis.call('SET', key.record, table.concat(parts))
    if log_until then
      redis.call('PERSIST', key.log)
    end
  else
    redis.call('SET', key.record, table.concat(parts), 'PX', expiry_ms(until_fresh, now))
    if log_until then
      redis.call('PEXPIRE', key.log, expiry_ms(log_until, now))
    end
  end
end

-- Ends what a key's own limits leave nothing to decide.
local function end_uncovered(key)
  local has_own, stacks = false, false
  for _, c in ipairs(key.rows) do
    has_own = has_own or c.kind == KIND_EXACT
    stacks = stacks or (c.kind == KIND_EXACT and c.stack)
  end
  for _, c in ipairs(key.rows) do
    if has_own and c.kind ~= KIND_EXACT and not (stacks and c.kind == KIND_COUNTER) then
      c.kind = nil
    end
  end
end

-- What is told of a counter.
local function told(c, item)
  local v = {c.status or 0, item, c.allows and 1 or 0}
  local numbers = {c.now or ZERO, c.units or ZERO, {0, c.entries or 0}, c.oldest or ZERO,
    c.leaves or ZERO}
  for _, number in ipairs(numbers) do
    v[#v + 1], v[#v + 2] = number[1], number[2]
  end
  return struct.pack('>BBB' .. string.rep('I4I4', 5), unpack(v)) .. write_record(c)
end
