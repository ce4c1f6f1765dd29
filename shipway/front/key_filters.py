"""How Envoy recognizes named keys and keeps their limits.

Envoy compares headers only with texts that it knows, but of a key it may know no more than the
hash. So a script hashes what a client sends as its key, and notes the name of the key in the
request's metadata, where no client can write. The rules for tokens let requests with a name pass,
and Envoy's rate limits count them by it.
"""

from collections.abc import Sequence
from typing import Any

from shipway.front.keys import KEY_LENGTH, KEY_PREFIX, Key
from shipway.front.types import filter_type

KEYS = "shipway.keys"
LIMITS = "shipway.limits"
"""The names of the two filters. Both are switched off in a listener, so that they cost nothing; the
routes switch them on while there are keys."""
UNLIMITED = 2**32 - 1
METADATA = "shipway"
"""The namespace of a request's metadata with the field `key`: the name of its key."""

# SHA-256 (FIPS 180-4) of a message of up to 55 bytes, which is one block. A key is one.
_SCRIPT = """
local band, bnot, bxor = bit.band, bit.bnot, bit.bxor
local ror, shr, tobit, tohex = bit.ror, bit.rshift, bit.tobit, bit.tohex
local names = {{ {names} }}
local start = "Bearer {prefix}"
local length = 7 + {length}

-- The first 32 bits of the fractional part of a root, which are exact in a double.
local function bits_of(root) return tobit(math.floor((root % 1) * 2^32)) end
local constants, initial = {{}}, {{}}
do
  local candidate = 2
  while #constants < 64 do
    local is_prime = true
    for divisor = 2, math.floor(math.sqrt(candidate)) do
      if candidate % divisor == 0 then is_prime = false end
    end
    if is_prime then
      constants[#constants + 1] = bits_of(candidate ^ (1 / 3))
      if #initial < 8 then initial[#initial + 1] = bits_of(math.sqrt(candidate)) end
    end
    candidate = candidate + 1
  end
end

local function sha256(text)
  local padded = text .. "\\128" .. ("\\0"):rep(61 - #text) .. string.char(
    math.floor(#text / 32), #text * 8 % 256)
  local w = {{}}
  for place = 1, 16 do
    local b1, b2, b3, b4 = padded:byte(place * 4 - 3, place * 4)
    w[place] = tobit(b1 * 2^24 + b2 * 2^16 + b3 * 2^8 + b4)
  end
  for place = 17, 64 do
    local x, y = w[place - 15], w[place - 2]
    local s0 = bxor(ror(x, 7), ror(x, 18), shr(x, 3))
    local s1 = bxor(ror(y, 17), ror(y, 19), shr(y, 10))
    w[place] = tobit(w[place - 16] + s0 + w[place - 7] + s1)
  end
  local a, b, c, d, e, f, g, h = unpack(initial)
  for place = 1, 64 do
    local s1 = bxor(ror(e, 6), ror(e, 11), ror(e, 25))
    local chosen = bxor(band(e, f), band(bnot(e), g))
    local first = tobit(h + s1 + chosen + constants[place] + w[place])
    local s0 = bxor(ror(a, 2), ror(a, 13), ror(a, 22))
    local most = bxor(band(a, b), band(a, c), band(b, c))
    h, g, f, e, d, c, b, a = g, f, e, tobit(d + first), c, b, a, tobit(first + s0 + most)
  end
  local found = {{ a, b, c, d, e, f, g, h }}
  for place = 1, 8 do found[place] = tohex(tobit(found[place] + initial[place])) end
  return table.concat(found)
end

local known = {{}}  -- headers with a key of ours, which need not be hashed again

function envoy_on_request(handle)
  local sent = handle:headers():get("authorization")
  if sent == nil or #sent ~= length then return end
  local name = known[sent]
  if name == nil then
    if sent:sub(1, #start) ~= start then return end
    name = names[sha256(sent:sub(8))]
    if name == nil then return end
    known[sent] = name
  end
  handle:streamInfo():dynamicMetadata():set("{metadata}", "key", name)
end
"""


def script(keys: Sequence[Key]) -> str:
    """The program, in Lua, that finds the name of a request's key."""
    return _SCRIPT.format(
        names=", ".join(f'["{key.sha256}"] = "{key.name}"' for key in keys),
        prefix=KEY_PREFIX,
        length=KEY_LENGTH,
        metadata=METADATA,
    )


def keys_filter() -> dict[str, Any]:
    """Finds the name of a request's key. It comes before the rules for tokens."""
    return {
        "name": KEYS,
        "disabled": True,
        "typed_config": {"@type": filter_type("http.lua.v3.Lua")},
    }


def limits_filter() -> dict[str, Any]:
    """Refuses requests above the limit of their key. It comes after the rules for tokens."""
    return {
        "name": LIMITS,
        "disabled": True,
        "typed_config": {
            "@type": filter_type("http.local_ratelimit.v3.LocalRateLimit"),
            "stat_prefix": "keys",
        },
    }


def key_rules(keys: Sequence[Key]) -> dict[str, Any]:
    """What the two filters do, by the filter's name; nothing without keys."""
    if not keys:
        return {}
    found: dict[str, Any] = {
        KEYS: {
            "@type": filter_type("http.lua.v3.LuaPerRoute"),
            "source_code": {"inline_string": script(keys)},
        }
    }
    limited = [key for key in keys if key.requests_per_second is not None]
    if limited:
        always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
        name = {
            "descriptor_key": "key",
            "metadata_key": {"key": METADATA, "path": [{"key": "key"}]},
            "source": "DYNAMIC",
            "skip_if_absent": True,
        }
        found[LIMITS] = {
            "@type": filter_type("http.local_ratelimit.v3.LocalRateLimit"),
            "stat_prefix": "keys",
            "filter_enabled": always,
            "filter_enforced": always,
            "rate_limits": [{"actions": [{"metadata": name}]}],
            "descriptors": [
                {
                    "entries": [{"key": "key", "value": key.name}],
                    "token_bucket": _bucket(key.requests_per_second),
                }
                for key in limited
            ],
            # Of requests without a limit. Envoy insists on one.
            "token_bucket": _bucket(UNLIMITED),
            "always_consume_default_token_bucket": False,
            "rate_limited_as_resource_exhausted": True,
        }
    return found


def has_key() -> dict[str, Any]:
    """The principal, as Envoy's rules call it, of a request with a key of ours."""
    return {
        "sourced_metadata": {
            "metadata_source": "DYNAMIC",
            "metadata_matcher": {
                "filter": METADATA,
                "path": [{"key": "key"}],
                "value": {"present_match": True},
            },
        }
    }


def _bucket(per_second: int | None) -> dict[str, Any]:
    # Whoever waited for a second may send the requests of a second at once.
    return {"max_tokens": per_second, "tokens_per_fill": per_second, "fill_interval": "1s"}
