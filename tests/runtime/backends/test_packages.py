import re

from shipway.runtime.backends.packages import installed, installed_exactly


def test_a_version_has_no_local_part():
    for package in ("torch", "numpy"):
        version = installed(package)
        assert version is not None and re.fullmatch(r"\d+(\.\d+)+", version)


def test_a_package_that_is_not_installed_has_none():
    assert installed("no-such-package-anywhere") is None
    assert installed_exactly("no-such-package-anywhere") is None


def test_the_build_for_gpus_counts_as_the_package():
    gpu, cpu = installed_exactly("onnxruntime-gpu"), installed_exactly("onnxruntime")
    assert installed("onnxruntime") == (cpu or gpu)
