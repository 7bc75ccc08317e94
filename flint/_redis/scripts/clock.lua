-- The server's time in nanoseconds.
local function clock()
  local told = redis.call('TIME')
  local micros = told[1] * 1000000 + told[2]
  local low = micros % 2147483648
  local rest = low * 1000 % 2147483648
  return {(micros - low) / 2147483648 * 1000 + (low * 1000 - rest) / 2147483648, rest}
end
