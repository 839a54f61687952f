"""Objects of anndata and mudata, completed: cells and values are added, nothing is changed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
from torch import Tensor

from polymodal.batch import Modality
from polymodal.data.sources.cells import CellsEntry, feature_names, modality_in

IMPUTED, LATENT, ADDED = "imputed", "X_polymodal", "polymodal_added"
NULLABLE = {"i": "Int64", "u": "Int64", "b": "boolean"}  # types of columns with empty cells
Entries = Mapping[str, CellsEntry]
Values = Mapping[str, Tensor]  # {modality: (N, d)}, NaN where nothing was filled


def completed(
    whole: Any,
    keys: Sequence[str],
    entries: Entries,
    modalities: Sequence[Modality],
    values: Values,
    latent: Tensor | None,
) -> Any:
    """A copy of `whole` with what was filled in.

    Each modality that lacks something has the layer `imputed`: what was observed, and `values` in
    holes; features that the model does not know are NaN in cells that lack the modality. Such cells
    are added after the others (NaN in X, `polymodal_added` in obs). A modality that is not there at
    all is added, with the values in X. `.obsm["X_polymodal"]` has the latents.

    Args:
        whole: an object of anndata or mudata.
        keys: the names of the N cells.
        entries: where each modality is found.
        latent: (N, D).
    """
    done = whole.copy()
    for m in modalities:
        if m.name not in values:
            continue
        entry, value = entries.get(m.name), values[m.name].detach().cpu().numpy()
        if entry is None:
            done.mod[m.name] = _new(m, keys, value)
            continue
        held = dict(done.mod) if hasattr(done, "mod") else {"": done}
        part = modality_in(held, entry.modality, m.name, "the data")
        part = _filled(part, entry, m, keys, value)
        if hasattr(done, "mod"):
            done.mod[entry.modality or next(iter(held))] = part
        else:
            done = part
    done = _updated(done, whole)
    if latent is not None:
        order = pd.Index(keys).get_indexer(done.obs_names.astype(str))
        done.obsm[LATENT] = latent.detach().cpu().numpy().astype(np.float32)[order]
    return done


def _updated(done: Any, whole: Any) -> Any:
    """Objects of mudata know of their modalities' cells again, in the order that they had."""
    if not hasattr(done, "mod"):
        return done
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions and of names
        done.update()
    names = [*whole.obs_names, *done.obs_names.difference(whole.obs_names, sort=False)]
    return done if list(done.obs_names) == names else done[names].copy()


def has_place(entry: CellsEntry | None) -> bool:
    """Whether values of a modality are written: not those that are kept in obsm."""
    return entry is None or entry.obsm is None


def _filled(part: Any, entry: CellsEntry, m: Modality, keys: Sequence[str], value: Any) -> Any:
    """One modality with the layer `imputed`."""
    cells = pd.Index(part.obs_names.astype(str))
    filled = ~np.isnan(value).all(1)
    added = [key for k, key in enumerate(keys) if filled[k] and key not in cells]
    part = _extended(part, added) if added else part
    x = part.X if entry.layer is None else part.layers[entry.layer]
    dense = np.array(x.toarray() if scipy.sparse.issparse(x) else x, dtype=np.float32)
    rows = pd.Index(keys).get_indexer(part.obs_names.astype(str))
    columns = places_of(m, part.var_names)
    known = columns >= 0
    found = value[rows][:, known]
    own = dense[:, columns[known]]
    dense[:, columns[known]] = np.where(np.isnan(own), found, own)
    part.layers[IMPUTED] = dense
    return part


def places_of(m: Modality, features: Sequence[str]) -> np.ndarray:
    """The place of each entry of a modality among the features of a file, -1 if it is not there."""
    if m.names is None:
        return np.arange(m.shape[0])
    own, _ = feature_names([str(f) for f in features])
    return pd.Index(own).get_indexer(list(m.names))


def _new(m: Modality, keys: Sequence[str], value: np.ndarray) -> Any:
    """A modality that was not there."""
    import anndata

    names = m.names or [f"{m.name}{k}" for k in range(m.shape[0])]
    obs = pd.DataFrame({ADDED: np.ones(len(keys), bool)}, index=pd.Index(list(keys)))
    x = value.astype(np.float32)
    part = anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=pd.Index(list(names))))
    part.layers[IMPUTED] = x.copy()
    return part


def _extended(part: Any, added: Sequence[str]) -> Any:
    """A modality with further cells, of which nothing is known."""
    import anndata

    n, names = len(added), [*part.obs_names, *added]
    obs = part.obs.copy()
    for column in obs.columns:
        if nullable := NULLABLE.get(getattr(obs[column].dtype, "kind", "")):
            obs[column] = obs[column].astype(nullable)
    obs = obs.reindex(names)
    obs[ADDED] = np.arange(len(names)) >= part.n_obs
    return anndata.AnnData(
        X=None if part.X is None else _with_rows(part.X, n),
        obs=obs,
        var=part.var.copy(),
        layers={k: _with_rows(x, n) for k, x in part.layers.items()},
        obsm={k: _with_rows(x, n, names) for k, x in part.obsm.items()},
        varm=dict(part.varm),
        varp=dict(part.varp),
        obsp={k: scipy.sparse.block_diag([x, _empty(n)], "csr") for k, x in part.obsp.items()},
        uns=dict(part.uns),
    )


def _empty(n: int) -> Any:
    return scipy.sparse.csr_matrix((n, n))


def _with_rows(x: Any, n: int, names: Sequence[str] = ()) -> Any:
    """n more rows of NaN; whole numbers become real ones."""
    if isinstance(x, pd.DataFrame):
        return x.reindex(list(names))
    kind = x.dtype if x.dtype.kind == "f" else np.promote_types(x.dtype, np.float32)
    nothing = np.full((n, *x.shape[1:]), np.nan, dtype=kind)
    if scipy.sparse.issparse(x):
        return scipy.sparse.vstack([x.astype(kind), nothing], format=x.format)
    return np.concatenate([x.astype(kind), nothing])


def bounds_only(
    whole: Any,
    keys: Sequence[str],
    modalities: Sequence[Modality],
    bounds: Mapping[str, tuple[Tensor, Tensor]],
) -> Any:
    """An object of the same kind with the layers `lower` and `upper` of what was filled, NaN
    elsewhere, of the features that the model knows.

    Args:
        bounds: {modality: lower and upper bounds (N, d)}.
    """
    import anndata
    import mudata

    parts = {}
    for m in modalities:
        if m.name not in bounds:
            continue
        names = m.names or [f"{m.name}{k}" for k in range(m.shape[0])]
        layers = {
            name: bound.detach().cpu().numpy().astype(np.float32)
            for name, bound in zip(("lower", "upper"), bounds[m.name], strict=True)
        }
        parts[m.name] = anndata.AnnData(
            obs=pd.DataFrame(index=pd.Index(list(keys))),
            var=pd.DataFrame(index=pd.Index(list(names))),
            layers=layers,
        )
    if not hasattr(whole, "mod"):
        return next(iter(parts.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mudata.MuData(parts)
