"""polymodal: learn from paired data of several modalities, generate any of them from any subset of
the others.

Names and sub-packages are imported when they are first asked for, so that `import polymodal` is
instant:

    data = polymodal.load_data("shapes")                     # Splits: .train .val .test .modalities
    run = polymodal.fit("jnf", data, latent=2)               # Run: .model .settings .metrics
    x = run.model.generate(data.test.batch(rows).only(["square"]), n=8)["circle"]
    table = polymodal.evaluate(run, data)
    run.model.sampler = polymodal.sampling.HMC(chains=8)
"""

from importlib import import_module
from importlib.metadata import version
from pkgutil import iter_modules
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
    "push_to_hub": "runs.hub",
    "from_pretrained": "runs.hub",
    "evaluate": "metrics.evaluate",
    "METRICS": "metrics",
    "evaluate_imputation": "imputation.evaluate",
    "Imputer": "imputation.imputer",
    "pool_estimates": "imputation.pooling",
}

__all__ = [*_HOMES, "__version__"]


def _modules() -> set[str]:
    """The sub-packages and modules."""
    return {module.name for module in iter_modules(__path__) if not module.name.startswith("_")}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"polymodal.{_HOMES[name]}"), name)
    if name in _modules():
        return import_module(f"polymodal.{name}")
    raise AttributeError(
        f"module 'polymodal' has no attribute {name!r}; it offers {', '.join(__dir__())}."
    )


def __dir__() -> list[str]:
    return sorted({*__all__, *_modules()})
