"""The archive that `shipway tune` measures, and the settings that it starts from and writes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from shipway.engines.torchserve.config import default_model_store, find_config
from shipway.loadtest.errors import NoSettingKeeps, NotReady
from shipway.loadtest.tune import MeasuredRate, Setting, Step, Trial

if TYPE_CHECKING:
    from shipway.archive.inspect import MarInfo
    from shipway.artifact.tuned import Tuned


def find_model_store() -> Path:
    """The model store that `shipway serve` would use in this folder."""
    return default_model_store(find_config(Path.cwd()), Path.cwd())


def find_archive(store: Path, name: str, version: str | None) -> Path:
    """The archive of a version in the store, or of the newest version. Raises NotReady."""
    # httpx takes half a second to import.
    from shipway.engines.protocol import natural_order

    pattern = f"{name}-{version or '*'}.mar"
    archives = sorted(store.glob(pattern), key=lambda path: natural_order(path.stem))
    if not archives:
        others = ", ".join(sorted(path.name for path in store.glob("*.mar"))) or "none"
        raise NotReady(
            f"{store} contains no {pattern}. Its archives: {others}. Create one with "
            "`shipway package ARTIFACT`, or give another folder with --model-store."
        )
    return archives[-1]


def nearest_setting(settings: list[Setting], info: "MarInfo") -> Setting:
    """The setting to start from: the one closest to the archive's own."""
    layouts = [setting for setting in settings if setting.workers <= info.workers]
    workers = max(setting.workers for setting in layouts)
    return min(
        (setting for setting in layouts if setting.workers == workers),
        key=lambda setting: (
            abs(setting.batch_size - info.batch_size),
            abs(setting.delay_ms - info.max_batch_delay_ms),
            -setting.threads,
        ),
    )


def setting_of(tuned: "Tuned") -> Setting:
    """The setting that an earlier `shipway tune` wrote."""
    serving = tuned.serving
    return Setting(serving.workers, serving.threads, serving.batch_size, serving.max_batch_delay_ms)


def step_in_words(step: Step) -> str:
    """A trial and its outcome in a line."""
    trial = step.trial
    if not trial.best:
        return f"{trial.setting}: {step.because}"
    best = trial.best
    return f"{trial.setting}: {best.rate:.0f} requests/s, p99 {best.p99_ms:.1f} ms; {step.because}"


def best_trial(steps: list[Step], slo_ms: float) -> Trial:
    """The last trial that met the target. Raises NoSettingKeeps with the closest setting."""
    kept = [step.trial for step in steps if step.trial.best]
    if kept:
        return kept[-1]
    nearest, setting = min(
        ((load, step.trial.setting) for step in steps for load in step.trial.loads),
        key=lambda pair: pair[0].p99_ms,
    )
    raise NoSettingKeeps(
        f"None of the {len(steps)} settings has a p99 below {slo_ms:g} ms, not even at 1 "
        f"request/s. The closest was {setting}: p99 {nearest.p99_ms:.1f} ms at "
        f"{nearest.rate:.0f} requests/s. Raise the target with --slo-p99, or export a faster "
        "program with `shipway export`."
    )


def tuned_record(setting: Setting, load: MeasuredRate, slo_ms: float) -> "Tuned":
    """The record that is written beside the archive: the setting and its measurement."""
    # numpy and pydantic take half a second to import.
    from shipway.artifact.manifest import Serving
    from shipway.artifact.tuned import Evidence, Tuned
    from shipway.runtime.host import describe_host

    return Tuned(
        serving=Serving(
            batch_size=setting.batch_size,
            max_batch_delay_ms=setting.delay_ms,
            workers=setting.workers,
            threads=setting.threads,
        ),
        evidence=Evidence(
            slo_p99_ms=slo_ms,
            rate=load.rate,
            p99_ms=load.p99_ms,
            measured=datetime.now(UTC).isoformat(timespec="seconds"),
            host=describe_host(),
        ),
    )
