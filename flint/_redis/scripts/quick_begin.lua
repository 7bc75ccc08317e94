-- Decides most checks: about a key that has one counter, without a name and totals, of a limit that
-- the caller knows. nil: not decided, and check.lua has to be asked. Each algorithm has a script of
-- its own, of this part, one of the next four, and end.lua. A script makes its functions and tables
-- anew each time it runs, which is most of what it costs; so there are few here.
--
-- KEYS: the epoch, the record of the key, and its log. ARGV: the epoch of the caller's templates;
-- and what the record begins with, whether to count (0 not, 1 yes, 2 and nothing but the decision
-- is told), and numbers of the limit. They and all that is computed of them are below 2^52, so that
-- doubles hold them and their sums exactly. The difference of two times is exact below 2^53; a
-- longer one is rounded, and still above all of them.

local HALF = 2147483648
local MARGIN_MS = 1000
local found = redis.call('MGET', KEYS[1], KEYS[2])
local raw = found[2]
local head, counts = struct.unpack('>c44B', ARGV[2])
local is_own = string.byte(head) == 0
if found[1] ~= ARGV[1] or (raw and (#raw ~= 77 or string.sub(raw, 1, 44) ~= head))
  or (is_own and not raw) then
  return nil
end
local h1, l1, h2, l2, h3, l3, last_h, last_l = 0, 0, 0, 0, 0, 0, 0, 0
if raw then
  h1, l1, h2, l2, h3, l3, last_h, last_l = struct.unpack('>I4I4I4I4I4I4I4I4', raw, 45)
else
  raw = head .. string.rep('\0', 33)
end
local now = clock()
local now_h, now_l = now[1], now[2]
if now_h < last_h or (now_h == last_h and now_l < last_l) then
  now_h, now_l = last_h, last_l
end
-- What follows says whether the cost is admitted, after how long the counter is fresh again, what
-- is told of a log, and leaves in the numbers of the record what they are after an admission.
local allows, fresh_ns, seen
