"""The method that is recommended for a data set, and why."""

from __future__ import annotations

from typing import NamedTuple

import torch

from polymodal.data import Splits

HALF = 0.5
MOSTLY_MISSING = 0.25  # share of values that are missing
SEVERAL = 4  # modalities


class Recommendation(NamedTuple):
    """A key of METHODS, and the reason in one clause."""

    method: str
    reason: str


def recommended(splits: Splits) -> Recommendation:
    """The method for a data set, by the numbers of its modalities and of samples that lack some.

    >>> from polymodal.data import load_data
    >>> recommended(load_data("shapes", n=100)).method
    'jnf'
    """
    train = splits.train
    present = torch.stack([train.is_present(m) for m in train.names], 1)
    complete, missing = present.all(1).float().mean().item(), 1 - present.float().mean().item()
    count = len(train.names)
    if count == 1:
        return Recommendation("vae", "one modality, whose entries share one latent")
    if complete < HALF and count == 2:
        reason = f"only {complete:.0%} of the samples have both modalities, and it uses the others"
        return Recommendation("meme", reason)
    if count == 2:
        return Recommendation("jnf", "two modalities, mostly paired; jnf_dcca is worth a try after")
    if missing > MOSTLY_MISSING:
        reason = f"{count} modalities, of which {missing:.0%} of the values are missing"
        return Recommendation("jmvae_two_stage", reason)
    if count <= SEVERAL:
        return Recommendation("jmvae_two_stage", f"{count} modalities: best from several given")
    return Recommendation("mvtcae", f"{count} modalities: one product of experts, quick to train")
