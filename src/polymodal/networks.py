"""Networks by name, and what turns them into experts, joint encoders and decoders.

A network pair is an encoder (x of shape (B, *shape) -> (B, out)) and a decoder (z (B, D) -> (B, *out_shape)). Neither
ends in an activation: the head or the likelihood's link maps the last layer's output. Convolutions run channels-last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch, Modality
from polymodal.distributions import DiagLaplace, DiagNormal, Point
from polymodal.likelihoods import likelihood_of

HEAP = 2**25 - 2**14  # bytes, just below 32 MB


def keep_heap() -> None:
    """Has glibc keep freed memory, up to 64 MB, instead of mapping it afresh for every layer: 5 to 20 % of the time.

    Freeing a block just below 32 MB raises its thresholds to that (mallopt(3), M_MMAP_THRESHOLD); elsewhere it is
    nothing.
    """
    torch.empty(HEAP, dtype=torch.uint8)


def relu() -> nn.Module:
    """In place, for behind a layer that makes a tensor of its own: one pass over new memory less."""
    return nn.ReLU(inplace=True)


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of the given sizes with ReLU between them, none at the end; a hidden size of 0 is no layer."""
    layers: list[nn.Module] = []
    first, *hidden, last = sizes
    for a, b in pairwise([first, *filter(None, hidden), last]):
        layers += [nn.Linear(a, b), relu()]
    return nn.Sequential(*layers[:-1])


class Reshape(nn.Module):
    """(B, prod(shape)) -> (B, *shape)."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.shape)


class ChannelsLast(nn.Module):
    """A convolutional network whose weights and activations lie channels-last in memory: faster, the same numbers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.contiguous(memory_format=torch.channels_last))


class ToGrid(nn.Module):
    """(B, C*H*W) -> (B, C, H, W) channels-last without a copy, as a transposed convolution of a 1x1 map gives it."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.size, self.size, self.channels).permute(0, 3, 1, 2)


class FromGrid(nn.Module):
    """(B, C, H, W) channels-last -> (B, H*W*C) without a copy."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class UpToImage(nn.Module):
    """`nn.ConvTranspose2d(channels, out, 4, 2, 1)`, computed as a 2x2 convolution to 4 * out channels, one for each
    pixel of a 2x2 block: the same numbers and gradients, three times as fast for the few channels of an image.

    The blocks hold the pixels 2i - 1 and 2i, which see the inputs i - 1 and i alone.

    >>> up, x = UpToImage(8, 3), torch.randn(2, 8, 5, 5)
    >>> torch.allclose(up(x), up.conv(x), atol=1e-5)
    True
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, out, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv.out_channels
        taps = self.conv.weight.unflatten(3, (2, 2)).unflatten(2, (2, 2)).flip(2, 4)  # in, out, (place, pixel) twice
        weight = taps.permute(3, 5, 1, 0, 2, 4).reshape(4 * out, -1, 2, 2)
        bias = None if self.conv.bias is None else self.conv.bias.repeat(4)
        with torch.autocast(x.device.type, enabled=False):  # the image itself in full precision, for nothing
            x, weight = x.to(weight.dtype), weight.contiguous(memory_format=torch.channels_last)
            y = nn.functional.conv2d(x, weight, bias, padding=1)
        size, _, height, width = y.shape
        y = y.permute(0, 2, 3, 1).unflatten(-1, (2, 2 * out)).transpose(2, 3)
        return y.reshape(size, 2 * height, 2 * width, out)[:, 1:-1, 1:-1].permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """x + conv3(ReLU(conv3(ReLU(x)))), channels kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = lambda: nn.Conv2d(channels, channels, 3, padding=1)
        self.body = nn.Sequential(nn.ReLU(), conv(), nn.ReLU(), conv())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@dataclass(frozen=True)
class Network:
    """A pair of builders: `encoder(shape, out)`, `decoder(dim, shape)`; `fits(shape)` says which shapes it can read."""

    encoder: Callable[[tuple[int, ...], int], nn.Module]
    decoder: Callable[[int, tuple[int, ...]], nn.Module]
    fits: Callable[[tuple[int, ...]], bool] = lambda shape: True


def _mlp_network(*hidden: int) -> Network:
    return Network(
        lambda shape, out: nn.Sequential(nn.Flatten(), *mlp([math.prod(shape), *hidden, out])),
        lambda dim, shape: nn.Sequential(*mlp([dim, *reversed(hidden), math.prod(shape)]), Reshape(shape)),
    )


def _svhn_encoder(shape: tuple[int, ...], out: int) -> nn.Module:
    conv = lambda a, b: [nn.Conv2d(a, b, 4, 2, 1), relu()]
    last = [FromGrid(), nn.Linear(2048, out)]  # the paper's conv(out @ 4x4) on a 4x4 map
    return ChannelsLast(*conv(shape[0], 32), *conv(32, 64), *conv(64, 128), *last)


def _svhn_decoder(dim: int, shape: tuple[int, ...]) -> nn.Module:
    up = lambda a, b: nn.ConvTranspose2d(a, b, 4, 2, 1)
    first = [nn.Linear(dim, 2048), ToGrid(128, 4)]  # the paper's dconv(128, 1, 0) on a 1x1 map
    layers = [*first, nn.ReLU(), up(128, 64), relu(), up(64, 32), relu(), UpToImage(32, shape[0])]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _celeba_encoder(shape: tuple[int, ...], out: int) -> nn.Module:
    conv = lambda a, b, k: [nn.Conv2d(a, b, k, 2, 1), relu()]
    trunk = [*conv(shape[0], 64, 4), *conv(64, 128, 4), *conv(128, 128, 3), *conv(128, 128, 3)]
    return ChannelsLast(*trunk, ResBlock(128), ResBlock(128), FromGrid(), nn.Linear(2048, out))


def _celeba_decoder(dim: int, shape: tuple[int, ...]) -> nn.Module:
    """Table 5, with ReLU where the table writes SIGMOID between transposed convolutions; the link ends it."""
    first = [nn.Linear(dim, 2048), ToGrid(128, 4)]
    up = [
        nn.ConvTranspose2d(128, 128, 3, 2, 1, output_padding=1), ResBlock(128), ResBlock(128), nn.ReLU(),
        nn.ConvTranspose2d(128, 128, 5, 2, 2, output_padding=1), nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 5, 2, 2, output_padding=1), nn.ReLU(),
        UpToImage(64, shape[0]),
    ]  # fmt: skip
    return nn.Sequential(*first, *up).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _he(net: nn.Module) -> nn.Module:
    """Weights of variance 2 / n for n inputs of an output, no biases (He et al. 2015): with SiLU signals lose 15
    to 40 % of their size from layer to layer. torch's own start lets them shrink three- to fivefold, and a decoder then
    gives a mean image for hundreds of steps."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            inputs = float(layer.weight[0].numel())
            if isinstance(layer, nn.ConvTranspose2d):
                inputs = layer.weight[:, 0].numel() / math.prod(layer.stride)
            nn.init.normal_(layer.weight, std=math.sqrt(2 / inputs))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net


def _digit_network(width: int, act: Callable[[], nn.Module] = relu, kernel: int = 3) -> Network:
    """Three strided convolutions of `width`, twice and four times as many channels, for 28x28 images. With another
    activation than ReLU the weights start as `_he` has them."""
    a, b, c = width, 2 * width, 4 * width
    start = (lambda net: net) if act is relu else _he

    def encoder(shape: tuple[int, ...], out: int) -> nn.Module:
        conv = lambda i, o, size: [nn.Conv2d(i, o, size, 2, 1), act()]
        layers = [*conv(shape[0], a, kernel), *conv(a, b, kernel), *conv(b, c, 3)]
        return start(ChannelsLast(*layers, FromGrid(), nn.Linear(16 * c, out)))

    def decoder(dim: int, shape: tuple[int, ...]) -> nn.Module:
        first = [nn.Linear(dim, 16 * c), ToGrid(c, 4), nn.ReLU() if act is relu else act()]
        up = [nn.ConvTranspose2d(c, b, 3, 2, 1), act(), nn.ConvTranspose2d(b, a, 4, 2, 1), act()]
        layers = start(nn.Sequential(*first, *up, UpToImage(a, shape[0])))
        return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    return Network(encoder, decoder, _image(28))


def _image(size: int) -> Callable[[tuple[int, ...]], bool]:
    return lambda shape: len(shape) == 3 and shape[1:] == (size, size)


NETWORKS: dict[str, Network] = {
    "mlp": _mlp_network(512),  # Table 4, E_1 and D_1; Table 5, E_2 and D_2
    "mlp-2x512": _mlp_network(512, 512),  # two hidden layers of 512
    "mlp-small": _mlp_network(64, 64),  # two hidden layers of 64: quick trials and small data
    "svhn-conv": Network(_svhn_encoder, _svhn_decoder, _image(32)),  # Table 4, E_2 and D_2
    "linear": _mlp_network(),  # for data that are linear and normal
    "digit-conv": _digit_network(32),  # three strided convolutions of 32, 64, 128 channels, as MoPoE's for PolyMNIST
    "digit-conv-small": _digit_network(16),  # the same with half the channels
    "digit-silu": _digit_network(16, lambda: nn.SiLU(inplace=True), kernel=4),  # with SiLU: bears three times the rate
    "celeba-conv": Network(_celeba_encoder, _celeba_decoder, _image(64)),  # Table 5, E_1 and D_1
}


def network_of(modality: Modality, name: str | None = None) -> Network:
    """The network `name`, or by shape: digit-conv for 28x28 colour images, svhn-conv for 32x32, celeba-conv for 64x64,
    else mlp.

    Raises ValueError for an unknown name or a network that cannot read the modality's shape.
    """
    if name is None:
        by_size = {28: "digit-conv", 32: "svhn-conv", 64: "celeba-conv"}
        by_shape: dict[tuple[int, ...], str] = {(3, n, n): network for n, network in by_size.items()}
        name = by_shape.get(modality.shape, "mlp")
    if name not in NETWORKS:
        raise ValueError(f"There is no network {name!r} (for modality {modality.name!r}); there are {list(NETWORKS)}.")
    if not NETWORKS[name].fits(modality.shape):
        raise ValueError(f"The network {name!r} cannot read modality {modality.name!r} of shape {modality.shape}.")
    return NETWORKS[name]


WIDEST = 20.0  # largest logarithm of a variance


def normal_head(h: Tensor) -> DiagNormal:
    """The features' two halves as location and log-variance, the latter within +-WIDEST.

    In a product an expert that has nothing to say grows without bound, until its variance is infinite and its gradient
    no number. The gradient passes the bound, so that what a large step threw beyond it can come back.
    """
    loc, log_variance = h.chunk(2, -1)
    bounded = log_variance + (log_variance.clamp(-WIDEST, WIDEST) - log_variance).detach()
    return DiagNormal(loc, (0.5 * bounded).exp())


class NormalHead(nn.Module):
    """`normal_head` as a module: the head of Gaussian experts."""

    def forward(self, h: Tensor) -> DiagNormal:
        return normal_head(h)


class LaplaceHead(nn.Module):
    """Laplace with the scales of MMVAE: D softmax(raw) + 1e-6, whose mean is 1 (Shi et al. 2019)."""

    def forward(self, h: Tensor) -> DiagLaplace:
        loc, raw = h.chunk(2, -1)
        return DiagLaplace(loc, raw.softmax(-1) * raw.shape[-1] + 1e-6)


class PointHead(nn.Module):
    """No randomness: the features' first half."""

    def forward(self, h: Tensor) -> Point:
        return Point(h.chunk(2, -1)[0])


HEADS: dict[str, Callable[[], nn.Module]] = {"normal": NormalHead, "laplace": LaplaceHead, "point": PointHead}


class Expert(nn.Module):
    """q(z | x): `head(net(x))`, where a head maps features to a distribution. `embed`, if any, reads x before `net`."""

    def __init__(self, net: nn.Module, head: nn.Module, embed: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.head, self.embed = net, head, embed

    def given(self, features: Tensor) -> Distribution:
        """q(z | g(x)) for an embedding g(x) that is there already (x itself where there is no `embed`)."""
        return self.head(self.net(features))

    def forward(self, x: Tensor) -> Distribution:
        return self.given(x if self.embed is None else self.embed(x))


class JointEncoder(nn.Module):
    """q(z | x_1, ..., x_M): one encoder per modality, concatenated, one hidden layer (MLP_j of Table 4), a normal head.

    A missing modality's features are replaced by a learned stand-in, and a flag says which are there, so that the same
    encoder reads any pattern of missing modalities.

    Args:
        encoders: encoders[m](x_m) -> (B, features).
        features: size of each encoder's output.
        hidden: width of the hidden layer; 0: none, the features are added up linearly.
        dim: D.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], features: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.absent = nn.ParameterDict({m: nn.Parameter(torch.zeros(features)) for m in encoders})
        self.mix = mlp([len(encoders) * (features + 1), hidden, 2 * dim])

    def forward(self, batch: Batch) -> DiagNormal:
        size = len(batch)
        parts = []
        for m, encoder in self.encoders.items():
            absent = self.absent[m].expand(size, -1)
            flag = absent.new_ones(size, 1)
            if m not in batch.x:
                parts += [absent, 0 * flag]
            elif m not in batch.present:
                parts += [encoder(batch.x[m]), flag]
            else:
                here = batch.present[m].unsqueeze(-1)
                parts += [torch.where(here, encoder(batch.x[m]), absent), flag * here]
        return normal_head(self.mix(torch.cat(parts, dim=-1)))


class Decoder(nn.Module):
    """p(x_m | z): a network, then the modality's likelihood. z (..., B, D) -> distribution of batch_shape (..., B).

    Args:
        modality: x_m.
        dim: how many columns of z it reads.
        network: its network.
        columns: which; None: all.
    """

    columns: Tensor | None

    def __init__(self, modality: Modality, dim: int, network: Network, columns: Sequence[int] | None = None) -> None:
        super().__init__()
        self.register_buffer("columns", None if columns is None else torch.tensor(columns), persistent=False)
        self.modality, self.likelihood = modality, likelihood_of(modality)
        params = self.likelihood.params
        self.raw = modality.shape if params == 1 else (params, *modality.shape)
        if params > 1 and len(modality.shape) > 1:
            raise ValueError(f"The likelihood {modality.likelihood!r} of {modality.name!r} reads vectors, not images.")
        self.net = network.decoder(dim, self.raw)

    def forward(self, z: Tensor) -> Distribution:
        z = z if self.columns is None else z[..., self.columns]
        raw = self.net(z.reshape(-1, z.shape[-1])).to(z.dtype)  # densities in full precision whatever autocast did
        return self.likelihood.make(raw.reshape(*z.shape[:-1], *self.raw) if z.dim() != 2 else raw, self.modality)
