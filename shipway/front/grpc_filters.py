"""How gRPC calls find the workers of the model that their message names, and arrive there as HTTP.

All calls of a service have the same path, and the model is in the message. So a script reads the
first fields of the message, and its headers decide the route. The bridge makes an HTTP request of
the call.
"""

from typing import Any

from shipway.front.types import filter_type

BRIDGE = "envoy.filters.http.grpc_http1_reverse_bridge"
MODEL_HEADER, VERSION_HEADER = "x-shipway-model", "x-shipway-version"
"""Headers of a call on its way; what a client sends under these names is replaced."""
OIP_SERVICE = "/inference.GRPCInferenceService"
TORCHSERVES_OIP_SERVICE = "/org.pytorch.serve.grpc.openinference.GRPCInferenceService"
TORCHSERVES_SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService"
HEALTH = "/grpc.health.v1.Health/Check"
ROUTED_CALLS = (
    *(
        f"{service}/{method}"
        for service in (OIP_SERVICE, TORCHSERVES_OIP_SERVICE)
        for method in ("ModelInfer", "ModelMetadata", "ModelReady")
    ),
    f"{TORCHSERVES_SERVICE}/Predictions",
    HEALTH,
)
"""The calls whose message begins with a model's name and version, and that workers answer."""
STREAM_PREDICTIONS = f"{TORCHSERVES_SERVICE}/StreamPredictions"
"""It would end a worker of ours: TorchServe expects a header in each part of the answer."""
STREAMS = (
    f"{TORCHSERVES_SERVICE}/StreamPredictions2",
    f"{OIP_SERVICE}/ModelStreamInfer",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
"""Calls that are not supported: the bridge passes one message in each direction."""
MOST_READ_BYTES = 1024
"""Of a message, to find name and version, which come first."""

_SCRIPT = """
local routed = {{ {routed} }}

-- The number at a place of a text, in the encoding of protobuf, and the place after it.
local function varint(text, place)
  local value, scale = 0, 1
  while true do
    local byte = text:byte(place)
    if byte == nil or scale > 2^42 then return nil end
    place = place + 1
    value = value + (byte % 128) * scale
    if byte < 128 then return value, place end
    scale = scale * 128
  end
end

-- The fields 1 and 2 of a message that begins at a place, if they are texts and come first.
local function names(text, place)
  local found = {{ "", "" }}
  while place <= #text do
    local key, start = varint(text, place)
    if key == nil or key % 8 ~= 2 then break end
    local field = math.floor(key / 8)
    local length, after = varint(text, start)
    if length == nil or field > 2 or after + length - 1 > #text then break end
    found[field] = text:sub(after, after + length - 1)
    place = after + length
  end
  return found[1], found[2]
end

local function refuse(handle, status, message)
  handle:respond({{
    [":status"] = "200", ["content-type"] = "application/grpc",
    ["grpc-status"] = status, ["grpc-message"] = message,
  }}, "")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  headers:remove("{model}")
  headers:remove("{version}")
  if not routed[headers:get(":path")] then return end
  local body = handle:body()
  local text = ""
  if body ~= nil then text = body:getBytes(0, math.min(body:length(), {most})) end
  if #text > 0 and text:byte(1) ~= 0 then
    refuse(handle, "12", "Compressed messages are not supported. Send them uncompressed.")
    return
  end
  local model, version = names(text, 6)
  headers = handle:headers()  -- those from before the body are gone
  if model == "" and headers:get(":path") ~= "{health}" then
    refuse(handle, "3", "The message does not begin with the name of a model.")
    return
  end
  headers:add("{model}", model)
  headers:add("{version}", version)
  handle:clearRouteCache()
end
"""


def script() -> str:
    """The program, in Lua, that reads a call's model and version."""
    calls = (*ROUTED_CALLS, STREAM_PREDICTIONS)
    return _SCRIPT.format(
        routed=", ".join(f'["{path}"] = true' for path in calls),
        model=MODEL_HEADER,
        version=VERSION_HEADER,
        most=MOST_READ_BYTES,
        health=HEALTH,
    )


def grpc_filters() -> list[dict[str, Any]]:
    """The filters of the listener for gRPC, in order."""
    # A reply without such a header, of TorchServe's, keeps its own trailers.
    trailers = [
        {
            "append": {
                "header": {"key": key, "value": f"%RESP(x-{key})%"},
                "append_action": action,
            }
        }
        for key, action in (
            ("grpc-status", "OVERWRITE_IF_EXISTS"),
            ("grpc-message", "OVERWRITE_IF_EXISTS_OR_ADD"),
        )
    ]
    return [
        {
            "name": "envoy.filters.http.header_mutation",
            "typed_config": {
                "@type": filter_type("http.header_mutation.v3.HeaderMutation"),
                "mutations": {"response_trailers_mutations": trailers},
            },
        },
        {
            "name": "envoy.filters.http.lua",
            "typed_config": {
                "@type": filter_type("http.lua.v3.Lua"),
                "default_source_code": {"inline_string": script()},
            },
        },
        {
            "name": BRIDGE,
            "typed_config": {
                "@type": filter_type("http.grpc_http1_reverse_bridge.v3.FilterConfig"),
                "content_type": "application/x-protobuf",
                "withhold_grpc_frames": True,
            },
        },
    ]


def without_bridge() -> dict[str, Any]:
    """A route's configuration that passes calls on as they are."""
    return {
        "@type": filter_type("http.grpc_http1_reverse_bridge.v3.FilterConfigPerRoute"),
        "disabled": True,
    }
