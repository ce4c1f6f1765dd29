"""Asks a server by KServe's own client, in an environment that has it; prints JSON.

    python kserve_client.py HTTP_URL GRPC_HOST:PORT MODEL TOKEN < inputs.json

The inputs: {"instances": [...], "tensors": {NAME: {"shape": ..., "datatype": ..., "data": [...]}}}.
"""

import asyncio
import json
import sys
from typing import Any

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main(url: str, grpc: str, model: str, token: str) -> dict[str, Any]:
    asked = json.load(sys.stdin)
    headers = {"Authorization": f"Bearer {token}"}
    metadata = [("authorization", f"Bearer {token}")]
    request = InferRequest(
        model_name=model,
        infer_inputs=[InferInput(name, **tensor) for name, tensor in asked["tensors"].items()],
    )
    async with InferenceRESTClient(RESTConfig(protocol="v1", retries=0)) as first:
        found = {
            "v1_live": await first.is_server_live(url, headers=headers),
            "v1_ready": await first.is_model_ready(url, model, headers=headers),
            "v1": await first.infer(
                url, {"instances": asked["instances"]}, model_name=model, headers=headers
            ),
        }
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as second:
        answer = await second.infer(url, request, model_name=model, headers=headers)
        found |= {
            "v2_live": await second.is_server_live(url, headers=headers),
            "v2_server_ready": await second.is_server_ready(url, headers=headers),
            "v2_ready": await second.is_model_ready(url, model, headers=headers),
            "v2": {output.name: output.as_numpy().tolist() for output in answer.outputs},
        }
    async with InferenceGRPCClient(grpc, retries=0) as third:
        answer = await third.infer(request, headers=metadata)
        found |= {
            "grpc_live": await third.is_server_live(headers=metadata),
            "grpc_server_ready": await third.is_server_ready(headers=metadata),
            "grpc_ready": await third.is_model_ready(model, headers=metadata),
            "grpc": {output.name: output.as_numpy().tolist() for output in answer.outputs},
        }
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
