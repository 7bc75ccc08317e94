if allows and counts > 0 then
  raw = head .. struct.pack('>I4I4I4I4I4I4I4I4B', h1, l1, h2, l2, h3, l3, now_h, now_l, 0)
  if is_own then
    redis.call('SET', KEYS[2], raw)
  else
    redis.call('SET', KEYS[2], raw, 'PX', math.ceil(fresh_ns / 1000000) + MARGIN_MS)
  end
end
