"""A search over settings by optuna: trials that several processes share, and that outlive them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from polymodal.checks import check_name
from polymodal.checks.files import make_directory
from polymodal.data import Splits
from polymodal.experiments.plan import make_plan
from polymodal.experiments.work import FAILURES
from polymodal.metrics import METRICS
from polymodal.metrics.evaluate import evaluate
from polymodal.metrics.table import markdown_row, shown
from polymodal.rng import stream
from polymodal.runs.lock import BusyError, locked
from polymodal.training.fit import fit

JOURNAL, CHOICE, TRIAL = "trials.log", ".choice.lock", ".trial.lock"
SPREAD = 10.0  # a range whose ends differ by this factor or more is searched by its logarithm


@dataclass(frozen=True)
class Search:
    """A search over the settings of one recipe.

    Args:
        recipe: a built-in name or a YAML file.
        out: the directory of the trials, trial-<k>, and of the journal.
        space: by setting, a list of values or a range (low, high), of whole numbers if both are.
        trials: how many there are in all, those of other processes counted.
        objective: a key of METRICS, measured on the *validation* part; several figures by their
            mean.
        overrides, data, seed: as of `make_plan`.
    """

    recipe: str
    out: Path
    space: Mapping[str, Sequence[Any] | tuple[Any, Any]]
    trials: int
    objective: str = "joint_log_likelihood"
    overrides: Sequence[str] = ()
    data: str | None = None
    seed: int = 0

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """maximize or minimize. Raises ValueError for an objective that is neither."""
        check_name(self.objective, METRICS, "objective", " among the metrics")
        words: dict[str, Literal["maximize", "minimize"]] = {
            "higher": "maximize",
            "lower": "minimize",
        }
        direction = METRICS[self.objective].direction
        if direction not in words:
            raise ValueError(
                f"Of {self.objective} neither high nor low values are better; take another"
                " objective, such as joint_log_likelihood."
            )
        return words[direction]


def search(given: Search, say: Callable[[str], None]) -> Any:
    """Trains trials until there are as many as asked for; returns optuna's study.

    The journal in the directory keeps what every trial was and came to. A trial whose process has
    ended is resumed, where its training stopped, by the next process that looks; several processes
    with the same directory take different trials. A trial that fails is kept as failed.

    Raises ValueError for an unknown objective or setting, a journal of another objective, or data
    without a validation part.
    """
    study = _study(given)
    while True:
        with ExitStack() as held:
            trial = _next(given, study, held)
            if trial is None:
                return study
            _work(given, study, trial, say)


def _study(given: Search) -> Any:
    """The study of the journal, which is written if there is none."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = given.direction
    make_directory(given.out)
    storage = JournalStorage(JournalFileBackend(str(given.out / JOURNAL)))
    study = optuna.create_study(
        storage=storage,
        study_name="polymodal",
        direction=direction,
        load_if_exists=True,
    )
    kept = study.user_attrs.get("objective")
    if kept is None:
        study.set_user_attr("objective", given.objective)
    elif kept != given.objective:
        raise ValueError(
            f"{given.out} is a search by {kept}, not by {given.objective}; give another --out."
        )
    return study


def _next(given: Search, study: Any, held: ExitStack) -> Any:
    """A trial, held until `held` ends: one that was left unfinished, else a new one; None if there
    are enough.
    """
    import optuna

    with locked(given.out, CHOICE, wait=True):
        trials = study.get_trials(deepcopy=False)
        for frozen in trials:
            if frozen.state == optuna.trial.TrialState.RUNNING:
                with suppress(BusyError):
                    held.enter_context(_hold(given, frozen.number))
                    return optuna.trial.Trial(study, frozen._trial_id)
        if len(trials) >= given.trials:
            return None
        # Of its own seed for each trial: processes of equal seeds would choose the same values.
        seed = stream(given.seed, "trial", len(trials)) % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        trial = study.ask()
        held.enter_context(_hold(given, trial.number))
        return trial


def _hold(given: Search, number: int) -> AbstractContextManager[None]:
    directory = _directory(given, number)
    make_directory(directory)
    return locked(directory, TRIAL)


def _directory(given: Search, number: int) -> Path:
    return given.out / f"trial-{number}"


def _work(given: Search, study: Any, trial: Any, say: Callable[[str], None]) -> None:
    """Trains and measures a trial, and writes into the journal what came of it."""
    import optuna

    chosen = {path: _suggest(trial, path, values) for path, values in given.space.items()}
    say(f"Trial {trial.number}: {words(chosen)}")
    try:
        value, error = _measured(given, trial.number, chosen)
    except FAILURES as failure:
        trial.set_user_attr("failure", " ".join(str(failure).split()))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        say(f"Trial {trial.number} failed: {failure}")
    else:
        trial.set_user_attr("error", error)
        study.tell(trial, value)
        say(f"Trial {trial.number}: {given.objective} {shown(value, error)}")


def _suggest(trial: Any, path: str, values: Sequence[Any] | tuple[Any, Any]) -> Any:
    """A value of one setting; the one that the trial has, if it was chosen before."""
    if not isinstance(values, tuple):
        texts = [json.dumps(value) for value in values]  # optuna takes plain values only
        return json.loads(trial.suggest_categorical(path, texts))
    low, high = values
    log = low > 0 and high / low >= SPREAD
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(path, low, high, log=log)
    return trial.suggest_float(path, low, high, log=log)


def words(chosen: Mapping[str, Any]) -> str:
    """Settings as they are written on the command line, numbers to four digits.

    >>> words({"method.latent": 8, "training.lr": 0.0012345678})
    'method.latent=8 training.lr=0.001235'
    """
    rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in chosen.items()}
    return " ".join(f"{path}={json.dumps(value)}" for path, value in rounded.items())


def _measured(given: Search, number: int, chosen: Mapping[str, Any]) -> tuple[float, float]:
    """The objective on the validation part and its standard error."""
    directory = _directory(given, number)
    changes = [*given.overrides, *(f"{k}={json.dumps(v)}" for k, v in chosen.items())]
    plan = make_plan(given.recipe, directory, changes, given.data, given.seed)
    (planned,), splits = plan.runs, _validated(plan.data)
    run = fit(planned.settings, splits, out=directory, seed=given.seed)
    asked = planned.settings.evaluation.model_dump() | {"metrics": [given.objective]}
    table = evaluate(run, replace(splits, test=splits.val), save=False, **asked)
    rows = [row for row in table.records() if row["value"] is not None]
    if not rows:
        raise ValueError(f"{given.objective} is not defined: {'; '.join(table.reasons())}")
    return _mean(rows, "value"), _mean(rows, "se")


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """The mean over figures; of their errors, what is at least the error of the mean."""
    return sum(math.nan if row[key] is None else row[key] for row in rows) / len(rows)


def _validated(splits: Splits) -> Splits:
    """The same. Raises ValueError if there is no validation part."""
    if splits.val is None:
        raise ValueError(
            "A search measures on validation data, and these have none; name a part of them in the"
            " description, or take --trials away and list values."
        )
    return splits


def summary(study: Any) -> str:
    """The trials as a Markdown table, the best one first, failed and unfinished ones last, below a
    sentence on the best ones.
    """
    sign = -1 if study.direction.name == "MAXIMIZE" else 1
    trials = study.get_trials(deepcopy=False)
    order = sorted(trials, key=lambda t: math.inf if t.value is None else sign * t.value)
    name = study.user_attrs["objective"]
    lines = [f"| trial | {name} | settings |", "| --- | --- | --- |"]
    lines += [markdown_row([f"{t.number}", _result(t), words(_values(t.params))]) for t in order]
    return "\n".join([_best(order, name), "", *lines]) + "\n"


def _best(order: Sequence[Any], name: str) -> str:
    """The best trial in words, and how many are within two standard errors of it."""
    done = [t for t in order if t.value is not None]
    if not done:
        return "No trial came to an end."
    first = done[0]

    def differs(other: Any) -> bool:
        error = math.hypot(*(t.user_attrs["error"] for t in (first, other)))
        return abs(first.value - other.value) > 2 * error

    near = sum(not differs(other) for other in done[1:])
    return (
        f"By {name} on validation data the best of {len(done)} trials is trial {first.number},"
        f" {words(_values(first.params))}: {_result(first)}; {near} of the others are within two"
        " standard errors of it."
    )


def _result(trial: Any) -> str:
    if trial.value is None:
        return trial.user_attrs.get("failure", trial.state.name.lower())
    return shown(trial.value, trial.user_attrs["error"])


def _values(params: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a trial; those of a list were kept as JSON."""
    return {k: json.loads(v) if isinstance(v, str) else v for k, v in params.items()}
