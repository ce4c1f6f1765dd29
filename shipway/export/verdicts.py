"""Verdicts in plain words: what each kind of refusal means, and what one may do about it."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    title: str
    meaning: str
    advice: str


_EXPLANATIONS: tuple[tuple[str, Explanation], ...] = (
    (
        r"^skipped: it (is made (from|with)|runs the file of) ",
        Explanation(
            title="The program it is built on is missing",
            meaning="It starts from another candidate's file, and that candidate was not made.",
            advice="Look at the verdict of the one it names. If --only was given, name both.",
        ),
    ),
    (
        r"no C\+\+ compiler",
        Explanation(
            title="No C++ compiler",
            meaning="This format is native code, compiled for the processor at hand.",
            advice="Install g++ and export again. What was finished is taken up.",
        ),
    ),
    (
        r"package \S+ is not installed|No module named",
        Explanation(
            title="A package is not installed",
            meaning="What makes or runs this program is not in this Python environment.",
            advice="Install the package that is named and export again, or do without.",
        ),
    ),
    (
        r"made with \S+ \S+, here is",
        Explanation(
            title="Made with another version",
            meaning="Its format is only promised to load with the very version that made it.",
            advice="Install that version, or export again with the versions of this host.",
        ),
    ),
    (
        r"this processor (has no|lacks)|made for \S+, this is",
        Explanation(
            title="The processor lacks what it needs",
            meaning="The program uses instructions that this processor does not have. Run without "
            "them it would be slow, wrong, or not start.",
            advice="Nothing is wrong. Export, or choose again, on a host like the one that serves.",
        ),
    ),
    (
        r"^skipped: .*(GPU|CUDA)",
        Explanation(
            title="It needs a GPU",
            meaning="The candidate is for a GPU, and there is none that can be used here.",
            advice="Export on a host with the GPU that will serve.",
        ),
    ),
    (
        r"^skipped: for \w* ?models",
        Explanation(
            title="For another kind of model",
            meaning="Static ranges suit convolutions, whose activations differ little from input "
            "to input. Ranges taken afresh in every run suit linear layers.",
            advice="Nothing is wrong: techniques that suit this model were tried beside it.",
        ),
    ),
    (
        r"^skipped: ",
        Explanation(
            title="Not for this model or host",
            meaning="The technique says of itself that it does not fit here, so nothing was built.",
            advice="Usually nothing: the reason says what would have to be different.",
        ),
    ),
    (
        r"[Oo]ut of memory|MemoryError|[Cc]annot allocate|bad_alloc",
        Explanation(
            title="Memory ran out",
            meaning="Building or running it needed more memory than there was.",
            advice="Free memory, or give the export alone a larger host, then export again: what "
            "was finished is taken up.",
        ),
    ),
    (
        r"its process crashed",
        Explanation(
            title="Its process crashed",
            meaning="Building or running it ended its process, which is not the export's own. It "
            "may have run out of memory.",
            advice="Read the end of the log beside the artifact. Free memory, then export again: "
            "what was finished is taken up.",
        ),
    ),
    (
        r"it took longer than",
        Explanation(
            title="It took too long",
            meaning="Its process was ended at the time limit; it may have been hanging.",
            advice="Read the log beside the artifact. On a busy host, export again when it is "
            "quieter.",
        ),
    ),
    (
        r"outputs are not finite",
        Explanation(
            title="Its outputs are not numbers",
            meaning="Some outputs are infinite or NaN. In fp16 that is an overflow: nothing above "
            "65,504 can be represented.",
            advice="Use bf16, which has the range of fp32, or keep the layer that overflows in "
            "fp32.",
        ),
    ),
    (
        r"such as dropout, is still on",
        Explanation(
            title="It answers at random",
            meaning="The same inputs give other outputs in each run.",
            advice="Build it from the module in eval mode, which switches dropout off.",
        ),
    ),
    (
        r"it answers rows in another order",
        Explanation(
            title="Rows come back in another order",
            meaning="Every row is answered, but with a neighbour's outputs.",
            advice="Look for a sort, flip or reshape over the batch axis in the module.",
        ),
    ),
    (
        r"it takes its channels in that order",
        Explanation(
            title="Red and blue are exchanged",
            meaning="It expects BGR, as OpenCV reads pictures; what is served is RGB.",
            advice="Exchange the channels inside the module, or in its first layer's weights.",
        ),
    ),
    (
        r"matrix products that eager runs, it runs",
        Explanation(
            title="A layer is missing",
            meaning="The program runs fewer layers with weights than eager PyTorch does.",
            advice="Look for a layer that was replaced or pruned before the export.",
        ),
    ),
    (
        r"made from other weights than this checkpoint's",
        Explanation(
            title="It is another checkpoint's",
            meaning="It is the same network, as far as its layers show, with other numbers in it: "
            "a program that was left from an earlier training run, for one.",
            advice="Remove the old file and build it again from this checkpoint.",
        ),
    ),
    (
        r"outputs are off by",
        Explanation(
            title="Its outputs are too far from eager's",
            meaning="Summed over all held-out inputs, the difference from eager PyTorch is larger "
            "than its precision explains. The program computes something else than the model.",
            advice="In int8: calibrate on more varied inputs, and see which layers are sensitive. "
            "If the same file passes on another runtime, this runtime computes it wrongly. If "
            "the distance is acceptable, set a tolerance in the recipe.",
        ),
    ),
    (
        r"it agrees with eager on",
        Explanation(
            title="It ranks classes differently",
            meaning="The outputs are near eager's, but too often the largest is another class.",
            advice="Look at the worst row: inputs between two classes tip over first. Calibrate on "
            "more varied inputs, or set a tolerance in the recipe.",
        ),
    ),
    (
        r"have a cosine of",
        Explanation(
            title="One input comes out wrong",
            meaning="On the whole it is close, but the outputs of the row that is named point "
            "elsewhere. An average would have hidden it.",
            advice="Look at that row, counted from 0. Unlike calibration's inputs? Add such inputs "
            "there.",
        ),
    ),
    (
        r"with the batch it rides in",
        Explanation(
            title="A row's result depends on its neighbours",
            meaning="The same input gives other outputs in another batch, so a reply would depend "
            "on who else asked at that moment.",
            advice="The batch axis may have been fixed in tracing, or activations are quantized by "
            "the whole batch's range. Static quantization has no such effect.",
        ),
    ),
    (
        r"^it is called \w+, but of its|shows no convolution or matrix product",
        Explanation(
            title="It does not compute in the precision it is called by",
            meaning="The runtime's own record shows other arithmetic: weights may be stored in 8 "
            "bits and still be multiplied in fp32. Such a program has quantization's errors and "
            "none of its speed.",
            advice="See “Kernels that ran” above. Quantize per channel with types this runtime "
            "has kernels for; AOTInductor needs freezing.",
        ),
    ),
    (
        r"it is slower here than",
        Explanation(
            title="Quantized, and slower than fp32",
            meaning="It gives up accuracy and gains nothing: on this host plain fp32 is faster.",
            advice="Nothing is wrong. On a processor with faster 8- or 16-bit arithmetic it may "
            "win; choose again there.",
        ),
    ),
    (
        r"[Dd]ata-dependent|GuardOnDataDependent|Could not guard|torch\._check|dynamic_shapes"
        r"|[Cc]onstraints? violated|specializ",
        Explanation(
            title="The module cannot be traced",
            meaning="A branch or a shape in its code depends on the values or the number of its "
            "inputs, and a traced program has no such branch.",
            advice="The reason names the place. Write the branch with torch.where or torch.cond, "
            "and leave the batch axis free.",
        ),
    ),
    (
        r"[Uu]nsupported|not supported|not implemented|No decomposition|No ONNX function",
        Explanation(
            title="An operator is not supported",
            meaning="The model uses an operation that this exporter or runtime does not know.",
            advice="Other formats may know it. Or write the operation with simpler ones.",
        ),
    ),
)

_BUILDING_FAILED = Explanation(
    title="It could not be made",
    meaning="The exporter or the runtime raised this error. The other candidates are not affected.",
    advice="The log beside the artifact has the whole traceback.",
)


def explain(verdict: str) -> Explanation:
    """What a verdict other than "passed" means."""
    return next(
        (found for pattern, found in _EXPLANATIONS if re.search(pattern, verdict)),
        _BUILDING_FAILED,
    )
