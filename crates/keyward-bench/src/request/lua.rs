//! The Lua filter that Keyward is compared with.

use super::rules::TEN;
use crate::keys;

/// Returns the filter's source, with the ten rules and `count` keys. Keys are in the clear, because Envoy's Lua has no
/// hash function.
pub fn source(count: u32, changes_by_route: bool) -> String {
    let rules: String = TEN
        .iter()
        .map(|rule| {
            let methods: String = rule.methods.iter().map(|method| format!("{method}=true,")).collect();
            let pattern = rule.path.replace("{}", "[^/]+");
            let require: String = rule.require.iter().map(|permission| format!("\"{permission}\",")).collect();
            format!("{{methods={{{methods}}},pattern=\"^{pattern}$\",require={{{require}}}}},\n")
        })
        .collect();
    let keys: String = (0..count)
        .map(|number| {
            let granted: String =
                keys::permissions(number).iter().map(|permission| format!("[\"{permission}\"]=true,")).collect();
            format!(
                "[\"{}\"]={{id=\"{}\",name=\"{}\",expires_at=4070908800,permissions={{{granted}}}}},\n",
                keys::key(number),
                keys::id(number),
                keys::name(number)
            )
        })
        .collect();
    let changes = if changes_by_route { "" } else { CHANGES };
    format!("local rules = {{\n{rules}}}\nlocal keys = {{\n{keys}}}\n{}", FILTER.replace("--changes--", changes))
}

const FILTER: &str = r#"
local function deny(handle, status, code)
  handle:streamInfo():dynamicMetadata():set("keyward", "decision", code)
  handle:respond({[":status"] = status, ["content-type"] = "application/problem+json", ["cache-control"] = "no-store"},
    '{"type":"urn:keyward:' .. code .. '","status":' .. status .. ',"code":"' .. code .. '"}')
end

local function find(method, path)
  for _, rule in ipairs(rules) do
    if rule.methods[method] and path:find(rule.pattern) then return rule end
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path") or ""
  local query = path:find("?", 1, true)
  if query then path = path:sub(1, query - 1) end
  local rule = find(headers:get(":method"), path)
  local presented = headers:get("x-api-key")
  if not presented then return deny(handle, "401", "key_missing") end
  if headers:getNumValues("x-api-key") ~= 1 then return deny(handle, "401", "key_malformed") end
  local key = keys[presented]
  if not key then return deny(handle, "401", "key_unknown") end
  if os.time() >= key.expires_at then return deny(handle, "401", "key_expired") end
  if not rule then return deny(handle, "403", "route_denied") end
  for _, permission in ipairs(rule.require) do
    if not key.permissions[permission] then return deny(handle, "403", "permission_missing") end
  end
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set("keyward", "decision", "allowed")
  metadata:set("keyward", "key_id", key.id)
  metadata:set("keyward", "key_name", key.name)
  --changes--
end
"#;

/// Lua code that makes the header changes which the route makes otherwise.
const CHANGES: &str = r#"headers:remove("x-api-key")
  headers:replace("x-api-key-id", key.id)
  headers:replace("x-api-key-name", key.name)"#;
