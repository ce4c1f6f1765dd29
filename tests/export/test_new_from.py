"""Recipes of models that torchvision or a folder of Hugging Face's describes."""

import json
import string
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from torchvision.models import ResNet18_Weights, list_models
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from shipway.artifact.bundle import open_artifact
from shipway.export.new import CannotStartRecipe, new_recipe
from shipway.export.new_from import recipe_from
from shipway.export.pipeline import export
from shipway.export.recipe_file import find_recipe
from shipway.payloads.images import decode_image
from shipway.payloads.request import Request
from shipway.recipe import ImagePreprocessing, Recipe
from shipway.runtime.model import Model
from shipway.serving.service import Service
from tests.conftest import PHOTOS, Silent

TEXTS = ["a cat and a dog", "the ship at sea"]
CHARACTERS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *string.printable]
"""A token each."""
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def written(tmp_path: Path, source: str, model: str) -> tuple[Recipe, Path]:
    path = new_recipe("my_model", tmp_path, recipe_from(source, model, "my_model"))
    return find_recipe(str(path))


def bert(folder: Path, kind: type, **settings: object) -> BertModel:
    """A small model and its tokenizer, as `save_pretrained` writes them."""
    torch.manual_seed(3)
    config = BertConfig(vocab_size=len(CHARACTERS), max_position_embeddings=64, **TINY, **settings)
    model = kind(config).eval()
    model.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({each: at for at, each in enumerate(CHARACTERS)}, "[UNK]"))
    tokenizer.pre_tokenizer = Split("", "isolated")
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def ids_of(text: str) -> torch.Tensor:
    return torch.tensor([[2, *map(CHARACTERS.index, text), 3]])


def answers(recipe_file: Path, tmp_path: Path, body: bytes, kind: str) -> object:
    """What the exported model answers."""
    exported = export(str(recipe_file), Silent(), out=tmp_path / "out", only=("onnx_fp32",))
    service = Service(Model(open_artifact(exported.path)))
    [reply] = service.answer([Request({"body": body}, {"content-type": kind})])
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def test_a_model_of_torchvision_has_its_preprocessing_and_labels(tmp_path):
    recipe, _ = written(tmp_path, "torchvision", "resnet18")
    preset = ResNet18_Weights.DEFAULT.transforms()
    spec = recipe.preprocessing
    assert isinstance(spec, ImagePreprocessing)
    assert (spec.height, spec.crop_fraction, spec.resample) == (224, 224 / 256, "bilinear")
    assert recipe.labels() == ResNet18_Weights.DEFAULT.meta["categories"]
    photo = Image.open(PHOTOS / "chelsea.png").convert("RGB")
    pixels_HWC = decode_image((PHOTOS / "chelsea.png").read_bytes(), spec)
    x_CHW = (torch.tensor(pixels_HWC) - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    far_CHW = (x_CHW.permute(2, 0, 1) - preset(photo)).abs()
    assert far_CHW.mean() < 0.08  # torchvision resizes first, then cuts whole pixels
    module = recipe.module().eval()
    with torch.inference_mode():
        assert module(x_CHW.permute(2, 0, 1)[None]).shape == (1, 1000)
    assert recipe.evaluation.load(recipe).arrays[0].shape[1:] == (224, 224, 3)


def test_a_classifier_of_texts_answers_as_transformers_does(tmp_path):
    names = {0: "sad", 1: "happy", 2: "calm"}
    model = bert(tmp_path / "hf", BertForSequenceClassification, num_labels=3, id2label=names)
    recipe, path = written(tmp_path, "hf", str(tmp_path / "hf"))
    assert list(recipe.labels()) == ["sad", "happy", "calm"]
    found = answers(path, tmp_path, TEXTS[0].encode(), "text/plain")
    ids = ids_of(TEXTS[0])
    with torch.inference_mode():
        expected = model(ids, torch.ones_like(ids)).logits.softmax(1)[0]
    by_label = {each["label"]: each["probability"] for each in found["predictions"]}
    for place, name in names.items():
        assert by_label[name] == pytest.approx(expected[place].item(), abs=1e-4)


def test_a_model_of_sentences_answers_with_the_mean_of_its_tokens(tmp_path):
    model = bert(tmp_path / "hf", BertModel)
    plain, _ = written(tmp_path, "hf", str(tmp_path / "hf"))
    assert plain.preprocessing.max_length == 64
    ids = ids_of(TEXTS[1])
    with torch.inference_mode():
        mean = model(ids, torch.ones_like(ids)).last_hidden_state.mean(1)[0]
        assert torch.allclose(plain.module().eval()(ids, torch.ones_like(ids))[0], mean, atol=1e-5)
    (tmp_path / "my_model.py").unlink()
    modules = [{"type": "sentence_transformers.models.Normalize"}]
    (tmp_path / "hf" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "hf" / "sentence_bert_config.json").write_text('{"max_seq_length": 32}')
    recipe, path = written(tmp_path, "hf", str(tmp_path / "hf"))
    assert recipe.preprocessing.max_length == 32
    found = answers(path, tmp_path, TEXTS[1].encode(), "text/plain")
    assert np.allclose(found["embedding"], mean / mean.norm(), atol=1e-4)


def test_a_classifier_of_images_answers_as_transformers_does(tmp_path):
    names = {place: f"class {place}" for place in range(30)}
    torch.manual_seed(3)
    config = ViTConfig(image_size=32, patch_size=8, num_labels=30, id2label=names, **TINY)
    model = ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path / "hf")
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path / "hf")
    recipe, path = written(tmp_path, "hf", str(tmp_path / "hf"))
    assert list(recipe.labels()) == list(names.values())
    found = answers(path, tmp_path, (PHOTOS / "chelsea.png").read_bytes(), "image/png")
    photo = Image.open(PHOTOS / "chelsea.png").convert("RGB")
    with torch.inference_mode():
        pixels = processor(photo, return_tensors="pt")
        expected = model(**pixels).logits.softmax(1)[0]
    assert [each["class_id"] for each in found][:2] == expected.topk(2).indices.tolist()
    assert found[0]["probability"] == pytest.approx(expected.max().item(), abs=2e-3)


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ({"size": 224, "do_center_crop": False}, {"fit": "squash", "height": 224}),
        (
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}
            | {"do_center_crop": True, "resample": 3, "image_processor_type": "CLIPImageProcessor"},
            {"fit": "crop", "crop_fraction": 224 / 256, "resample": "bicubic", "height": 224},
        ),
        (
            {"size": {"shortest_edge": 224}, "crop_pct": 0.875}
            | {"image_processor_type": "ConvNextImageProcessor"},
            {"crop_fraction": 0.875, "height": 224},
        ),
        ({"size": 32, "do_normalize": False}, {"mean": (0, 0, 0), "std": (255, 255, 255)}),
        ({"size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, {"mean": (127.5,) * 3}),
    ],
)
def test_what_a_preprocessor_says_is_written_down(tmp_path, said, fields):
    config = ViTConfig(image_size=32, patch_size=8, num_labels=3, **TINY)
    ViTForImageClassification(config).save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "preprocessor_config.json").write_text(json.dumps(said))
    recipe, _ = written(tmp_path, "hf", str(tmp_path / "hf"))
    found = recipe.preprocessing.model_dump()
    assert {key: found[key] for key in fields} == fields


def _questions(folder: Path) -> None:
    bert(folder, BertForQuestionAnswering)


def _no_tokenizer(folder: Path) -> None:
    bert(folder, BertModel)
    (folder / "tokenizer.json").unlink()


def _no_weights(folder: Path) -> None:
    bert(folder, BertModel)
    (folder / "model.safetensors").unlink()


def _own_code(folder: Path) -> None:
    bert(folder, BertModel)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling.Net"}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_questions, "is a 'BertForQuestionAnswering'; there is a recipe for"),
        (_no_tokenizer, "has no tokenizer.json"),
        (_no_weights, "holds no checkpoint"),
        (_own_code, "brings code of its own"),
        (lambda folder: folder.mkdir(), r"config\.json cannot be read"),
    ],
)
def test_a_folder_of_which_no_recipe_can_be_made_is_refused(tmp_path, make, says):
    make(tmp_path / "hf")
    with pytest.raises(CannotStartRecipe, match=says):
        recipe_from("hf", str(tmp_path / "hf"), "my_model")


@pytest.mark.parametrize(
    "said",
    [
        {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 224}}
        | {"crop_size": {"height": 224, "width": 224}, "do_flip_channel_order": True},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}
        | {"crop_pct": 0.875},
        {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 224}},
        {"size": 32, "rescale_factor": 1 / 127.5},
        {"size": {"height": 256, "width": 256}, "do_center_crop": True}
        | {
            "crop_size": {"height": 224, "width": 224},
            "image_processor_type": "CLIPImageProcessor",
        },
        {"size": 32, "do_resize": False},
        {"size": {"height": 32, "width": 48}},
        {"size": 32, "image_mean": 0.5},
        {"size": 32, "resample": 0},
    ],
)
def test_a_processor_that_does_something_else_is_refused(tmp_path, said):
    config = ViTConfig(image_size=32, patch_size=8, num_labels=3, **TINY)
    ViTForImageClassification(config).save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(CannotStartRecipe, match=r"preprocessor_config\.json"):
        recipe_from("hf", str(tmp_path / "hf"), "my_model")


def _changed(folder: Path, **changes: object) -> str:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return recipe_from("hf", str(folder), "my_model")


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ['"""\nimport os\n"""BertForSequenceClassification']},
        {"architectures": [None]},
        {"architectures": []},
        {"architectures": {"x": 1}},
        {"architectures": ["BertLMHeadModel"]},
        {"architectures": ["GPT2LMHeadModel"]},
        {"pad_token_id": '__import__("os").system("true")'},
        {"pad_token_id": -1},
        {"max_position_embeddings": -1},
        {"id2label": ["a", "b"]},
        {"id2label": {"a": "b"}},
        {"problem_type": "ranking"},
    ],
)
def test_nothing_that_a_folder_says_becomes_code(tmp_path, changes):
    bert(tmp_path / "hf", BertForSequenceClassification)
    with pytest.raises(CannotStartRecipe):
        _changed(tmp_path / "hf", **changes)


def test_names_of_any_characters_are_written_down(tmp_path):
    folder = tmp_path / 'my "best"\\new\'s __NAME__ model'
    labels = {0: 'a "b"', 1: "__LABELS__", 2: "c\\n'd"}
    bert(folder, BertForSequenceClassification, num_labels=3, id2label=labels)
    recipe, _ = written(tmp_path, "hf", str(folder))
    assert list(recipe.labels()) == list(labels.values())
    assert recipe.files()["tokenizer.json"] == folder / "tokenizer.json"


def test_what_a_classifier_is_for_is_read(tmp_path):
    bert(tmp_path / "hf", BertForSequenceClassification, num_labels=5)
    assert "'LABEL_4'" in _changed(tmp_path / "hf", id2label=None, num_labels=5)
    several = _changed(tmp_path / "hf", problem_type="multi_label_classification")
    assert 'scores="multi_label"' in several
    numbers = _changed(tmp_path / "hf", problem_type="regression")
    assert 'task="text_regression"' in numbers and "multi_label" not in numbers
    shifted = _changed(tmp_path / "hf", model_type="roberta", pad_token_id=1)
    assert "max_length=62," in shifted


@pytest.mark.parametrize(
    ("modules", "pooling", "line"),
    [
        (["Transformer", "Pooling"], {"pooling_mode_cls_token": True}, "tokens_BTD[:, 0]"),
        (["Transformer", "Pooling"], {"pooling_mode_mean_tokens": True}, ".sum(1) / weight"),
        (["Transformer", "Pooling", "Dense"], {"pooling_mode_mean_tokens": True}, None),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, None),
        (
            ["Transformer", "Pooling"],
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            None,
        ),
    ],
)
def test_texts_are_pooled_as_the_folder_says(tmp_path, modules, pooling, line):
    bert(tmp_path / "hf", BertModel)
    listed = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{place}_{kind}"}
        for place, kind in enumerate(modules)
    ]
    (tmp_path / "hf" / "modules.json").write_text(json.dumps(listed))
    (tmp_path / "hf" / "1_Pooling").mkdir()
    (tmp_path / "hf" / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if line is None:
        with pytest.raises(CannotStartRecipe, match=r"modules\.json asks for"):
            recipe_from("hf", str(tmp_path / "hf"), "my_model")
    else:
        text = recipe_from("hf", str(tmp_path / "hf"), "my_model")
        assert line in text
        compile(text, "recipe", "exec")


def test_a_model_of_torchvision_is_built_as_for_its_weights():
    assert "transform_input=True" in recipe_from("torchvision", "googlenet", "my_model")
    assert "image_size=518" in recipe_from("torchvision", "vit_h_14", "my_model")
    for model in list_models(module=torchvision.models):
        compile(recipe_from("torchvision", model, "my_model"), model, "exec")


def test_unknown_names_are_refused_with_similar_ones():
    with pytest.raises(CannotStartRecipe, match="Similar names: resnet50"):
        recipe_from("torchvision", "resnet5", "my_model")
    with pytest.raises(CannotStartRecipe, match="Give one of: torchvision, hf"):
        recipe_from("timm", "resnet50", "my_model")
