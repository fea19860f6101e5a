-- Script for wrk: sends the tokens of a file in turn and prints the result as one line of JSON.
local requests = {}
local turn = 0

function init(args)
    for token in io.lines(args[1]) do
        requests[#requests + 1] = wrk.format("GET", "/mcp", { Host = "mcp.example.com", Authorization = "Bearer " .. token })
    end
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format('{"requests": %d, "microseconds": %d, "p99": %d, "errors": %d}', summary.requests,
        summary.duration, latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
