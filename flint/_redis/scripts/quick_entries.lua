-- The log behind its record: a memory that is full refuses the first write alone.
if allows and counts > 0 then
  local at = '\0' .. struct.pack('>I4I4', now_h, now_l)
  if is_new then
    redis.call('DEL', KEYS[3])
  end
  redis.call('ZADD', KEYS[3], 0, at .. struct.pack('>I4I4', h1, l1))
  if is_joined then
    redis.call('ZREM', KEYS[3], at .. struct.pack('>I4I4', before_h, before_l))
  end
  if gone > 1 then
    redis.call('ZREMRANGEBYRANK', KEYS[3], 0, gone - 2)
  end
  -- Enough for all that comes until now / per is a whole number again.
  if not is_own and (is_new or since > elapsed) then
    redis.call('PEXPIRE', KEYS[3], math.ceil(2 * per / 1000000) + MARGIN_MS)
  end
end
if counts < 2 then
  local oldest_h, oldest_l = entries > 0 and h3 or 0, entries > 0 and l3 or 0
  seen = struct.pack('>I4I4I4I4I4I4I4I4', 0, units, 0, entries, oldest_h, oldest_l, oldest_h,
    oldest_l)
end
