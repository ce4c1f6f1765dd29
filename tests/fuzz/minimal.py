"""The smallest artifacts and archives that are whole, made by hand in milliseconds."""

import zipfile
from pathlib import Path

from onnx import TensorProto, helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from shipway.archive.pack import pack
from shipway.artifact.bundle import CERTIFICATE, MANIFEST, Artifact, open_artifact, write_record
from shipway.artifact.certificate import Candidate, Certificate, Host, Inputs, Latency
from shipway.artifact.digests import sha256_of, write_sums
from shipway.artifact.manifest import Manifest, Program, Serving
from shipway.recipe import (
    Axis,
    ImagePreprocessing,
    TablePreprocessing,
    TensorPreprocessing,
    TensorSpec,
    TextPreprocessing,
)

BATCH = Axis(name="batch", max=4)
TOKENS = Axis(name="tokens", max=40)
WIDTH = Axis(name="width", max=3)
WORDS = ("[unknown]", "ship", "sea", "harbour")
"""The text model's vocabulary: the first has the id 0."""
COLOURS = ("red", "green", "blue")
"""The image model's classes."""
COLUMNS = ("height", "width", "depth")
"""The table model's columns, and its classes."""


def tensors(folder: Path) -> Artifact:
    """y = x + x, for rows of one to three numbers."""
    x = TensorSpec(name="x", dtype="float32", shape=(BATCH, WIDTH))
    y = TensorSpec(name="y", dtype="float32", shape=(BATCH, WIDTH))
    node = helper.make_node("Add", ["x", "x"], ["y"])
    preprocessing = TensorPreprocessing(inputs=(x,), source="a test")
    return _artifact(folder, "tensors", (x,), y, [node], preprocessing, {"1": 1.0, "4": 2.0})


def texts(folder: Path) -> Artifact:
    """The products of ids and mask of a text, added up: blind to padding, to nothing else."""
    ids = TensorSpec(name="input_ids", dtype="int64", shape=(BATCH, TOKENS))
    mask = TensorSpec(name="attention_mask", dtype="int64", shape=(BATCH, TOKENS))
    total = TensorSpec(name="embedding", dtype="int64", shape=(BATCH, 1))
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["seen"]),
        helper.make_node("Constant", [], ["axes"], value_ints=[1]),
        helper.make_node("ReduceSum", ["seen", "axes"], ["embedding"]),
    ]
    preprocessing = TextPreprocessing(
        tokenizer="files/tokenizer.json",
        max_length=TOKENS.max,
        too_long="refuse",
        pad_id=7,
        source="a test",
    )
    (folder / "files").mkdir(parents=True)
    vocabulary = {word: place for place, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=WORDS[0]))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / preprocessing.tokenizer))
    costs = {"1x8": 1.0, "4x8": 2.0, "1x40": 3.0, "4x40": 9.0}
    return _artifact(folder, "text_embedding", (ids, mask), total, nodes, preprocessing, costs)


def images(folder: Path) -> Artifact:
    """The mean of each colour, as the logit of its class."""
    pixels = TensorSpec(name="pixels", dtype="uint8", shape=(BATCH, 8, 8, 3))
    logits = TensorSpec(name="logits", dtype="float32", shape=(BATCH, 3))
    nodes = [
        helper.make_node("Cast", ["pixels"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values"], ["logits"], axes=[1, 2], keepdims=0),
    ]
    preprocessing = ImagePreprocessing(
        height=8,
        width=8,
        crop_fraction=1.0,
        resample="bilinear",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        source="a test",
    )
    costs = {"1": 1.0, "4": 2.0}
    task = "image_classification"
    return _artifact(folder, task, (pixels,), logits, nodes, preprocessing, costs, COLOURS)


def table(folder: Path) -> Artifact:
    """Each column's number, as the logit of its class."""
    row = TensorSpec(name="row", dtype="float32", shape=(BATCH, 3))
    logits = TensorSpec(name="logits", dtype="float32", shape=(BATCH, 3))
    node = helper.make_node("Identity", ["row"], ["logits"])
    preprocessing = TablePreprocessing(columns=COLUMNS, source="a test")
    costs = {"1": 1.0, "4": 2.0}
    task = "tabular_classification"
    return _artifact(folder, task, (row,), logits, [node], preprocessing, costs, COLUMNS)


def archive(folder: Path) -> dict[str, bytes]:
    """The files of a whole archive."""
    with zipfile.ZipFile(pack(tensors(folder / "artifact"), folder / "store")) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def _artifact(folder, task, inputs, output, nodes, preprocessing, costs, labels=()) -> Artifact:
    program = folder / "programs" / "onnx_fp32.onnx"
    program.parent.mkdir(parents=True)
    graph = helper.make_graph(
        nodes, task, [_described(each) for each in inputs], [_described(output)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    program.write_bytes(model.SerializeToString())
    described = Program(
        file="programs/onnx_fp32.onnx",
        format="onnx",
        runtime="onnxruntime",
        precision="fp32",
        bytes=program.stat().st_size,
        sha256=sha256_of(program),
    )
    manifest = Manifest(
        name=task,
        version="1.0",
        task=task,
        inputs=inputs,
        outputs=(output,),
        preprocessing=preprocessing,
        labels=labels,
        top_k=max(1, len(labels)),
        programs={"onnx_fp32": described},
        chosen="onnx_fp32",
        chosen_because="it is alone",
        objective="latency",
        pareto=(),
        fallback="onnx_fp32",
        serving=Serving(batch_size=4, threads=1),
        checkpoint_sha256="0" * 64,
        packages={},
        created="2026-01-01T00:00:00+00:00",
    )
    nothing = Inputs(description="none", rows=0, labelled=False, sha256="0" * 64)
    latency = {
        shape: {1: Latency(median_ms=ms, low_ms=ms, high_ms=ms, runs=1)}
        for shape, ms in costs.items()
    }
    certificate = Certificate(
        host=Host(processor="", machine="", cores=1, memory_gb=1, python="3.11"),
        calibration=nothing,
        evaluation=nothing,
        shapes=tuple(costs),
        outputs=(),
        eager={},
        candidates={
            "onnx_fp32": Candidate(
                verdict="passed",
                passed=True,
                format="onnx",
                runtime="onnxruntime",
                precision="fp32",
                latency=latency,
            )
        },
    )
    write_record(folder / MANIFEST, manifest)
    write_record(folder / CERTIFICATE, certificate)
    write_sums(folder)
    return open_artifact(folder)


def _described(spec: TensorSpec):
    kinds = {
        "float32": TensorProto.FLOAT,
        "int64": TensorProto.INT64,
        "uint8": TensorProto.UINT8,
    }
    shape = [axis.name if isinstance(axis, Axis) else axis for axis in spec.shape]
    return helper.make_tensor_value_info(spec.name, kinds[spec.dtype], shape)
