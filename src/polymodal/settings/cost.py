"""What training with pictures takes: operations of networks, and the time of an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from polymodal.batch import Modality
from polymodal.data.kinds import kind_of
from polymodal.distributions.likelihoods import likelihood_of
from polymodal.networks import network_of

SPEED = 50e9  # operations a second of two CPU cores, of convolutions and linear layers
PASSES = 3  # operations of a step, forward and backward, over those of forward
FEATURES = 64  # numbers that an encoder gives, and a decoder reads


def epoch_seconds(
    modalities: Sequence[Modality], networks: Mapping[str, str], samples: int, encoded: int = 1
) -> float:
    """The time of an epoch on two CPU cores, by an estimate from the networks' operations.

    Args:
        networks: their names by modality; the others' are those of their kinds.
        samples: of the epoch.
        encoded: how often each sample is encoded; it is decoded once.
    """
    total = 0.0
    for m in modalities:
        encoder, decoder = operations(m, networks.get(m.name) or kind_of(m).network(m))
        total += encoded * encoder + decoder
    return PASSES * samples * total / SPEED


@torch.no_grad()
def operations(modality: Modality, network: str) -> tuple[int, int]:
    """Floating-point operations of a network's encoder and decoder for one value.

    >>> operations(Modality("x", (10,)), "linear")  # 10 x 64 multiplications and additions
    (1280, 1280)
    """
    from torch.utils.flop_counter import FlopCounterMode

    pair, output = network_of(modality, network), likelihood_of(modality).output_shape(modality)
    counts = []
    with torch.random.fork_rng(devices=[]):
        encoder = pair.encoder(modality.shape, FEATURES)
        decoder = pair.decoder(FEATURES, output)
    x, z = torch.zeros(1, *modality.shape), torch.zeros(1, FEATURES)
    for net, value in ((encoder, x), (decoder, z)):
        with FlopCounterMode(display=False) as counter:
            net(value)
        counts.append(counter.get_total_flops())
    return counts[0], counts[1]
