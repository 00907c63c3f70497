-- Sends the requests of a file in turn; its first line holds their lengths. Prints one JSON object at the end.
local requests, at = {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for length in file:read("*l"):gmatch("%d+") do
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\n{"answers": %d, "us": %d, "refused": %d, "failed": %d, "p50": %.1f, "p90": %.1f, "p99": %.1f, "max": %.1f}\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max
  ))
end
