-- Decides the case of most checks: about one key of one counter, which has no name and no log, and
-- of which nothing else has to be known. The same as the rest of the script, with less to do; nil
-- for every other case.

local function decide_quickly()
  local told, asked = redis.call('GET', KEYS[1]) or '', ARGV[6]
  if told == '' or told ~= ARGV[1] or #ARGV ~= 6 or ARGV[3] == '1' or ARGV[4] ~= '' or ARGV[5] ~= '' then
    return nil
  end
  local raw = redis.call('GET', KEYS[5])
  local epoch = tonumber(string.match(told, '%d+$'))
  if not raw and #asked == 47 then -- a new one, under the one template
    local id, algorithm, stack = struct.unpack('>c8BB', asked, 9)
    raw = struct.pack('>BBBBI4c8', 2, algorithm, stack, 0, epoch, id) .. string.sub(asked, 43, 46)
      .. string.sub(asked, 19, 42) .. string.rep('\0', 33)
  end
  if not raw or #raw ~= 77 then
    return nil
  end
  local v = {struct.unpack('>BBBBI4c8I4' .. string.rep('I4', 14), raw)}
  local is_own = v[1] == 0 and v[3] == 0
  local is_of_template = v[1] == 2 and v[5] == epoch and #asked == 47
    and v[6] == string.sub(asked, 9, 16)
  local c = {algorithm = v[2], rate = {v[8], v[9]}, per = {v[10], v[11]}, burst = {v[12], v[13]},
    state1 = {v[14], v[15]}, state2 = {v[16], v[17]}, state3 = {v[18], v[19]}}
  local cost = {struct.unpack('>I4I4', asked)}
  if c.algorithm == 5 or less(c.burst, cost) or not (is_own or is_of_template) then
    return nil
  end
  local now = greater_of(clock(), {v[20], v[21]})
  local allows = state_allows(c, now, cost)
  if allows and ARGV[2] == '1' then
    admit_to_state(c, now, cost)
    raw = string.sub(raw, 1, 44) .. struct.pack('>I4I4I4I4I4I4I4I4B', c.state1[1], c.state1[2],
      c.state2[1], c.state2[2], c.state3[1], c.state3[2], now[1], now[2], 0)
    if is_own then
      redis.call('SET', KEYS[5], raw)
    else
      redis.call('SET', KEYS[5], raw, 'PX', expiry_ms(fresh_at(c), now))
    end
  end
  return {struct.pack('>BBBI4I4', 0, 0, allows and 1 or 0, now[1], now[2])
    .. string.rep('\0', 32) .. raw}
end

local decided = decide_quickly()
if decided then
  return decided
end

