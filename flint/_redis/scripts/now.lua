-- The server's time.

local now = clock()
return struct.pack('>I4I4', now[1], now[2])
