"""polymodal: learn from paired data of several modalities, generate any of them from any subset of
the others.

The names in the order a reader meets them; each is imported when it is first asked for, so that
`import polymodal` is instant:

    data = polymodal.load_data("shapes")                     # Splits: .train .val .test .modalities
    run = polymodal.fit("jnf", data, latent=2)               # Run: .model .settings .metrics
    x = run.model.generate(data.test.batch(rows).only(["square"]), n=8)["circle"]
    table = polymodal.evaluate(run, data)
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("polymodal")

_HOMES = {
    "Modality": "batch",
    "Batch": "batch",
    "load_data": "data",
    "DATASETS": "data",
    "Dataset": "data",
    "Splits": "data",
    "METHODS": "methods",
    "MultimodalVAE": "model",
    "Stage": "model",
    "Method": "model",
    "fit": "training.fit",
    "load": "runs.run",
    "Run": "runs.run",
    "evaluate": "metrics.evaluate",
    "METRICS": "metrics",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(
            f"module 'polymodal' has no attribute {name!r}; it offers {sorted(_HOMES)}."
        )
    return getattr(import_module(f"polymodal.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
