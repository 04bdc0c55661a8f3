-- wrk: small nodes, each request another description, so that each changes its row.
local threads, id, sent = 0, 0, 0

function setup(thread)
    thread:set("id", threads)
    threads = threads + 1
end

function request()
    sent = sent + 1
    local body = string.format('{"labels":{"site":"a"},"description":"change %d"}', sent)
    local path = string.format("/v1/nodes/put-%d-%d", id, sent % 1000)
    return wrk.format("PUT", path, { ["Content-Type"] = "application/json" }, body)
end

function response(status)
    if status ~= 200 and status ~= 201 then
        io.stderr:write("status ", status, "\n")
        os.exit(1)
    end
end
