-- What wrk sends: the bodies of a file in turn; what it tells at the end: one line of JSON.
-- wrk ... -s load.lua URL -- FILE CONTENT_TYPE WHOLE
local requests, turn = {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.headers["content-type"] = args[2]
  if args[3] == "whole" then
    requests[1] = wrk.format(nil, nil, nil, file:read("*a"))
  else
    for line in file:lines() do
      requests[#requests + 1] = wrk.format(nil, nil, nil, line)
    end
  end
  file:close()
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "p50": %.6f, "p99": %.6f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
