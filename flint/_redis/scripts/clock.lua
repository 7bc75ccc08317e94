-- The server's time in nanoseconds.
local function clock()
  local seconds, micros = unpack(redis.call('TIME'))
  local now = exactly(seconds * 1000000 + micros)
  local low = now[2] * 1000
  local rest = low % HALF
  return {now[1] * 1000 + (low - rest) / HALF, rest}
end
