-- For wrk: sends the requests of a file in turn, and prints what became of them as one JSON line.
--   PEERS_REQUESTS  whole requests, one after the other; PEERS_REQUESTS.at beside it says where each begins (32 bits, little endian)
local ffi = require("ffi")
ffi.cdef [[
  int open(const char *path, int flags);
  void *mmap(void *address, size_t length, int protection, int flags, int file, long offset);
]]

local PROT_READ, MAP_SHARED = 1, 1

-- Mapped, not read: a million requests do not fit into the memory LuaJIT manages.
local function map(path)
  local file = assert(io.open(path, "rb"))
  local bytes = file:seek("end")
  file:close()
  local address = ffi.C.mmap(nil, bytes, PROT_READ, MAP_SHARED, ffi.C.open(path, 0), 0)
  assert(ffi.cast("intptr_t", address) ~= -1, "cannot map " .. path)
  return address, bytes
end

local path = assert(os.getenv("PEERS_REQUESTS"), "PEERS_REQUESTS is not set")
local text, at, count, turn

function init()
  local index, bytes = map(path .. ".at")
  at = ffi.cast("const uint32_t *", index)
  count = bytes / 4 - 1
  text = ffi.cast("const char *", (map(path)))
  -- Where to begin: runs one after the other go through all of them.
  turn = tonumber(os.getenv("PEERS_FIRST") or "0") % count
end

function request()
  local begin = at[turn]
  local one = ffi.string(text + begin, at[turn + 1] - begin)
  turn = turn + 1
  if turn == count then turn = 0 end
  return one
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"micros":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration, errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    latency:percentile(50), latency:percentile(99)
  ))
end
