-- An arrival time that is `most` and a part of a nanosecond ahead lets the cost just fit.
local most, most_left, takes, takes_left, rate = struct.unpack('>ddddd', ARGV[2], 46)
local ahead, left = (h1 - now_h) * HALF + l1 - now_l, h2 * HALF + l2
allows = ahead < most or (ahead == most and left <= most_left)
if allows then
  if ahead < 0 then
    h1, l1, left = now_h, now_l, 0
  end
  l1, left = l1 + takes, left + takes_left
  if left >= rate then
    l1, left = l1 + 1, left - rate
  end
  l2 = left % HALF
  h1, l1, h2 = h1 + (l1 - l1 % HALF) / HALF, l1 % HALF, (left - l2) / HALF
  fresh_ns = (h1 - now_h) * HALF + l1 - now_l
end
