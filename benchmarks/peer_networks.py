"""The networks of both benchmarks beside MultiVae 1.0.3, as classes of that library.

Those of MNIST and SVHN are of Table 4 of Senellart et al. (2023), those of PolyMNIST of Sutter et
al. (2021). They compute what `mlp`, `svhn-conv` and `digit-conv` of `polymodal.networks` compute,
with one difference: the first layer of the decoder of SVHN is a transposed convolution, as in the
paper, whose default start is narrower than that of our linear layer, and whose bias is one for each
channel. Needs an environment that has multivae.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def without_vision_operators() -> torch.library.Library:
    """Names two operators of torchvision, whose CUDA build cannot load its own beside a CPU build
    of torch.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [m for m in sys.modules if m.startswith("torchvision")]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


warnings.filterwarnings("ignore")
LIBRARY = without_vision_operators()
from multivae.models.base import BaseDecoder, BaseEncoder, ModelOutput  # noqa: E402
from multivae.models.nn.base_architectures import BaseMultilatentEncoder  # noqa: E402

Shape = tuple[int, ...]


class Encoder(BaseEncoder):
    """A trunk with two heads."""

    def __init__(self, latent: int, trunk: nn.Module, mean: nn.Module, log_variance: nn.Module):
        super().__init__()
        self.latent_dim = latent
        self.trunk, self.mean, self.log_variance = trunk, mean, log_variance

    def forward(self, x: Tensor) -> ModelOutput:
        h = self.trunk(x)
        return ModelOutput(
            embedding=self.mean(h).flatten(1), log_covariance=self.log_variance(h).flatten(1)
        )


class PrivateEncoder(BaseMultilatentEncoder):
    """Two encoders: of the shared latent, and of the private one."""

    def __init__(self, shape: Shape, latent: int, private: int):
        super().__init__()
        self.latent_dim, self.style_dim = latent, private
        self.shared, self.private = encoder(shape, latent), encoder(shape, private)

    def forward(self, x: Tensor) -> ModelOutput:
        u, w = self.shared(x), self.private(x)
        return ModelOutput(
            embedding=u.embedding,
            log_covariance=u.log_covariance,
            style_embedding=w.embedding,
            style_log_covariance=w.log_covariance,
        )


class Decoder(BaseDecoder):
    """z (..., D) -> image (..., *shape); `grid`: the network reads z as a 1x1 map."""

    def __init__(self, latent: int, net: nn.Module, shape: Shape, grid: bool) -> None:
        super().__init__()
        self.latent, self.net, self.shape, self.grid = latent, net, shape, grid

    def forward(self, z: Tensor) -> ModelOutput:
        flat = z.reshape(-1, self.latent)
        x = self.net(flat[:, :, None, None] if self.grid else flat)
        return ModelOutput(reconstruction=x.reshape(*z.shape[:-1], *self.shape))


def encoder(shape: Shape, latent: int) -> Encoder:
    """The encoder for images of a shape: 1x28x28, 3x32x32 or 3x28x28."""
    if shape == (1, 28, 28):
        trunk = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU())
        return Encoder(latent, trunk, nn.Linear(512, latent), nn.Linear(512, latent))
    kernel = 4 if shape == (3, 32, 32) else 3
    layers: list[nn.Module] = []
    for a, b in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(a, b, kernel, 2, 1), nn.ReLU()]
    trunk = nn.Sequential(*layers)
    return Encoder(latent, trunk, nn.Conv2d(128, latent, 4), nn.Conv2d(128, latent, 4))


def decoder(shape: Shape, dim: int) -> Decoder:
    """The decoder for images of a shape, from latents of `dim` numbers."""
    if shape == (1, 28, 28):
        layers = [nn.Linear(dim, 512), nn.ReLU(), nn.Linear(512, 784), nn.Sigmoid()]
        return Decoder(dim, nn.Sequential(*layers), shape, False)
    if shape == (3, 32, 32):
        net: list[nn.Module] = [nn.ConvTranspose2d(dim, 128, 4)]
        kernels = (4, 4, 4)
    else:
        net = [nn.Linear(dim, 2048), nn.Unflatten(1, (128, 4, 4))]
        kernels = (3, 4, 4)
    for (a, b), kernel in zip(((128, 64), (64, 32), (32, 3)), kernels, strict=True):
        net += [nn.ReLU(), nn.ConvTranspose2d(a, b, kernel, 2, 1)]
    return Decoder(dim, nn.Sequential(*net, nn.Sigmoid()), shape, shape == (3, 32, 32))


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Without the lines of the library's loggers and progress bars."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("multivae"):
            logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
