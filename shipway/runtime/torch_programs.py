"""TorchScript, torch.export and AOTInductor programs, run by torch in inference mode."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch


class _TorchProgram:
    """NumPy in, NumPy out, around anything that maps tensors to a tensor or several."""

    def __init__(self, call: Callable[..., Any], *, threads: int) -> None:
        torch.set_num_threads(threads)
        self._call = call

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            outputs = self._call(*map(torch.from_numpy, inputs))
        if isinstance(outputs, torch.Tensor):
            outputs = (outputs,)
        return [output.float().numpy() for output in outputs]


class EagerProgram(_TorchProgram):
    """The module itself: what every other program is compared with."""

    def __init__(self, module: torch.nn.Module, *, threads: int) -> None:
        super().__init__(module.eval(), threads=threads)


class TorchScriptProgram(_TorchProgram):
    def __init__(self, path: Path, *, threads: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # kept as a legacy format
            script = torch.jit.load(path, map_location="cpu")
        super().__init__(script, threads=threads)


class TorchExportProgram(_TorchProgram):
    def __init__(self, path: Path, *, threads: int) -> None:
        super().__init__(torch.export.load(path).module(), threads=threads)


class AotInductorProgram(_TorchProgram):
    def __init__(self, path: Path, *, threads: int, device: Literal["cpu", "cuda"] = "cpu") -> None:
        # Its own pool of streams and locks cannot be captured in a CUDA graph.
        on_gpu = device == "cuda"
        call = torch._inductor.aoti_load_package(str(path), run_single_threaded=on_gpu)
        super().__init__(CudaGraphs(call) if on_gpu else call, threads=threads)


class CudaGraphs:
    """Records a call once for each shape of its inputs, and replays it: one launch a run."""

    MOST_SHAPES = 16
    """Each keeps its memory; texts come in more shapes than that, and the rest run unrecorded."""
    _WARM_UPS = 3  # libraries choose their kernels in the first runs, which no graph may hold

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self._recorded: dict[
            tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[torch.Tensor], torch.Tensor]
        ] = {}

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        shapes = tuple(each.shape for each in inputs)
        if shapes not in self._recorded:
            if len(self._recorded) == self.MOST_SHAPES:
                return _first(self._call(*(each.cuda() for each in inputs))).cpu()
            self._recorded[shapes] = self._record(inputs)
        graph, given, output = self._recorded[shapes]
        for ours, theirs in zip(given, inputs, strict=True):
            ours.copy_(theirs)
        graph.replay()
        return output.cpu()

    def _record(
        self, inputs: Sequence[torch.Tensor]
    ) -> tuple[torch.cuda.CUDAGraph, list[torch.Tensor], torch.Tensor]:
        given = [each.cuda() for each in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(self._WARM_UPS):
                self._call(*given)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = _first(self._call(*given))
        return graph, given, output


def _first(outputs: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    return outputs if isinstance(outputs, torch.Tensor) else outputs[0]
