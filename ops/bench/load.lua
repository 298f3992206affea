-- A load of presigned requests for wrk: HOLDFAST_LOAD_URLS is a file with one path and query per line,
-- HOLDFAST_LOAD_METHOD the method, HOLDFAST_LOAD_SIZE the size of each body. No two bodies share a stretch of bytes: each is
-- the same random bytes, every eight of them combined with a number of its own, so that deduplication finds nothing.
local ffi = require("ffi")

local method = os.getenv("HOLDFAST_LOAD_METHOD") or "GET"
local size = tonumber(os.getenv("HOLDFAST_LOAD_SIZE") or "0")
local host = os.getenv("HOLDFAST_LOAD_HOST")
local paths, count, at = {}, 0, 0
local words, source, target, salt
local number_of_threads = 0

function setup(thread)
    thread:set("number", number_of_threads)
    number_of_threads = number_of_threads + 1
end

function init(arguments)
    for line in io.lines(os.getenv("HOLDFAST_LOAD_URLS")) do
        count = count + 1
        paths[count] = line
    end
    at = number * math.floor(count / 2)
    if method == "PUT" then
        words = math.floor((size + 7) / 8)
        source = ffi.new("uint64_t[?]", words)
        target = ffi.new("uint64_t[?]", words)
        local random = io.open("/dev/urandom", "rb")
        ffi.copy(source, random:read(words * 8), words * 8)
        local seed = random:read(8)
        random:close()
        salt = ffi.cast("const uint64_t *", seed)[0]
        multiplier = 6364136223846793005ULL
    end
end

function request()
    at = at % count + 1
    local head = method .. " " .. paths[at] .. " HTTP/1.1\r\nHost: " .. host .. "\r\n"
    if method ~= "PUT" then return head .. "\r\n" end
    salt = salt * multiplier + 1442695040888963407ULL
    for i = 0, words - 1 do target[i] = source[i] + salt * (2 * i + 1) end
    return head .. "Content-Length: " .. size .. "\r\n\r\n" .. ffi.string(target, size)
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        'RESULT {"requests": %d, "seconds": %.6f, "bytes": %.0f, "failed": %d, "p50": %.3f, "p99": %.3f, "worst": %.3f}\n',
        summary.requests, summary.duration / 1e6, summary.bytes,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000
    ))
end
