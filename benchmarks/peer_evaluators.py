"""One task of `evaluators.py` with MultiVae, in the process that this starts; JSON on stdout."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from evaluators_common import (
    GIVEN,
    HIDDEN,
    LATENT,
    MAPS,
    SCALE,
    SHAPES,
    TARGET,
    TASKS,
    K,
    Spec,
    classifiers_of,
    items_of,
    timed,
)
from torch import Tensor

SPEC = Spec.read()
from peer_networks import decoder, encoder, silence  # noqa: E402, I001
import multivae.models as models  # noqa: E402
from multivae.data.datasets import MultimodalBaseDataset  # noqa: E402
from multivae.metrics import (  # noqa: E402
    CoherenceEvaluator,
    CoherenceEvaluatorConfig,
    LikelihoodsEvaluator,
    LikelihoodsEvaluatorConfig,
)
from multivae.models.nn.default_architectures import MultipleHeadJointEncoder  # noqa: E402
from pythae.models.normalizing_flows import MAF, MAFConfig  # noqa: E402

TASK = TASKS[SPEC.task]
L = LATENT[TASK.data]
BATCH, FEW = 64, 8


def model_of() -> Any:
    shapes = SHAPES[TASK.data]
    config = getattr(models, f"{TASK.theirs}Config")(
        n_modalities=len(shapes),
        latent_dim=L,
        input_dims=shapes,
        decoders_dist=dict.fromkeys(shapes, "laplace"),
        decoder_dist_params={m: {"scale": SCALE[TASK.data]} for m in shapes},
    )
    encoders = {m: encoder(s, L) for m, s in shapes.items()}
    decoders = {m: decoder(s, L) for m, s in shapes.items()}
    more: dict[str, Any] = {}
    if TASK.theirs == "JNF":
        more["joint_encoder"] = MultipleHeadJointEncoder(encoders, config, 512, n_hidden_layers=1)
        flow = MAFConfig((L,), MAPS, n_hidden_in_made=1, hidden_size=HIDDEN)
        more["flows"] = {m: MAF(flow) for m in shapes}
    made = getattr(models, TASK.theirs)(config, encoders=encoders, decoders=decoders, **more)
    made.device = "cpu"
    return made


def trained() -> Any:
    """The model after a few steps of its own loss, which are made once and kept."""
    model = model_of()
    if SPEC.weights.exists():
        model.load_state_dict(torch.load(SPEC.weights))
        return model.eval()
    values, _ = items_of(SPEC, "train")
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    count = len(next(iter(values.values())))
    for _ in range(SPEC.steps):
        rows = torch.randint(count, (BATCH,))
        loss = model(MultimodalBaseDataset({m: x[rows] for m, x in values.items()})).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), SPEC.weights)
    torch.save(checked(model.eval()), SPEC.check)
    return model


@torch.no_grad()
def checked(model: Any) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Mean and log-variance of the unimodal posteriors of a few items, and the decoded means."""
    found = {}
    for m, x in items_of(SPEC, "test")[0].items():
        q = model.encoders[m](x[:FEW])
        image = model.decoders[m](q.embedding).reconstruction
        found[m] = q.embedding, q.log_covariance, image
    return found


def joint(model: Any, data: MultimodalBaseDataset) -> float:
    evaluator = LikelihoodsEvaluator(
        model, data, eval_config=LikelihoodsEvaluatorConfig(num_samples=K)
    )
    evaluator.logger.setLevel(logging.ERROR)
    return -float(evaluator.joint_nll())


def conditional(model: Any, data: MultimodalBaseDataset) -> float:
    return -float(model.compute_cond_nll(data, [GIVEN], [TARGET], k_iwae=K)[TARGET])


def coherence(model: Any, data: MultimodalBaseDataset) -> float:
    """The mean over the sizes of subsets."""
    config = CoherenceEvaluatorConfig(num_classes=10)
    evaluator = CoherenceEvaluator(model, classifiers_of(SPEC), data, eval_config=config)
    evaluator.logger.setLevel(logging.ERROR)
    return float(np.mean(evaluator.cross_coherences()[0]))


if __name__ == "__main__":
    MODEL, (VALUES, LABELS) = trained(), items_of(SPEC, "test")
    DATA = MultimodalBaseDataset(VALUES, LABELS)

    def call() -> float:
        with silence():
            return globals()[TASK.quantity](MODEL, DATA)

    timed(SPEC, call)
