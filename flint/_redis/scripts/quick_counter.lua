local room, cost, per = struct.unpack('>ddd', ARGV[2], 46)
local since = (now_h - h1) * HALF + now_l - l1
local before, used = h2 * HALF + l2, h3 * HALF + l3
if since >= 2 * per then
  since = math.fmod(math.fmod(now_h * HALF, per) + now_l, per)
  h1, l1, before, used = now_h, now_l - since, 0, 0
elseif since >= per then
  since, l1, before, used = since - per, l1 + per, used, 0
end
-- Whether before * (per - since) / per is at most what is left. Where rounding might say otherwise
-- it is not decided.
local weighs, has = before * (per - since), (room - used) * per
if (weighs >= 2 ^ 53 or has >= 2 ^ 53) and math.abs(weighs - has) <= has / 2 ^ 50 then
  return nil
end
allows, used, fresh_ns = weighs <= has, used + cost, 2 * per - since
l2, l3 = before % HALF, used % HALF
h1, l1 = h1 + (l1 - l1 % HALF) / HALF, l1 % HALF
h2, h3 = (before - l2) / HALF, (used - l3) / HALF
