"""Runs on the Hugging Face Hub: published with a model card, and loaded without running code."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from polymodal.checks import FilePath, checked, shown
from polymodal.checks.files import write
from polymodal.model import Method
from polymodal.runs.card import model_card
from polymodal.runs.files import LOG, METRICS, MODEL, RUN
from polymodal.runs.run import Run, load

CARD = "README.md"
FILES = (RUN, MODEL, LOG, METRICS)  # of a run, that are published
BESIDE = (CARD, ".gitattributes", ".gitignore", "LICENSE")  # files that a repository may have too


@checked
def push_to_hub(
    run: Run,
    repo: str,
    *,
    data_licence: str | None = None,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Publishes a finished run: weights, run.json, log, results and a model card.

    run.json holds the command and the settings of the run, with the paths that they name.

    Args:
        repo: "owner/name"; is made if there is none.
        data_licence: of the training data, for the card.
        private: whether a new repository is private.
        token: of the hub; None: that of `hf auth login` or HF_TOKEN.

    Returns: the address of the repository.
    Raises:
        ValueError: in one sentence, if huggingface_hub is not installed, the hub refuses or cannot
            be reached.
    """
    api = _api(token)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        replace(run, directory=None).save(folder)
        write(folder / CARD, model_card(run, repo, data_licence).encode())
        with _hub_errors(repo, "pushed to"):
            api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                allow_patterns=[*FILES, CARD],
                commit_message=f"Publish a run of {run.method_name}",
            )
    return f"{api.endpoint}/{repo}"


@checked
def from_pretrained(
    repo: str,
    *,
    revision: str | None = None,
    method: Method | None = None,
    token: str | None = None,
    cache: FilePath | None = None,
) -> Run:
    """A run that `push_to_hub` published. It has no directory: `Run.save` writes one.

    Only the files of a run are downloaded, and none can run code.

    Args:
        repo: "owner/name".
        revision: a branch, tag or commit; None: the newest.
        method: for a run of a custom `Method`, as in `polymodal.load`.
        token: of the hub, for private repositories.
        cache: the folder of downloads; None: that of huggingface_hub.

    Raises:
        ValueError: in one sentence, for a repository that does not exist, holds no run, or holds
            files that can run code, and for downloads that fail or are incomplete.
    """
    api = _api(token)
    with _hub_errors(repo, "loaded from"):
        _check_files(repo, api.list_repo_files(repo, revision=revision))
        folder = api.snapshot_download(
            repo, revision=revision, allow_patterns=list(FILES), cache_dir=cache
        )
    return replace(load(folder, method), directory=None)


def _check_files(repo: str, names: Sequence[str]) -> None:
    """Raises ValueError for a repository without a run, or with files that are none of a run."""
    others = sorted(set(names) - {*FILES, *BESIDE})
    if others:
        raise ValueError(
            f"{repo} holds {shown(others[0])}, which no run has and which might be code; nothing"
            " was downloaded. Use a repository that push_to_hub wrote."
        )
    if missing := [name for name in (RUN, MODEL, LOG) if name not in names]:
        raise ValueError(
            f"{repo} is no run: it has no {missing[0]}. Use a repository that push_to_hub wrote."
        )


def _api(token: str | None) -> Any:
    """The client. Raises ValueError if the package is missing."""
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ValueError("The hub needs a package: pip install 'polymodal[hub]'.") from None
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token, library_name="polymodal")


@contextmanager
def _hub_errors(repo: str, action: str) -> Iterator[None]:
    """Inside, an error of the client or the network is raised as ValueError in one sentence."""
    from huggingface_hub import errors

    network = errors.HTTPError  # of the client that huggingface_hub uses
    missing = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError)
    try:
        yield
    except missing:
        raise ValueError(
            f"{repo} cannot be {action} the hub: there is none, or you may not see it; check the"
            " name and the revision, or run hf auth login."
        ) from None
    except (errors.HFValidationError, network, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ValueError(f"{repo} cannot be {action} the hub: {reason}.") from None
