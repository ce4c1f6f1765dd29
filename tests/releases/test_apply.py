"""What leads from a server to a models file, worked out without either."""

from pathlib import Path
from typing import Any

import pytest

from shipway.archive.inspect import MarInfo
from shipway.engines.protocol import ModelVersion
from shipway.releases.apply import TargetModel, TargetVersion, plan
from shipway.releases.errors import NotApplicable
from shipway.releases.history import Release, Releases, Version

DIGEST = "0" * 64


def version(digest: str = DIGEST, **settings: int) -> Version:
    usual = {"batch_size": 4, "max_batch_delay_ms": 0, "workers": 1}
    return Version(mar="echo.mar", digest=digest, **(usual | settings))


def wanted(*versions: str, **settings: Any) -> list[TargetModel]:
    """A model with these versions, the first the default."""

    def one(each: str) -> TargetVersion:
        info = MarInfo(
            path=Path("echo.mar"),
            name="echo",
            version=each,
            batch_size=4,
            max_batch_delay_ms=0,
            workers=1,
            digest=DIGEST,
        )
        return TargetVersion(info=info, settings=version(**settings))

    return [TargetModel(name="echo", versions=tuple(map(one, versions)))]


def noted(*versions: str, default: str | None = None, digest: str = DIGEST) -> Releases:
    release = Release(versions={each: version(digest) for each in versions}, default=default)
    return Releases(models={"echo": release})


def there(*versions: str, workers: int = 1, default: str | None = "") -> list[ModelVersion]:
    """What the server has, the first the default unless `default` says otherwise."""
    if default == "":
        default = versions[0]
    return [
        ModelVersion(
            name="echo",
            version=each,
            default=each == default,
            mar="echo.mar",
            batch_size=4,
            max_batch_delay_ms=0,
            workers=workers,
            workers_ready=workers,
            worker_pids=(),
            worker_states=(),
            worker_ids=(),
            memory_bytes=0,
            device="cpu",
            requests_waiting=0,
            queue_limit=100,
            response_timeout_s=60,
            startup_timeout_s=120,
        )
        for each in versions
    ]


@pytest.mark.parametrize(
    ("models", "releases", "on_server", "expected"),
    [
        (wanted("1"), Releases(), [], ["promote 1"]),
        (wanted("1"), noted("1", default="1"), there("1"), []),
        # After a stop: what was the default has proved itself, another has not.
        (wanted("1", "2"), noted("1", "2", default="1"), [], ["register 1", "register 2"]),
        (wanted("2", "1"), noted("1", "2", default="1"), [], ["promote 2", "register 1"]),
        (wanted("1"), noted("1", "2", default="1"), [], ["register 1", "unregister 2"]),
        # The new default is there before the old one goes.
        (wanted("2"), noted("1", default="1"), there("1"), ["promote 2", "unregister 1"]),
        (wanted("1", "2"), noted("1", default="1"), there("1"), ["register 2"]),
        (wanted("1", workers=3), noted("1", default="1"), there("1"), ["scale 1"]),
        (wanted("2", "1", workers=3), noted("1", "2", default="1"), there("1", "2"),
         ["promote 2", "scale 2", "scale 1"]),
        # Other settings, of one that is not the default, or is no longer.
        (wanted("2", "1", batch_size=2), noted("1", "2", default="1"), there("1", "2"),
         ["unregister 2", "promote 2", "unregister 1", "register 1"]),
        # Of the default: the server keeps it to the last.
        (wanted("1", batch_size=2), noted("1", "2", default="1"), there("1", "2"),
         ["unregister 2", "unregister 1 (interrupts)", "register 1"]),
        (wanted("1"), noted("1", default="1"), there("1", workers=2),
         ["unregister 1 (interrupts)", "register 1"]),
        # Nothing is the default: the recorded one could not be restored, or is not the default yet.
        (wanted("1"), noted("1", "2", default="2"), there("1", default=None),
         ["promote 1", "unregister 2"]),
        (wanted("2", "1"), noted("1", "2", default="2"), there("1", default=None), ["register 2"]),
        (wanted("2", "1"), noted("1", "2", default="2"), there("1", "2", default=None),
         ["promote 2"]),
        # A model that is not in the file: its default last, and what is only noted.
        ([], noted("1", "2", "3", default="1"), there("1", "2"),
         ["unregister 2", "unregister 1", "unregister 3"]),
    ],
)  # fmt: skip
def test_each_step_comes_when_it_can(models, releases, on_server, expected):
    steps = [
        f"{each.what} {each.version}{' (interrupts)' if each.interrupts else ''}"
        for each in plan(models, releases, on_server)
    ]
    assert steps == expected


@pytest.mark.parametrize("on_server", [[], there("1")])
def test_a_version_never_changes(on_server):
    with pytest.raises(NotApplicable, match="Versions are immutable"):
        plan(wanted("1"), noted("1", default="1", digest="1" * 64), on_server)
