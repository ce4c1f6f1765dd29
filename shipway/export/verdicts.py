"""Explains verdicts in plain words: what each kind of refusal means, and what to do about it."""

import re
from dataclasses import dataclass

from shipway.export.intervals import CONFIDENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One kind of verdict, explained."""

    title: str
    meaning: str
    advice: str


_EXPLANATIONS: tuple[tuple[str, Explanation], ...] = (
    (
        r"^skipped: it (is made (from|with)|runs the file of) ",
        Explanation(
            title="The program it starts from is missing",
            meaning="It is built from the file of another candidate, which was not built.",
            advice="See the verdict of that candidate. If you used --only, list both.",
        ),
    ),
    (
        r"no C\+\+ compiler",
        Explanation(
            title="No C++ compiler",
            meaning="This format is native code, compiled for the processor of this host.",
            advice="Install g++ and export again. Finished candidates are not built again.",
        ),
    ),
    (
        r"package \S+ is not installed|No module named",
        Explanation(
            title="A package is not installed",
            meaning="A package that builds or runs this program is missing.",
            advice="Install the package and export again, or ignore this candidate.",
        ),
    ),
    (
        r"made with \S+ \S+, and this host has",
        Explanation(
            title="Built with another version",
            meaning="Its format is only guaranteed to load with the version that built it.",
            advice="Install that version, or export again with the versions of this host.",
        ),
    ),
    (
        r"this processor (has no|lacks)|made for \S+, and this host is",
        Explanation(
            title="The processor lacks an instruction set",
            meaning="The program uses instructions that this processor does not have. Without them "
            "it would be slow, give wrong results, or not start.",
            advice="No action needed. To use it, export or choose again on a processor that has "
            "these instructions.",
        ),
    ),
    (
        r"^skipped: .*(GPU|CUDA)|made for a GPU of|there is no CUDA device",
        Explanation(
            title="It needs a GPU",
            meaning="The candidate is for a GPU, and this host has none that can be used.",
            advice="Export on a host with the same kind of GPU as the server.",
        ),
    ),
    (
        r"^skipped: for \w* ?models",
        Explanation(
            title="For another kind of model",
            meaning="Static ranges fit convolutions, whose activations vary little from input to "
            "input. Dynamic ranges, computed in every run, fit linear layers.",
            advice="No action needed: techniques for this kind of model were tried.",
        ),
    ),
    (
        r"^skipped: ",
        Explanation(
            title="Not for this model or host",
            meaning="The technique cannot be used here, so nothing was built.",
            advice="The reason says what would have to be different. Usually no action is needed.",
        ),
    ),
    (
        r"[Oo]ut of memory|MemoryError|[Cc]annot allocate|bad_alloc",
        Explanation(
            title="Out of memory",
            meaning="Building or running it needed more memory than this host has.",
            advice="Free memory, or use a larger host, then export again. Finished candidates are "
            "not built again.",
        ),
    ),
    (
        r"its process crashed",
        Explanation(
            title="Its process crashed",
            meaning="The child process that built or ran it ended. A common cause is a lack of "
            "memory.",
            advice="Read the end of the log next to the artifact. Free memory, then export again. "
            "Finished candidates are not built again.",
        ),
    ),
    (
        r"it took longer than",
        Explanation(
            title="It took too long",
            meaning="Its process was stopped at the time limit.",
            advice="Read the log next to the artifact. If the host was busy, export again.",
        ),
    ),
    (
        r"numbers that are not finite",
        Explanation(
            title="Its outputs are not finite numbers",
            meaning="Some outputs are infinite or NaN where eager's are not. In fp16 the cause is "
            "an overflow: its largest number is 65,504.",
            advice="Use bf16, which has the range of fp32, or keep the layer that overflows in "
            "fp32.",
        ),
    ),
    (
        r"such as dropout, is active",
        Explanation(
            title="Its outputs are random",
            meaning="The same inputs give different outputs in each run.",
            advice="Build it from the module in eval mode, which turns dropout off.",
        ),
    ),
    (
        r"its rows come back in another order",
        Explanation(
            title="Rows come back in another order",
            meaning="Every row gets outputs, but those of another row.",
            advice="Look for a sort, flip or reshape over the batch axis in the module.",
        ),
    ),
    (
        r"channels in the order blue, green, red",
        Explanation(
            title="Red and blue are swapped",
            meaning="It expects BGR, as OpenCV reads images; it is served RGB.",
            advice="Swap the channels inside the module, or in the weights of its first layer.",
        ),
    ),
    (
        r"it runs \d+ of the \d+ convolutions and matrix products",
        Explanation(
            title="A layer is missing",
            meaning="The program runs fewer layers with weights than eager PyTorch does.",
            advice="Look for a layer that was replaced or pruned before the export.",
        ),
    ),
    (
        r"have a cosine of|for evaluation row \d+ have a relative error",
        Explanation(
            title="The outputs of one row are wrong",
            meaning="Most rows are close to eager, but the outputs of one row have another "
            "direction. An average would hide this.",
            advice="Look at that row, counted from 0. If it is unlike the calibration inputs, add "
            "similar inputs to them.",
        ),
    ),
    (
        r"outputs? (\S+ )?ha(ve|s) a relative error of",
        Explanation(
            title="Its outputs differ too much from eager's",
            meaning="Over all held-out inputs, the difference from eager PyTorch is larger than "
            "its precision can explain. The program does not compute the same function.",
            advice="For int8, calibrate on more varied inputs, and see which layers are sensitive. "
            "If the same file passes on another runtime, this runtime computes wrong results. If "
            "you accept the difference, set a tolerance in the recipe.",
        ),
    ),
    (
        r"it agrees with eager on",
        Explanation(
            title="It ranks classes differently",
            meaning="The outputs are close to eager's, but too often another class is the most "
            "probable one.",
            advice="Check the worst row: an input that is close to two classes changes first. "
            "Calibrate on more varied inputs, or set a tolerance in the recipe.",
        ),
    ),
    (
        r"outputs change by \S+ with the batch size",
        Explanation(
            title="A row's outputs depend on the batch",
            meaning="The same input gives different outputs in another batch, so a reply would "
            "depend on other requests.",
            advice="Tracing may have fixed the batch axis, or activations are quantized by the "
            "range of the whole batch. Static quantization does not have this effect.",
        ),
    ),
    (
        r"^it claims \w+, but of its|shows no convolution or matrix product",
        Explanation(
            title="It does not compute in the precision that it claims",
            meaning="The runtime's own record shows another precision: weights may be stored in 8 "
            "bits and still be multiplied in fp32. Such a program has the errors of quantization "
            "without the speed.",
            advice="See “Kernels that ran” above. Quantize per channel, and use types for "
            "which this runtime has kernels. For AOTInductor, enable freezing.",
        ),
    ),
    (
        r"it takes \S+ ms on this host, ",
        Explanation(
            title="Quantized, but slower than fp32",
            meaning="It is less accurate than fp32 and slower on this host.",
            advice="No action needed. A processor with faster 8-bit or 16-bit arithmetic may give "
            "another result; choose again on that host.",
        ),
    ),
    (
        r"too few evaluation inputs",
        Explanation(
            title="Too few evaluation inputs",
            meaning="On these inputs it lost no more than the budget, but they are too few to be "
            "confident that it loses no more on others.",
            advice="Give as many evaluation inputs as the reason says, or set a wider budget in "
            "the recipe. Programs in fp32 need none.",
        ),
    ),
    (
        r"^loses \S+ points|its loss was not measured",
        Explanation(
            title="It loses too much",
            meaning=f"The upper {CONFIDENCE:.0%} confidence bound of what it loses is above the "
            "accuracy budget.",
            advice="Calibrate on more varied inputs, evaluate on more, or set a wider budget in "
            "the recipe.",
        ),
    ),
    (
        r"[Dd]ata-dependent|GuardOnDataDependent|Could not guard|torch\._check|dynamic_shapes"
        r"|[Cc]onstraints? violated|specializ",
        Explanation(
            title="The module cannot be traced",
            meaning="A branch or a shape in its code depends on the values or the number of its "
            "inputs. A traced program cannot have such a branch.",
            advice="The reason contains the place in the code. Write the branch with torch.where "
            "or torch.cond, and do not fix the batch axis.",
        ),
    ),
    (
        r"[Uu]nsupported|not supported|not implemented|No decomposition|No ONNX function",
        Explanation(
            title="An operator is not supported",
            meaning="The model uses an operator that this export tool or runtime does not support.",
            advice="Use another format, or replace the operator with simpler ones.",
        ),
    ),
)

_OTHER = Explanation(
    title="It could not be built",
    meaning="The export tool or the runtime raised this error. Other candidates are not affected.",
    advice="The log next to the artifact contains the traceback.",
)


def explain(verdict: str) -> Explanation:
    """The meaning of a verdict other than "passed"."""
    return next(
        (explanation for pattern, explanation in _EXPLANATIONS if re.search(pattern, verdict)),
        _OTHER,
    )
