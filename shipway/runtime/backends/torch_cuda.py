"""Programs on an NVIDIA GPU: a batch is copied in while another computes and a third is copied out.

Pinned memory stays where it is, so that the GPU copies from it and to it without the CPU's help.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from shipway.runtime.backends.base import Outputs
from shipway.runtime.backends.torch_programs import as_numpy, open_aot_inductor

logger = logging.getLogger(__name__)

SLOTS = 2
"""Batches on their way at once: the copies of one lie beside the computing of the other."""
MOST_SHAPES = 64
"""Each keeps buffers and a graph for every slot; shapes beyond these run unrecorded."""
WARM_UPS = 3
"""Libraries choose their kernels in the first runs, which no graph may hold."""

T = TypeVar("T")


def in_turns(
    batches: Iterable[Sequence[np.ndarray]],
    start: Callable[[Sequence[np.ndarray], int], Callable[[], Outputs]],
) -> Iterator[Outputs]:
    """The outputs of each batch, in order, with SLOTS of them on their way.

    `start` begins a batch in a slot and returns what waits for its outputs.
    """
    waiting: deque[Callable[[], Outputs]] = deque()
    for number, batch in enumerate(batches):
        # The slot is that of the oldest batch, whose outputs must be out of it first.
        done = waiting.popleft()() if len(waiting) == SLOTS else None
        waiting.append(start(batch, number % SLOTS))
        if done is not None:
            yield done
    while waiting:
        yield waiting.popleft()()


class Recordings(Generic[T]):
    """What was recorded for each shape of the inputs, at the first run of that shape."""

    def __init__(self, record: Callable[[Sequence[Tensor]], T], most: int = MOST_SHAPES) -> None:
        self._record = record
        self._most = most
        self._recorded: dict[tuple[torch.Size, ...], T | None] = {}

    def of(self, tensors: Sequence[Tensor]) -> T | None:
        """None for a shape that cannot be recorded, or that is one too many."""
        shapes = tuple(each.shape for each in tensors)
        if shapes not in self._recorded:
            if len(self._recorded) == self._most:
                return None
            self._recorded[shapes] = self._try(tensors)
        return self._recorded[shapes]

    def _try(self, tensors: Sequence[Tensor]) -> T | None:
        try:
            return self._record(tensors)
        except RuntimeError:
            # No memory for it, or an operation that no graph takes. Run as it is, it may still do.
            shapes = [tuple(each.shape) for each in tensors]
            logger.warning("inputs of %s run without a CUDA graph", shapes, exc_info=True)
            return None


@dataclass(slots=True)
class _Slot:
    """Where a batch of one shape lies on its way, and the graph that computes there."""

    given: list[Tensor]
    """The inputs, on the GPU."""
    staged: list[Tensor]
    """The inputs in pinned memory, for arrays that come in other memory."""
    computed: list[Tensor]
    """The outputs, on the GPU, float32."""
    back: list[Tensor]
    """The outputs in pinned memory."""
    graph: torch.cuda.CUDAGraph = field(default_factory=torch.cuda.CUDAGraph)
    begun: torch.cuda.Event = field(default_factory=lambda: torch.cuda.Event(enable_timing=True))
    copied_in: torch.cuda.Event = field(
        default_factory=lambda: torch.cuda.Event(enable_timing=True)
    )
    done: torch.cuda.Event = field(default_factory=torch.cuda.Event)
    copied_back: torch.cuda.Event = field(default_factory=torch.cuda.Event)


class CudaPipeline:
    """NumPy in, NumPy out, around anything that maps tensors on a GPU to a tensor or several.

    Each shape of the inputs is recorded as a CUDA graph in its first run. An Overlapping program.
    """

    def __init__(self, call: Callable[..., Any], *, device_index: int = 0) -> None:
        self._call = call
        self._device = torch.device("cuda", device_index)
        self._copying_in = torch.cuda.Stream(self._device)
        self._computing = torch.cuda.Stream(self._device)
        self._copying_back = torch.cuda.Stream(self._device)
        # One for all graphs: they run one after the other, and nothing of theirs outlives a run.
        self._pool = torch.cuda.graph_pool_handle()
        self._recordings = Recordings(self._record)
        self.host_to_device_ms = 0.0

    def run(self, inputs: Sequence[np.ndarray]) -> Outputs:
        """The outputs of one batch."""
        (outputs,) = self.run_all([inputs])
        return outputs

    def run_all(self, batches: Iterable[Sequence[np.ndarray]]) -> Iterator[Outputs]:
        """The outputs of each batch, in order, with SLOTS of them on their way."""
        return in_turns(batches, self._start)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An array in pinned memory."""
        with torch.cuda.device(self._device):
            pinned = torch.zeros(shape, dtype=getattr(torch, dtype), pin_memory=True)
        array: np.ndarray = pinned.numpy()
        return array

    def _start(self, inputs: Sequence[np.ndarray], number: int) -> Callable[[], Outputs]:
        """Sends a batch on its way and returns what waits for it; it does not wait."""
        with self._here():
            tensors = [torch.from_numpy(each) for each in inputs]
            slots = self._recordings.of(tensors)
            if slots is None:
                outputs = self._run_unrecorded(tensors)
                return lambda: outputs
            slot = slots[number]
            with torch.cuda.stream(self._copying_in):
                slot.begun.record()
                for given, staged, tensor in zip(slot.given, slot.staged, tensors, strict=True):
                    pinned = tensor if tensor.is_pinned() else staged.copy_(tensor)
                    given.copy_(pinned, non_blocking=True)
                slot.copied_in.record()
            with torch.cuda.stream(self._computing):
                slot.copied_in.wait()
                slot.graph.replay()
                slot.done.record()
            with torch.cuda.stream(self._copying_back):
                slot.done.wait()
                for back, computed in zip(slot.back, slot.computed, strict=True):
                    back.copy_(computed, non_blocking=True)
                slot.copied_back.record()
        return lambda: self._outputs(slot)

    def _outputs(self, slot: _Slot) -> Outputs:
        with self._here():
            slot.copied_back.synchronize()
            self.host_to_device_ms = slot.begun.elapsed_time(slot.copied_in)
        return [each.numpy().copy() for each in slot.back]  # the slot's next batch overwrites it

    def _run_unrecorded(self, tensors: Sequence[Tensor]) -> Outputs:
        with torch.cuda.stream(self._computing):
            start = time.perf_counter()
            given = [each.to(self._device) for each in tensors]  # returns when it has copied
            self.host_to_device_ms = 1000 * (time.perf_counter() - start)
            return [as_numpy(each) for each in _several(self._call(*given))]

    def _record(self, tensors: Sequence[Tensor]) -> list[_Slot]:
        """A slot after the other for inputs like these, which may be any that the program takes."""
        with torch.cuda.stream(self._computing):
            inputs = [each.to(self._device) for each in tensors]
            shapes = []
            for _ in range(WARM_UPS):
                shapes = [each.shape for each in _several(self._call(*inputs))]
            slots = [self._record_one(inputs, shapes) for _ in range(SLOTS)]
            # Copies into a slot, on their own stream, must not overtake what was done here.
            self._computing.synchronize()
        return slots

    def _record_one(self, inputs: Sequence[Tensor], shapes: Sequence[torch.Size]) -> _Slot:
        slot = _Slot(
            given=[each.clone() for each in inputs],
            staged=[torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in inputs],
            computed=[torch.empty(shape, device=self._device) for shape in shapes],
            back=[torch.empty(shape, pin_memory=True) for shape in shapes],
        )
        with torch.cuda.graph(slot.graph, pool=self._pool, stream=self._computing):
            outputs = _several(self._call(*slot.given))
            for computed, output in zip(slot.computed, outputs, strict=True):
                # Out of the graphs' own memory, which the next one to run writes to.
                computed.copy_(output)
        return slot

    @contextmanager
    def _here(self) -> Iterator[None]:
        """On this GPU, in inference mode; if the GPU is lost to this process, the error says so."""
        try:
            with torch.inference_mode(), torch.cuda.device(self._device):
                yield
        except Exception:
            # Compiled programs raise "API call failed", whatever the cause. A GPU that is lost
            # raises "CUDA error" here.
            torch.cuda.synchronize(self._device)
            raise


class AotInductorCudaProgram(CudaPipeline):
    """An AOTInductor package that was compiled for a GPU."""

    def __init__(self, path: Path, *, threads: int, device_index: int) -> None:
        torch.set_num_threads(threads)
        # Its own pool of streams and locks cannot be captured in a CUDA graph.
        call = open_aot_inductor(path, single_threaded=True, device_index=device_index)
        super().__init__(call, device_index=device_index)


def _several(outputs: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return (outputs,) if isinstance(outputs, Tensor) else outputs
