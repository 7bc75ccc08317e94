if counts == 2 then
  return allows and 1 or 0
end
return struct.pack('>BBBI4I4', 0, 0, allows and 1 or 0, now_h, now_l)
  .. (seen or string.rep('\0', 32)) .. raw
