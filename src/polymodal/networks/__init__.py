"""Network architectures by name, and the modules that turn them into experts, joint encoders and
decoders.
"""

from polymodal.networks.architectures import NETWORKS, Network, network_of
from polymodal.networks.heads import HEADS
from polymodal.networks.layers import mlp
from polymodal.networks.modules import Decoder, Expert, JointEncoder

__all__ = [
    "HEADS",
    "NETWORKS",
    "Decoder",
    "Expert",
    "JointEncoder",
    "Network",
    "mlp",
    "network_of",
]
