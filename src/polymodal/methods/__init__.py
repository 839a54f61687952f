"""Methods: METHODS maps a name to a function (modalities, **options) -> `polymodal.model.Method`.

Every one of them also has the options of `polymodal.methods.extras`.
"""

from polymodal.methods.baselines import cvae, mfm, vae
from polymodal.methods.builder import Builder
from polymodal.methods.jnf import jnf, jnf_dcca
from polymodal.methods.joint import jmvae, jmvae_two_stage, m2vae, telbo
from polymodal.methods.method import METHODS, method
from polymodal.methods.miwae import miwae
from polymodal.methods.mixtures import (
    barycentre,
    code_vae,
    hoelder,
    mmjsd,
    mmvae,
    mmvm,
    mopoe,
    pooled,
)
from polymodal.methods.private import dmvae, mmvae_plus, partitioned, vcca
from polymodal.methods.products import crmvae, mvae, mvtcae
from polymodal.methods.score import jnf_score, sbm
from polymodal.methods.settings import (
    DiffusionSettings,
    EmbeddingSettings,
    FlowSettings,
    PriorSettings,
    SamplerSettings,
)
from polymodal.methods.tied import coordinated, meme

__all__ = [
    "METHODS",
    "Builder",
    "DiffusionSettings",
    "EmbeddingSettings",
    "FlowSettings",
    "PriorSettings",
    "SamplerSettings",
    "barycentre",
    "code_vae",
    "coordinated",
    "crmvae",
    "cvae",
    "dmvae",
    "hoelder",
    "jmvae",
    "jmvae_two_stage",
    "jnf",
    "jnf_dcca",
    "jnf_score",
    "m2vae",
    "meme",
    "method",
    "mfm",
    "miwae",
    "mmjsd",
    "mmvae",
    "mmvae_plus",
    "mmvm",
    "mopoe",
    "mvae",
    "mvtcae",
    "partitioned",
    "pooled",
    "sbm",
    "telbo",
    "vae",
    "vcca",
]
