-- What wrk runs. Arguments: a file with one body a line, seconds, requests a second (0: closed loop).
-- After so many seconds nothing more is sent and wrk only waits, so every request that was sent is
-- answered before wrk ends: the count of answers is exact.
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } time_of_clock;
  int clock_gettime(int clock, time_of_clock *time);
]]
local clock = ffi.new("time_of_clock")

local function now()
  ffi.C.clock_gettime(1, clock)
  return tonumber(clock.seconds) + tonumber(clock.nanoseconds) * 1e-9
end

local requests, position = {}, 0
local seconds, rate, first, slot
local threads = {}
elapsed = 0 -- from the first request to the last answer

function setup(thread)
  threads[#threads + 1] = thread
end

function init(arguments)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  for line in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format(nil, nil, nil, line)
  end
  seconds, rate = tonumber(arguments[2]), tonumber(arguments[3])
end

-- Milliseconds to wait before the next request. In an open loop each free connection takes the next
-- slot of one schedule, whatever became of earlier requests.
function delay()
  local at = now()
  if not first then
    first, slot = at, at
  end
  if at > first + seconds then
    elapsed = at - first
    return 3600000
  end
  if rate == 0 then
    return 0
  end
  slot = slot + 1 / rate
  return math.max(0, (slot - at) * 1000)
end

function request()
  position = position % #requests + 1
  return requests[position]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"answers":%d,"p50":%.1f,"p99":%.1f,"p999":%.1f,"seconds":%.6f,"wrong_status":%d,"failed":%d}\n',
    summary.requests, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    threads[1]:get("elapsed"), errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
