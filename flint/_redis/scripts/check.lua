-- Decides about one key or several, all or nothing. ARGV: the epoch of the caller's templates,
-- whether to count, whether totals are kept, the limit that the check carries, the denials of the
-- one key that the caller has seen, and for each key its cost and the templates that apply to it.
-- An empty answer: the templates are old.

local epoch_told, epoch = read_epoch()
if epoch_told ~= ARGV[1] then
  return {}
end
local counts, has_totals = ARGV[2] == '1', ARGV[3] == '1'
local inline = ARGV[4] ~= '' and read_limit(ARGV[4])
local is_changed = false

-- The limits that decide about a key together: its own in order of name, then those of templates.
local function applying(key, packed, now)
  local found, taken, has_own, stacks = {}, {}, false, false
  for _, c in ipairs(key.rows) do
    if c.kind == KIND_INLINE and not is_fresh(c, now) then
      if inline and not has_limit(c, inline) then
        migrate(key, c, inline, now)
        is_changed = true
      end
      return {c}
    elseif c.kind == KIND_EXACT then
      found[#found + 1] = c
      has_own, stacks, taken[c.name] = true, stacks or c.stack, true
    end
  end
  local from = 9
  while from <= #packed and (stacks or not has_own) do
    local t
    t, from = read_template(packed, from)
    if not taken[t.name] then
      local c = row_of(key, t.name)
      if not c or c.kind ~= KIND_COUNTER or c.template ~= t.id then
        c = new_record(t.name, epoch)
        c.kind, c.template, c.prefix_bytes, c.stack = KIND_COUNTER, t.id, t.prefix_bytes, t.stack
        give_limit(c, t)
        put(key, c)
      end
      c.status = #found == MOST_LIMITS and TOO_MANY or nil
      found[#found + 1] = c
    end
  end
  if #found == 0 then
    local c = new_record('', epoch)
    found[1] = c
    if inline then
      c.kind = KIND_INLINE
      give_limit(c, inline)
      put(key, c)
    else
      c.status = NO_LIMIT
    end
  end
  return found
end

local keys, claims = {}, {}
for n = 1, #ARGV - 5 do
  keys[n] = read_key(n, epoch)
end
local now = now_for(keys)
local is_ready, is_wrong = counts, false
for n, key in ipairs(keys) do
  local high, low = struct.unpack('>I4I4', ARGV[5 + n])
  for _, c in ipairs(applying(key, ARGV[5 + n], now)) do
    if not c.status then
      look(key, c, now, {high, low})
    end
    is_ready = is_ready and c.allows and not c.status
    is_wrong = is_wrong or c.status ~= nil
    claims[#claims + 1] = {key = key, counter = c, cost = {high, low}, item = n - 1}
  end
end

if is_ready then
  local denied = read_denied(ARGV[5])
  for _, claim in ipairs(claims) do
    local c = claim.counter
    local seen = denied[c.name]
    if seen then
      note_denied(c, seen.denials, seen.cost, seen.last)
    end
    if c.kind ~= KIND_EXACT and is_fresh(c, now) then
      forget(c)
    end
    admit(claim.key, c, now, claim.cost)
    if has_totals then
      note_allowed(c, claim.cost, now)
    end
  end
  for _, key in ipairs(keys) do
    store(key, now)
  end
  for _, seen in pairs(denied) do
    change_sum(seen.template, function(t)
      note_denied(t, seen.denials, seen.cost, seen.last)
    end)
  end
  for _, claim in ipairs(claims) do
    if has_totals and claim.counter.kind == KIND_COUNTER then
      change_sum(claim.counter.template, function(t)
        note_allowed(t, claim.cost, now)
      end)
    end
  end
elseif counts and is_changed and not is_wrong then
  for _, key in ipairs(keys) do
    store(key, now)
  end
end

local answer = {}
for n, claim in ipairs(claims) do
  answer[n] = told(claim.counter, claim.item)
end
return answer
