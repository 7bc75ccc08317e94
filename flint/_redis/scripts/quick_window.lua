local room, cost, per = struct.unpack('>ddd', ARGV[2], 46)
local since, used = (now_h - h1) * HALF + now_l - l1, h2 * HALF + l2
if used == 0 or since >= per then
  h1, l1, used, since = now_h, now_l, 0, 0
end
allows, used, fresh_ns = used <= room, used + cost, per - since
l2 = used % HALF
h2 = (used - l2) / HALF
