"""`fit`: trains a method on data, stage by stage; a run can be stopped at any moment and resumed.

The loop is on Lightning Fabric (devices, precision, processes). The data lie on the device; a batch
is an index into them. Parts that a stage does not train are frozen and in evaluation mode; data
that it prepares are computed once.

    run = fit("jmvae", load_data("shapes"), out="runs/first", epochs=20, latent=4)
    run.model.generate(batch.only(["square"]))["circle"]

Several processes: `torchrun --nproc_per_node 2 $(which polymodal) train ...`. Each takes an equal
part of a batch: `training.batch` is that of all processes together. The losses are those of one
process, within rounding, if the method draws its noise through `polymodal.rng.noise`. (A loss that
couples the samples of a batch must gather them from all processes, as deep CCA's does.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polymodal.checks import FilePath, Seed, permitted, typed
from polymodal.data import Splits, is_in_memory, load_data
from polymodal.data.in_memory import InMemory
from polymodal.data.mapped import is_worth_saying, where, within
from polymodal.data.readers.mapped import Room
from polymodal.model import Method
from polymodal.rng import own_random_state, seed_all
from polymodal.runs.checkpointer import Checkpointer
from polymodal.runs.run import Run, load
from polymodal.settings.data import complete, load_splits
from polymodal.settings.schema import Settings
from polymodal.training.advice import warn_of_ignored, warn_of_spread
from polymodal.training.checks import check_evaluation, check_method, check_reuse, run_info
from polymodal.training.device import deterministic, make_fabric
from polymodal.training.keywords import settings_of
from polymodal.training.loggers import open_loggers
from polymodal.training.memory import built, explained
from polymodal.training.prepare import start_decoders, start_encoders
from polymodal.training.progress import Reporter
from polymodal.training.reuse import taken_from
from polymodal.training.session import Session, Taken

Reuse = Mapping[str, FilePath | Run]


def fit(
    method: str | Method | Settings | Mapping[str, Any],
    /,
    data: Splits | FilePath | InMemory | None = None,
    *,
    out: FilePath | None = None,
    seed: int = 0,
    reuse: Reuse | None = None,
    **settings: Any,
) -> Run:
    """Trains a method and returns the run. An unfinished run in `out` is resumed; a finished one is
    returned as it is.

    Args:
        method: a name in `polymodal.METHODS`; a whole recipe (the name of a built-in one or of a
            YAML file, `Settings` or a mapping); or a `Method`, whose model is trained in place.
        data: `Splits`, or what `load_data` reads: a name, a file, a DataFrame, a mapping of arrays
            and DataFrames; None: the data that the settings name.
        out: the run directory; None: nothing is written, see `Run.save`.
        seed: of weights, order and noise. The same seed and settings give the same run, bit for bit
            on one machine with the same number of threads.
        reuse: {stage: run}: takes the result of that stage from another run, with the same settings
            for data, modalities, networks, latent, seed and that stage, instead of training it.
        settings: sections of a recipe (training={"stages": ...}, networks=..., method={"latent":
            8}), settings of `TrainingSettings` (epochs=20, lr=3e-4, progress=False), or options of
            the method (latent=8, alpha=1.0). A name that is both a setting of the training and an
            option must stand in its section: training={"warmup": 100}, method={"warmup": 0.5}.

    Returns: the `Run`; its model is on the CPU and in evaluation mode.
    Raises:
        ValueError: in one sentence, for unknown or unsuitable settings, for a run with different
            settings in `out`, for files that are damaged or cannot be written, and for a loss that
            is not finite (which, where, what to try).
    """
    seed, out = typed(Seed, seed, "seed"), typed(FilePath | None, out, "out")
    data = load_data(data) if is_in_memory(data) else data
    chosen = settings_of(method, data, settings)
    splits = load_splits(chosen.data, chosen.modalities, data if isinstance(data, Splits) else None)
    splits = within(splits, chosen.data.memory)
    chosen = complete(chosen, splits.modalities)
    check_evaluation(chosen.evaluation, splits)
    training = chosen.training
    fabric = make_fabric(training)
    with (
        own_random_state(fabric.device),
        deterministic(training.deterministic),
        Checkpointer(out, run_info(chosen, splits, seed), fabric.is_global_zero) as checkpointer,
    ):
        if checkpointer.finished:
            return load(checkpointer.path or "", method if isinstance(method, Method) else None)
        warn_of_spread(splits.train)
        if not isinstance(method, Method):
            seed_all(fabric.device, seed, "weights")
            method = built(chosen, splits.modalities, len(splits.train))
        check_method(method, chosen, splits)
        start_decoders(method.model, splits.train)
        start_encoders(method.model, splits.train)
        checkpointer.restore(method)
        method.model.to(fabric.device)
        taken = _taken(method, reuse or {}, checkpointer)
        fabric.barrier()  # all processes have read before one writes
        checkpointer.begin(method.model)
        with (
            explained(chosen, len(splits.train)),
            Reporter(chosen.training.progress and fabric.is_global_zero) as reporter,
            open_loggers(chosen.training, checkpointer.target) as loggers,
        ):
            room = Room(permitted(chosen.data.memory), checkpointer.path)
            if is_worth_saying(splits):
                reporter.say(where(splits, chosen.data.memory))
            session = Session(chosen.training, splits, seed, checkpointer, reporter, loggers, room)
            session.train(method, taken)
        method.model.to("cpu").eval()
        if fabric.is_global_zero:
            warn_of_ignored(method.model, splits.val.to("cpu"))
        run = checkpointer.close(method, splits.modalities)
        fabric.barrier()  # another process may read next what this one wrote
        return run


def _taken(method: Method, reuse: Reuse, checkpointer: Checkpointer) -> dict[str, Taken]:
    """The stages that are still to come and are taken from other runs.

    Raises ValueError for stages that the method does not have, or that other runs trained
    differently.
    """
    check_reuse(reuse, [stage.name for stage in method.stages])
    left = [stage for stage in method.stages[checkpointer.stage :] if stage.name in reuse]
    info = checkpointer.info
    return {stage.name: taken_from(stage, reuse[stage.name], info, method) for stage in left}
