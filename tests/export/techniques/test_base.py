"""What techniques declare, and what they are given."""

from dataclasses import replace

import pytest
from torch import nn

from shipway.export.techniques import TECHNIQUES, in_order
from shipway.export.techniques.base import (
    Unavailable,
    heavy_layers,
    require_package,
    require_program,
)
from shipway.recipe import Axis


def test_every_technique_has_a_name_and_a_file_of_its_own():
    files = [each.file for each in TECHNIQUES.all().values() if not each.runs]
    assert len(set(files)) == len(files)
    for each in TECHNIQUES.all().values():
        if each.runs:
            assert TECHNIQUES.get(each.runs).file == each.file


def test_a_technique_comes_after_the_one_whose_file_it_runs():
    names = list(in_order())
    for name, technique in in_order().items():
        assert technique.name == name
        if technique.runs:
            assert names.index(technique.runs) < names.index(name)


def test_a_ranking_of_layers_names_a_technique_that_exists():
    rankings = [each.layer_ranking for each in TECHNIQUES.all().values() if each.layer_ranking]
    assert len(rankings) == 3
    assert all(TECHNIQUES.get(ranking.program).precision == "int8" for ranking in rankings)


def test_only_axes_with_a_range_are_dynamic(images):
    (shapes,) = images.job.dynamic_shapes
    assert list(shapes) == [0]
    alone = Axis(name="batch", max=1)
    (spec,) = images.job.inputs
    fixed = spec.model_copy(update={"shape": (alone, *spec.shape[1:])})
    assert replace(images.job, inputs=(fixed,)).dynamic_shapes is None


def test_heavy_layers_are_counted_at_any_depth():
    module = nn.Sequential(nn.Conv1d(1, 1, 1), nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(1, 1)))
    assert heavy_layers(module) == (2, 1)


def test_a_package_that_is_not_installed_and_a_program_that_is_not_built_are_named(
    images, tmp_path
):
    with pytest.raises(Unavailable, match="the package no-such-package is not installed"):
        require_package("no-such-package")
    fp32 = TECHNIQUES.get("onnx_fp32")
    assert require_program(images.job, fp32) == images.job.programs / "onnx_fp32.onnx"
    with pytest.raises(Unavailable, match="it is made from onnx_fp32, which is missing"):
        require_program(replace(images.job, programs=tmp_path), fp32)
