"""Methods as values: METHODS maps a name to a function (modalities, **options) -> `polymodal.model.Method`."""

from collections.abc import Callable

from polymodal.methods.joint import jmvae, jmvae_two_stage, jnf, jnf_dcca, m2vae, telbo
from polymodal.model import Method

METHODS: dict[str, Callable[..., Method]] = {
    "jmvae": jmvae,
    "jmvae_two_stage": jmvae_two_stage,
    "telbo": telbo,
    "m2vae": m2vae,
    "jnf": jnf,
    "jnf_dcca": jnf_dcca,
}
