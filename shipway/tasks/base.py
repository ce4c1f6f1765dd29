"""What a task is: one kind of request and answer, beside the v2 tensors that every model takes.

A task is one file with a class that is registered under the name that recipes and manifests give:

    @TASKS.register("keypoints")
    class Keypoints(Task): ...

B = rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.artifact.measures import OutputKind
from shipway.errors import ShipwayError
from shipway.payloads.errors import BadRequest
from shipway.payloads.request import Request
from shipway.payloads.schemas import Schema
from shipway.recipe import Record
from shipway.runtime.model import Model, Row

P = TypeVar("P", bound=Record)


class WrongPreprocessing(ShipwayError):
    """A model whose preprocessing its task cannot use."""

    def __init__(self, manifest: Manifest, expected: type[Record]) -> None:
        super().__init__(
            f"{manifest.name} has {type(manifest.preprocessing).__name__}, and its task "
            f"{manifest.task} needs {expected.__name__}. Change the recipe's task or preprocessing "
            "and export again."
        )


@dataclass(frozen=True, slots=True)
class Inputs:
    """The native payload of a request, parsed and not yet decoded."""

    items: Sequence[Any]
    """One for each row: an image's bytes, a text, a row of numbers."""
    many: bool = False
    """Whether the request is a list, so that the answer is one too."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One item as a row of the program's inputs."""

    row: Row
    """One array for each input, without the batch axis, or its place in `Model.staging`."""
    note: Mapping[str, Any] | None = None
    """What the answer must say of it, such as that a text was truncated. What has an underscore
    before its name is for `answers` alone."""
    milliseconds: float = 0.0
    """How long decoding it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A request that a load test sends."""

    name: str
    """For the report: what the request holds."""
    content_type: str
    body: bytes


class Task(ABC):
    """One kind of request and answer. The class is registered; an instance serves one model."""

    output: ClassVar[str] = "output"
    """The name that export gives the program's output."""
    classifies: ClassVar[bool] = False
    """Whether the output holds logits, one for each label. Then export compares their order too."""
    embeds: ClassVar[bool] = False
    """Whether the direction of an output has a meaning. Then export compares cosines too."""
    regresses: ClassVar[bool] = False
    """Whether the output holds numbers that the labels, if there are any, name."""
    tags: ClassVar[bool] = False
    """Whether the output holds logits of the labels for each token."""
    segments: ClassVar[bool] = False
    """Whether the output holds logits of the labels for each place of a picture."""
    other_types: ClassVar[Sequence[str]] = ()
    """Content types beside JSON that the answer to one row is written in, for clients that ask for
    them by `Accept`."""
    bytes_tensor: ClassVar[str]
    """The name of a v2 BYTES tensor whose elements are native payloads."""

    @classmethod
    def output_kind(cls) -> OutputKind:
        """What the outputs that are floats mean."""
        if cls.classifies:
            return "scores"
        return "embedding" if cls.embeds else "values"

    @abstractmethod
    def __init__(self, model: Model) -> None:
        """Prepares to serve `model`. Raises WrongPreprocessing."""

    @abstractmethod
    def parse(self, request: Request) -> Inputs:
        """The items of a native payload. Raises BadRequest, TooManyRows or another error of
        `shipway.payloads.errors`."""

    @abstractmethod
    def parse_bytes(self, data: bytes) -> Any:
        """The item in one element of a BYTES tensor. Raises the same errors as `parse`."""

    def parse_instance(self, value: Any) -> Any:
        """The item in one instance of KServe's v1 protocol: what `parse` takes as JSON, of one row.
        Raises the same errors."""
        inputs = self.parse(Request({"body": value}))
        if inputs.many:
            raise BadRequest(
                "An instance is a list of inputs. Send each of them as an instance of its own."
            )
        [item] = inputs.items
        return item

    def is_light(self, request: Request) -> bool:
        """Whether reading a request takes about as long as its size lets expect. By default it
        does; not so where a small file may hold a large picture. May be called from the event
        loop, so it takes no time itself."""
        del request
        return True

    def check_items(self, items: Sequence[Any]) -> None:  # noqa: B027
        """Raises an error of `shipway.payloads.errors` if the items of one request, each of which
        may be accepted, are too much together. It costs little: nothing is decoded for it."""

    @abstractmethod
    def decode(self, items: Sequence[Any]) -> list[Decoded | ShipwayError]:
        """The items of all requests of a batch as rows, in order. For an item that cannot be
        decoded there is an error in its place; it raises none."""

    def check(self, arrays: tuple[np.ndarray, ...]) -> None:  # noqa: B027
        """Raises BadTensor for v2 tensors with values that the program must not get. Their names,
        dtypes and shapes were checked before."""

    @abstractmethod
    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """One value for each row, to be written as JSON; it may hold arrays. Each of `outputs` is
        (B, …), with zeros behind rows that are shorter than others, and `notes` has an entry for
        each row."""

    def as_json(self, answer: Any) -> Any:
        """One of `answers`, as it is written in JSON. Raises ReplyTooLarge."""
        return answer

    def written_as(self, answer: Any, content_type: str) -> bytes:
        """One of `answers`, in one of `other_types`."""
        raise NotImplementedError

    @classmethod
    @abstractmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """For OpenAPI: the schema of a request by content type, and that of the answer."""

    @classmethod
    def examples(cls, tensors: Sequence[Mapping[str, Any]]) -> Sequence[Example]:
        """Requests for a load test; empty if the task has none. `tensors` are the model's inputs as
        the Open Inference Protocol describes them: name, datatype, shape."""
        return ()


def preprocessing_of(manifest: Manifest, kind: type[P]) -> P:
    """The preprocessing that a manifest describes. Raises WrongPreprocessing for another kind."""
    if not isinstance(manifest.preprocessing, kind):
        raise WrongPreprocessing(manifest, kind)
    return manifest.preprocessing
