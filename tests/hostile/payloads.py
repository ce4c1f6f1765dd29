"""Code that leaves a mark when it is run: by Python, by unpickling, by the dynamic linker."""

import importlib.util
import io
import marshal
import pickle
import shutil
import subprocess
import zipfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

MARK = "HOSTILE_MARK"
"""The environment variable that names the file which must never come to be."""

PYTHON = f"import os, pathlib\npathlib.Path(os.environ[{MARK!r}]).write_text(__name__)\n"
_C = f"""
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void ran(void) {{
    const char *mark = getenv("{MARK}");
    FILE *file = mark ? fopen(mark, "w") : NULL;
    if (file) fclose(file);
}}
"""


class _Unpickled:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, (PYTHON.replace("__name__", "'unpickled'"),)


def pickled() -> bytes:
    """A pickle that leaves its mark when it is loaded."""
    return pickle.dumps(_Unpickled(), protocol=2)


def zip_of(**members: bytes) -> bytes:
    """A zip as torch writes one: all below a folder, uncompressed; `__` in a name is a slash."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"archive/{name.replace('__', '/')}", data)
    return file.getvalue()


def torchscript() -> bytes:
    """What torch.jit.load opens, and what a plain torch.load would run."""
    return zip_of(**{"data.pkl": pickled(), "constants.pkl": pickled(), "version": b"3\n"})


@cache
def native() -> bytes:
    """A shared library that leaves its mark when it is loaded; without a compiler, half of one."""
    compiler = shutil.which("cc")
    if compiler is None:
        return b"\x7fELF"
    with TemporaryDirectory() as folder:
        library = Path(folder, "evil.so")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", library],
            input=_C.encode(),
            check=True,
        )
        return library.read_bytes()


def bytecode() -> bytes:
    """A .pyc that Python runs without comparing it with any source."""
    unchecked = (0b01).to_bytes(4, "little")
    code = compile(PYTHON, "x.py", "exec")
    return importlib.util.MAGIC_NUMBER + unchecked + bytes(8) + marshal.dumps(code)
