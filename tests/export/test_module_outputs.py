"""What modules return becomes named tensors."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from shipway.export.errors import BadInputs
from shipway.export.module_outputs import choose_outputs, leaves_of
from shipway.export.recipe_file import find_recipe
from shipway.recipe import InvalidRecipe, Recipe
from tests.conftest import DATA

ONE, TWO, THREE = (torch.full((2, 3), float(value)) for value in (1, 2, 3))
Named = namedtuple("Named", ["boxes", "scores"])


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] = ()


@pytest.fixture
def recipe() -> Recipe:
    found, _ = find_recipe(str(DATA / "tiny_tensors_recipe.py"))
    return found


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        (ONE, ["output"]),
        ((ONE, TWO), ["output_0", "output_1"]),
        ([ONE, (TWO, THREE)], ["output_0", "output_1_0", "output_1_1"]),
        ({"a": ONE, "b c": TWO}, ["a", "b_c"]),
        (OrderedDict(out=ONE, aux={"x": TWO, "y": THREE}), ["out", "aux_x", "aux_y"]),
        (Named(ONE, TWO), ["boxes", "scores"]),
        (Output(ONE), ["logits"]),
        (Output(ONE, None, (TWO, THREE)), ["logits", "hidden_states_0", "hidden_states_1"]),
    ],
)
def test_every_tensor_has_a_name_that_says_where_it_came_from(recipe, returned, names):
    assert list(choose_outputs(returned, recipe, "output").values()) == names
    single = "output" if isinstance(returned, Tensor) else ""
    assert [name for name, _ in leaves_of(returned, single)] == names


def test_a_recipe_chooses_orders_and_renames_outputs(recipe):
    returned = {"features": ONE, "logits": TWO, "steps": 3}
    chosen = replace(recipe, outputs=["logits", "features"])
    assert choose_outputs(returned, chosen, "output") == {
        "logits": "logits",
        "features": "features",
    }
    renamed = replace(recipe, outputs={"logits": "scores"})
    assert choose_outputs(returned, renamed, "output") == {"logits": "scores"}
    alone = replace(recipe, outputs=["scores"])
    assert choose_outputs(ONE, alone, "output") == {"output": "scores"}


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ({"logits": ONE, "steps": 3}, "output steps is of type int"),
        ({"z": ONE.to(torch.complex64)}, "z is complex"),
        ({"sparse": ONE.to_sparse()}, "sparse is not dense"),
        ({"a b": ONE, "a_b": TWO}, "several outputs that would be called a_b"),
        ((), "returns no tensor"),
        (None, "returns no tensor"),
        ([{"boxes": ONE}, {"boxes": "none"}], "output_1_boxes is of type str"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_name(recipe, returned, reason):
    with pytest.raises(BadInputs, match=reason):
        choose_outputs(returned, recipe, "output")


def test_an_output_that_the_module_lacks_is_refused_with_those_it_has(recipe):
    with pytest.raises(BadInputs, match="'logits' does not exist. The module returns a, b"):
        choose_outputs({"a": ONE, "b": TWO}, replace(recipe, outputs=["logits"]), "output")


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ("logits", "Give a list of names"),
        ([1], "Give a list of names"),
        (["a/b"], "output 'a/b' cannot be used"),
        ({"a": "x", "b": "x"}, "the same name"),
    ],
)
def test_outputs_that_name_nothing_are_refused(recipe, outputs, reason):
    with pytest.raises(InvalidRecipe, match=reason):
        replace(recipe, outputs=outputs)
