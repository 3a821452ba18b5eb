-- What Vestibule does for a session cookie, in nginx: the signature (HMAC-SHA256 by OpenSSL, keyed once), the session from a dictionary
-- shared by all workers, and who it is in variables that `proxy_set_header` sends on.
local ffi = require("ffi")
local base64, unescape = ngx.encode_base64, ngx.unescape_uri
local find, sub = string.find, string.sub
local var = ngx.var

ffi.cdef [[
  typedef struct hmac_ctx_st HMAC_CTX;
  HMAC_CTX *HMAC_CTX_new(void);
  const void *EVP_sha256(void);
  int HMAC_Init_ex(HMAC_CTX *context, const void *key, int key_bytes, const void *digest, void *engine);
  int HMAC_Update(HMAC_CTX *context, const char *data, size_t bytes);
  int HMAC_Final(HMAC_CTX *context, unsigned char *out, unsigned int *bytes);
]]

local COOKIE = "cookie_better-auth.session_token"
local crypto = ffi.C
local sessions = ngx.shared.sessions
local out, out_bytes = ffi.new("unsigned char[32]"), ffi.new("unsigned int[1]")
local keyed = crypto.HMAC_CTX_new()

local M = {}

-- Before workers start. The file holds one session a line: token, end in seconds, user, e-mail, name and session, between tabs.
function M.load(path)
  for line in io.lines(path) do
    local token, ends, who = line:match("^(.-)\t(.-)\t(.*)$")
    local left = tonumber(ends) - ngx.time()
    if left > 0 then assert(sessions:safe_set(token, who, left)) end
  end
end

function M.key(secret)
  assert(crypto.HMAC_Init_ex(keyed, secret, #secret, crypto.EVP_sha256(), nil) == 1)
end

local function signature(token)
  -- No key: the one it was given is kept, with its two blocks already hashed.
  crypto.HMAC_Init_ex(keyed, nil, 0, nil, nil)
  crypto.HMAC_Update(keyed, token, #token)
  crypto.HMAC_Final(keyed, out, out_bytes)
  return base64(ffi.string(out, 32))
end

-- Who it is, or nothing.
local function verified()
  local value = var[COOKIE]
  if not value then return end
  value = unescape(value)
  local dot = find(value, ".", 1, true)
  if not dot then return end
  local token = sub(value, 1, dot - 1)
  -- LuaJIT compares strings by address: no byte of the right signature can be felt.
  if signature(token) ~= sub(value, dot + 1) then return end
  return sessions:get(token)
end

function M.check()
  local who = verified()
  if not who then return ngx.redirect("/sign-in?callbackURL=" .. ngx.escape_uri(var.request_uri)) end
  local a = find(who, "\t", 1, true)
  local b = find(who, "\t", a + 1, true)
  local c = find(who, "\t", b + 1, true)
  var.auth_user, var.auth_email = sub(who, 1, a - 1), sub(who, a + 1, b - 1)
  var.auth_name, var.auth_session = sub(who, b + 1, c - 1), sub(who, c + 1)
end

-- A session ends: its token is the body.
function M.revoke()
  ngx.req.read_body()
  sessions:delete(ngx.req.get_body_data())
  ngx.exit(204)
end

return M
