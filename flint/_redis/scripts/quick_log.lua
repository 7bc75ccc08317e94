-- The record has what was in the window at the last admission: {entries, units}, and the time of
-- the oldest. Their numbers are below 2^31.
local room, cost, per = struct.unpack('>ddd', ARGV[2], 46)
local entries, units = h2, l2
local since = (now_h - last_h) * HALF + now_l - last_l
local is_new, gone = entries == 0 or since >= per, 0
if entries == 0 and units > 0 then
  return nil -- an older Flint has written it
elseif is_new then
  h1, l1, entries, units, h3, l3 = 0, 0, 0, 0, now_h, now_l
end
-- From when now / per was a whole number.
local elapsed = math.fmod(math.fmod(now_h * HALF, per) + now_l, per)
local is_late = (now_h - h3) * HALF + now_l - l3 >= per
local must_know = counts < 2 or since > elapsed or entries >= 1048576
local first_h, first_l = h1, l1
if (is_late and must_know) or (units > room and entries > 1) then
  local at_l = now_l - per
  local at_h = now_h + (at_l - at_l % HALF) / HALF
  if at_h < 0 then
    return nil
  end
  -- The newest entry that has left, and the oldest that has not.
  local newest = '(\0' .. struct.pack('>I4I4', at_h, at_l % HALF) .. string.rep('\255', 9)
  local base = redis.call('ZREVRANGEBYLEX', KEYS[3], newest, '[\0', 'LIMIT', 0, 1)[1]
  if base then
    gone = redis.call('ZRANK', KEYS[3], base) + 1
    local base_h, base_l = struct.unpack('>I4I4', base, 10)
    units = (h1 - base_h) * HALF + l1 - base_l
    if units < 0 then
      units = (h1 - base_h + 2 * HALF) * HALF + l1 - base_l
    end
  end
  local first = redis.call('ZRANGE', KEYS[3], gone, gone)[1]
  if not first or (is_late and not base) then
    return nil -- a part has been evicted
  end
  h3, l3, first_h, first_l = struct.unpack('>I4I4I4I4', first, 2)
  entries = redis.call('ZCARD', KEYS[3]) - gone
elseif not is_new and redis.call('EXISTS', KEYS[3]) == 0 then
  return nil
end

local behind_first = (h1 - first_h) * HALF + l1 - first_l
local before_h, before_l, is_joined = h1, l1, since == 0 and entries > 0
allows, fresh_ns = units <= room and (entries < 1048576 or since == 0), per
if allows and counts > 0 then
  l1, units, entries = l1 + cost, units + cost, is_joined and entries or entries + 1
  h1, l1 = (h1 + (l1 - l1 % HALF) / HALF) % (2 * HALF), l1 % HALF
elseif counts < 2 and units > room and (behind_first < 0 or behind_first > room) then
  return nil -- more than the oldest has to leave
end
h2, l2 = entries, units
