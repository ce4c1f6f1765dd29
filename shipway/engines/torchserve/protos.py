"""The gRPC stubs of TorchServe's APIs.

`scripts/generate_stubs.py` generates them from the protos inside TorchServe's jar.
"""

from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True, slots=True, kw_only=True)
class Stubs:
    """The generated modules: `*_pb2` has the messages, `*_pb2_grpc` the clients."""

    inference_pb2: ModuleType
    inference_pb2_grpc: ModuleType
    management_pb2: ModuleType
    management_pb2_grpc: ModuleType


def load() -> Stubs:
    """Imports the generated modules."""
    # grpc takes a fifth of a second to import
    from shipway.engines.torchserve.generated import (
        inference_pb2,
        inference_pb2_grpc,
        management_pb2,
        management_pb2_grpc,
    )

    return Stubs(
        inference_pb2=inference_pb2,
        inference_pb2_grpc=inference_pb2_grpc,
        management_pb2=management_pb2,
        management_pb2_grpc=management_pb2_grpc,
    )
