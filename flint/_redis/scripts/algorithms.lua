-- What a counter remembers, but for the log of a sliding_window_log.
--
-- state1 to state3 are, by algorithm: 1 to 3 (buckets) the arrival time and its fraction; 4 (fixed
-- window) its start and what is used; 5 (log) all units that were ever added to it, modulo 2^63,
-- then, as of the last admission, {entries, the lower 31 bits of the units in the window}, and the
-- time of the oldest; 6 (sliding counter) the window's start, the units before it and in it.

local MARGIN_MS = 1000

-- Whether it cannot be told from a new counter.
local function is_fresh(c, now)
  if c.algorithm <= 3 then
    return less(c.state1, now) or (equal(c.state1, now) and is_zero(c.state2))
  elseif c.algorithm == 4 then
    return is_zero(c.state2) or not less(now, add(c.state1, c.per))
  elseif c.algorithm == 5 then
    return is_zero(c.state2) or not less(now, add(c.last, c.per))
  end
  local window_end = add(c.state1, c.per)
  return (is_zero(c.state3) or not less(now, add(window_end, c.per)))
    and (is_zero(c.state2) or not less(now, window_end))
end

-- When that will be, of one that is not.
local function fresh_at(c)
  if c.algorithm <= 3 then
    return c.state1
  elseif c.algorithm == 4 then
    return add(c.state1, c.per)
  elseif c.algorithm == 5 then
    return add(c.last, c.per)
  end
  return add(add(c.state1, c.per), c.per)
end

-- Moves a sliding counter to the window of a time.
local function slide(c, now)
  local window_end = add(c.state1, c.per)
  if less(now, window_end) then
    return
  end
  c.raw = nil
  if less(now, add(window_end, c.per)) then
    c.state1, c.state2 = window_end, c.state3
  else
    local _, elapsed = scaled(ONE, now, c.per)
    c.state1, c.state2 = subtract(now, elapsed), ZERO
  end
  c.state3 = ZERO
end

-- What the window before weighs now, rounded up.
local function weight(c, now)
  return scaled_up(c.state2, subtract(add(c.state1, c.per), now), c.per)
end

-- Whether a bucket holds the cost.
local function bucket_allows(c, now, cost)
  c.cost_whole, c.cost_left = scaled(cost, c.per, c.rate)
  local whole, left = scaled(c.burst, c.per, c.rate)
  if less(left, c.cost_left) then
    whole, left = subtract(whole, ONE), add(left, c.rate)
  end
  whole, left = subtract(whole, c.cost_whole), subtract(left, c.cost_left)
  if less(c.state1, now) then
    return true
  end
  local until_full = subtract(c.state1, now)
  return less(until_full, whole) or (equal(until_full, whole) and not less(left, c.state2))
end

-- Whether the cost, which is at most the burst, is admitted.
local function state_allows(c, now, cost)
  if c.algorithm <= 3 then
    return bucket_allows(c, now, cost)
  elseif c.algorithm == 4 then
    return is_fresh(c, now) or not less(subtract(c.rate, cost), c.state2)
  end
  local raw, start, before, current = c.raw, c.state1, c.state2, c.state3
  slide(c, now)
  local room = subtract(c.rate, cost)
  if not less(room, c.state3) and not less(subtract(room, c.state3), weight(c, now)) then
    return true
  end
  c.raw, c.state1, c.state2, c.state3 = raw, start, before, current
  return false
end

-- Counts an admission that has been granted.
local function admit_to_state(c, now, cost)
  if c.algorithm <= 3 then
    if less(c.state1, now) then
      c.state1, c.state2 = now, ZERO
    end
    c.state1, c.state2 = add(c.state1, c.cost_whole), add(c.state2, c.cost_left)
    if not less(c.state2, c.rate) then
      c.state1, c.state2 = add(c.state1, ONE), subtract(c.state2, c.rate)
    end
  elseif c.algorithm == 4 then
    if is_fresh(c, now) then
      c.state1, c.state2 = now, ZERO
    end
    c.state2 = add(c.state2, cost)
  else
    slide(c, now)
    c.state3 = add(c.state3, cost)
  end
end

-- After how many milliseconds what is fresh then may go.
local function expiry_ms(fresh, now)
  return string.format('%.0f', math.ceil(rough(subtract(fresh, now)) / 1000000) + MARGIN_MS)
end
