-- wrk: one node after another.
local sent = 0

function request()
    sent = sent + 1
    return wrk.format("GET", string.format("/v1/nodes/n%d", sent % 1000 + 1))
end
