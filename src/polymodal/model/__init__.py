"""`MultimodalVAE`, and the contracts of its training: `Method`, `Stage`, `Step`, `Loss`."""

from polymodal.model.autoencoder import Draws, Given, MultimodalVAE, decoded_size
from polymodal.model.method import Loss, Method, Stage, Step

__all__ = ["Draws", "Given", "Loss", "Method", "MultimodalVAE", "Stage", "Step", "decoded_size"]
