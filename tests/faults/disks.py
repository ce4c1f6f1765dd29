"""Small disks that can be filled without filling the machine's."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SIZE = "48m"
BLOCK = bytes(1 << 16)


@dataclass(frozen=True, slots=True)
class Disk:
    """One that is this folder's alone."""

    folder: Path

    @contextmanager
    def full(self) -> Iterator[None]:
        """Without room for another byte, until the block ends."""
        filler = self.folder / ".filler"
        try:
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(BLOCK) == len(BLOCK):
                        pass
                except OSError:
                    pass
            yield
        finally:
            filler.unlink(missing_ok=True)


@contextmanager
def mounted(folder: Path) -> Iterator[bool]:
    """A disk of SIZE, in memory, at `folder`; False, and a plain folder, if it is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
