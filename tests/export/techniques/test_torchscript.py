"""TorchScript."""

from tests.export.workbench import passes


def test_a_convolutional_network_comes_back_from_disk_and_agrees(images):
    assert passes(images, "torchscript") == {}
