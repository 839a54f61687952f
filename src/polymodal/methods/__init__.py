"""Methods as values: METHODS maps a name to a function (modalities, **options) ->
`polymodal.model.Method`.

Every one of them has the options of `polymodal.methods.extras.extended` besides its own.
"""

from collections.abc import Callable

from polymodal.methods.baselines import cvae, mfm, vae
from polymodal.methods.extras import extended
from polymodal.methods.jnf import jnf, jnf_dcca
from polymodal.methods.joint import jmvae, jmvae_two_stage, m2vae, telbo
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
from polymodal.methods.tied import coordinated, meme
from polymodal.model import Method

METHODS: dict[str, Callable[..., Method]] = {
    "jmvae": extended(jmvae),
    "jmvae_two_stage": extended(jmvae_two_stage),
    "telbo": extended(telbo),
    "m2vae": extended(m2vae),
    "jnf": extended(jnf),
    "jnf_dcca": extended(jnf_dcca),
    "mvae": extended(mvae),
    "mvtcae": extended(mvtcae),
    "crmvae": extended(crmvae),
    "mmvae": extended(mmvae),
    "mopoe": extended(mopoe),
    "mmjsd": extended(mmjsd),
    "mmvm": extended(mmvm),
    "code_vae": extended(code_vae),
    "hoelder": extended(hoelder),
    "barycentre": extended(barycentre),
    "pooled": extended(pooled),
    "mmvae_plus": extended(mmvae_plus),
    "dmvae": extended(dmvae),
    "partitioned": extended(partitioned),
    "vcca": extended(vcca),
    "meme": extended(meme),
    "coordinated": extended(coordinated),
    "mfm": extended(mfm),
    "sbm": extended(sbm),
    "jnf_score": extended(jnf_score),
    "vae": extended(vae),
    "cvae": extended(cvae),
}
