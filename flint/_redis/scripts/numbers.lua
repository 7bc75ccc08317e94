-- Lua's only numbers are doubles. One of up to 62 bits is a pair of halves here, {high, low}, of 31
-- bits each; sums may have some bits more in their high half.

local HALF = 2147483648
local EXACT = 9007199254740992 -- below it a double is exact
local ZERO, ONE = {0, 0}, {0, 1}

local function less(a, b)
  return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
end

local function equal(a, b)
  return a[1] == b[1] and a[2] == b[2]
end

local function greater_of(a, b)
  return less(a, b) and b or a
end

local function lesser_of(a, b)
  return less(b, a) and b or a
end

local function is_zero(a)
  return a[1] == 0 and a[2] == 0
end

local function add(a, b)
  local low = a[2] + b[2]
  if low >= HALF then
    return {a[1] + b[1] + 1, low - HALF}
  end
  return {a[1] + b[1], low}
end

-- b is at most a.
local function subtract(a, b)
  local low = a[2] - b[2]
  if low < 0 then
    return {a[1] - b[1] - 1, low + HALF}
  end
  return {a[1] - b[1], low}
end

-- As a double, which is exact below EXACT.
local function rough(a)
  return a[1] * HALF + a[2]
end

local function exactly(double)
  local low = double % HALF
  return {(double - low) / HALF, low}
end

-- a * (q + r / c), whole and what is left in parts of c, by the bits of a.
local function times(a, q, r, c)
  local whole, left = ZERO, ZERO
  for half = 1, 2 do
    for place = half == 1 and 33 or 30, 0, -1 do
      if not (is_zero(whole) and is_zero(left)) then
        whole, left = add(whole, whole), add(left, left)
        if not less(left, c) then
          whole, left = add(whole, ONE), subtract(left, c)
        end
      end
      if math.floor(a[half] / 2 ^ place) % 2 == 1 then
        whole, left = add(whole, q), add(left, r)
        if not less(left, c) then
          whole, left = add(whole, ONE), subtract(left, c)
        end
      end
    end
  end
  return whole, left
end

-- a * b, of less than 63 bits.
local function multiply(a, b)
  local right = a[2] % 65536
  local product = (a[2] - right) / 65536 * b[2]
  local low = product % 32768
  local sum = add({(product - low) / 32768, low * 65536}, exactly(right * b[2]))
  return {sum[1] + a[1] * b[2] + a[2] * b[1], sum[2]}
end

-- a * b / c by doubles, where b and what b / c leaves are small enough.
local function scaled_quickly(a, b, c)
  local of_a, of_b, of_c = rough(a), rough(b), rough(c)
  if of_b >= EXACT or of_c >= EXACT then
    return nil
  end
  local rest = math.fmod(of_b, of_c)
  local product = of_a * rest
  if product >= EXACT then
    return nil
  end
  local left = math.fmod(product, of_c)
  local whole = multiply(a, exactly((of_b - rest) / of_c))
  return add(whole, exactly((product - left) / of_c)), exactly(left)
end

-- a * b / c, whole and what is left in parts of c.
local function scaled(a, b, c)
  local product = rough(a) * rough(b)
  if product < EXACT then
    local left = math.fmod(product, rough(c))
    return exactly((product - left) / rough(c)), exactly(left)
  end
  if equal(c, ONE) then
    return multiply(a, b), ZERO
  end
  if less(b, a) then
    a, b = b, a
  end
  local whole, left = scaled_quickly(a, b, c)
  if whole then
    return whole, left
  elseif equal(a, ONE) then
    return times(b, ZERO, ONE, c)
  end
  local q, r = scaled(ONE, b, c)
  return times(a, q, r, c)
end

local function scaled_up(a, b, c)
  local whole, left = scaled(a, b, c)
  return is_zero(left) and whole or add(whole, ONE)
end
