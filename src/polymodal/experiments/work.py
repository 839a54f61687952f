"""The runs of a plan, worked off by one process or shared out over several."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polymodal.experiments.plan import Plan, Planned
from polymodal.runs.lock import BusyError
from polymodal.runs.run import Run
from polymodal.training.checks import check_place
from polymodal.training.fit import fit

WAIT = 2.0  # seconds before the runs of other processes are looked at again
FAILURES = (ValueError, OSError, MemoryError, RuntimeError)

Work = Callable[[Planned, Run], None]


@dataclass
class Outcome:
    """What became of the runs of a plan.

    Args:
        runs: the trained ones, by directory, in the order of the plan.
        failures: why the others are not trained, by directory.
    """

    runs: Mapping[Path, Run] = field(default_factory=dict)
    failures: Mapping[Path, str] = field(default_factory=dict)


def train(
    plan: Plan, say: Callable[[str], None] | None = None, after: Work | None = None
) -> Outcome:
    """Trains the runs of a plan, or resumes them; finished ones are read.

    A run at which another process works is passed over until that has ended, so that several
    processes share the work of one plan. A run that fails takes with it only those that need its
    stages.

    Args:
        plan: the runs.
        say: is told of each.
        after: is called with each trained run, before the next one.

    Raises ValueError, before the first one begins, if one cannot be written into its directory; of
    a plan of one run, and under torchrun, whatever its training raises.
    """
    _check_places(plan)
    runs: dict[Path, Run] = {}
    failures: dict[Path, str] = {}
    left = list(plan.runs)
    while left:
        count = len(left)
        for planned in tuple(left):
            if _waits(planned, left):
                continue
            try:
                runs[planned.directory] = _worked(planned, plan, failures, say, after)
            except BusyError:
                if _is_alone(plan):
                    raise
                continue
            except FAILURES as error:
                if _is_alone(plan):
                    raise
                failures[planned.directory] = _reason(error)
            left.remove(planned)
        if len(left) == count:
            time.sleep(WAIT)
    order = [p.directory for p in plan.runs if p.directory in runs]
    return Outcome({directory: runs[directory] for directory in order}, failures)


def _worked(
    planned: Planned,
    plan: Plan,
    failures: Mapping[Path, str],
    say: Callable[[str], None] | None,
    after: Work | None,
) -> Run:
    """One run, trained. Raises ValueError if a stage of it comes from a run that failed."""
    for stage, source in planned.reuse.items():
        if source in failures:
            raise ValueError(f"its stage {stage} comes from {source.name}, which failed")
    if say:
        say(f"{planned.label}, seed {planned.seed}: {planned.directory}")
    run = fit(
        planned.settings, plan.data, out=planned.directory, seed=planned.seed, reuse=planned.reuse
    )
    if after:
        after(planned, run)
    return run


def _waits(planned: Planned, left: Sequence[Planned]) -> bool:
    """Whether a run from which a stage is taken is not trained yet."""
    return bool(set(planned.reuse.values()) & {other.directory for other in left})


def _is_alone(plan: Plan) -> bool:
    """Whether there is nothing to go on with after a failure: one run, or a part in torchrun, where
    all processes do the same.
    """
    return len(plan.runs) == 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1


def _check_places(plan: Plan) -> None:
    for planned in plan.runs if is_first_process() else ():
        try:
            check_place(planned.settings, plan.data, planned.seed, planned.directory)
        except BusyError:
            if _is_alone(plan):
                raise


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def is_first_process() -> bool:
    """False only in the further processes of torchrun."""
    return os.environ.get("RANK", "0") == "0"
