-- Asks Vestibule whether a request may go to the app, and as whom. Whatever goes wrong here, `txn.vestibule` is not set, and haproxy.cfg
-- answers 503.

local ENDPOINT = "http://127.0.0.1:8080/_vestibule/verify/haproxy"
local TIMEOUT_MS = 10000

-- What belongs to the connection, or to us, is not repeated.
local LEFT_OUT = {
  ["host"] = true, ["connection"] = true, ["keep-alive"] = true, ["te"] = true, ["trailer"] = true, ["upgrade"] = true,
  ["expect"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["proxy-connection"] = true,
}

local function answer(txn, response)
  local reply = txn:reply()
  reply:set_status(response.status, response.reason)
  for name, values in pairs(response.headers) do
    if not LEFT_OUT[name] then
      for _, value in pairs(values) do reply:add_header(name, value) end
    end
  end
  if txn.f:method() ~= "HEAD" then reply:set_body(response.body) end
  txn:done(reply)
end

core.register_action("vestibule", { "http-req" }, function(txn)
  local headers = {}
  for name, values in pairs(txn.http:req_get_headers()) do
    if not LEFT_OUT[name] then
      headers[name] = {}
      for _, value in pairs(values) do table.insert(headers[name], value) end
    end
  end
  headers["x-forwarded-method"] = { txn.f:method() }
  headers["x-forwarded-proto"] = { txn.f:ssl_fc() == 1 and "https" or "http" }
  headers["x-forwarded-host"] = { txn.f:req_hdr("host") or "" }
  headers["x-forwarded-uri"] = { txn.f:url() }
  headers["x-forwarded-for"] = { txn.f:src() }

  local response = core.httpclient():get({ url = ENDPOINT, headers = headers, timeout = TIMEOUT_MS })
  if response == nil or response.status < 100 then return end
  if response.status ~= 200 then
    answer(txn, response)
    return
  end

  local owed = { cookies = {} }
  for name, values in pairs(response.headers) do
    for _, value in pairs(values) do
      if string.sub(name, 1, 7) == "x-auth-" then
        txn.http:req_set_header(name, value)
        owed.private = true
      elseif name == "set-cookie" then
        table.insert(owed.cookies, value)
      end
    end
  end
  txn:set_priv(owed)
  txn:set_var("txn.vestibule", "allowed")
end)

-- Cookies for the browser, and nothing of whoever is known in a shared cache.
core.register_action("vestibule_answer", { "http-res" }, function(txn)
  local owed = txn:get_priv()
  if owed == nil then return end
  for _, line in ipairs(owed.cookies) do txn.http:res_add_header("set-cookie", line) end
  if owed.private then txn.http:res_set_header("cache-control", "private, no-store") end
end)
