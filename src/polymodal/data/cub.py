"""CUB: photographs of birds with ten captions each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from polymodal.batch import Modality
from polymodal.checks import Count, FilePath, Seed
from polymodal.data.dataset import Dataset
from polymodal.data.readers.cub import SIZE, Birds, official_birds, packed_birds
from polymodal.data.readers.files import data_folder
from polymodal.data.splits import Splits
from polymodal.data.words import ids_of, vocabulary_of

LENGTH, AT_LEAST = 32, 4  # words of a caption with its end; occurrences of a word (Shi et al. 2019)
HELD_OUT = 10  # one of so many training images is for validation


def cub(
    *,
    path: FilePath | None = None,
    attributes: bool = False,
    crop: bool = True,
    captions: Count = 10,
    seed: Seed = 0,
) -> Splits:
    """Caltech-UCSD Birds 200-2011: photographs of birds (Wah et al. 2011) and their captions (Reed
    et al. 2016).

    The modalities are `image` (3, 64, 64) and `caption`, at most 31 words and the end, of the words
    that occur at least 4 times in the captions of the training images (Shi et al. 2019); with
    `attributes` also `attributes` (312,), the shares of a class's images that show each, which are
    the same for all birds of a class. The label is the class. A sample is an image with one of its
    captions; images are stored once, and the first samples of a part are different images.

    The folder (or its subfolder cub) holds either the official `CUB_200_2011` beside `text_c10`,
    the folder of captions with a .txt file for each image; or the packed `cub31_images64.npz` and
    `captions.jsonl.gz` (1,781 images of 31 classes, in a subfolder cub-captions). Training and test
    images are the official ones; one tenth of the training images is for validation. The
    likelihoods are a normal of scale 1 around a sigmoid, tokens, and bernoulli.

    The images are for research that is not commercial, and belong to their photographers; the
    captions have no explicit licence.

    Args:
        path: the folder.
        attributes: whether there is the third modality.
        crop: whether photographs are cut to the bounding box of the bird (the packed ones are).
        captions: of each image that are used, the first ones.
        seed: of the images for validation and of their order.

    Raises ValueError for files that are absent or damaged.
    """
    folder = data_folder(path)
    birds = official_birds(folder, crop) or packed_birds(folder)
    if birds is None:
        raise ValueError(
            f"CUB is not in {folder}; put CUB_200_2011 (data.caltech.edu/records/20098) and the"
            " folder text_c10 (the captions, github.com/reedscot/cvpr2016) there."
        )
    if not attributes:
        birds = replace(birds, attributes=None)
    elif birds.attributes is None:
        raise ValueError(f"CUB's class attributes are not in {folder}; leave attributes out.")
    parts = _parts(birds.is_train, np.random.default_rng(seed))
    texts = [text for i in parts[0] for text in birds.captions[i][:captions]]
    words = vocabulary_of(texts, AT_LEAST)
    caption = Modality("caption", (LENGTH,), "tokens", kind="text", vocabulary=words)
    train, val, test = (_dataset(birds, rows, caption, captions) for rows in parts)
    return Splits(train, val, test, "cub")


def _parts(is_train: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The rows of the images for training, validation and test, in random order."""
    train, test = (rng.permutation(np.flatnonzero(rows)) for rows in (is_train, ~is_train))
    held_out = max(1, len(train) // HELD_OUT)
    return [train[held_out:], train[:held_out], test]


def _dataset(birds: Birds, rows: np.ndarray, caption: Modality, captions: int) -> Dataset:
    """The samples of some images: the first caption of each, then the second of each, ..."""
    modalities = [Modality("image", (3, SIZE, SIZE), link="sigmoid"), caption]
    pairs = [
        (place, birds.captions[row][k])
        for k in range(captions)
        for place, row in enumerate(rows)
        if k < len(birds.captions[row])
    ]
    image = torch.tensor([place for place, _ in pairs])
    tables = {
        "image": torch.from_numpy(birds.images[rows]).permute(0, 3, 1, 2),
        "caption": ids_of([text for _, text in pairs], caption),
    }
    index = {"image": image}
    if birds.attributes is not None:
        modalities.append(Modality("attributes", birds.attributes.shape[1:], "bernoulli"))
        species, place = np.unique(birds.species[rows], return_inverse=True)
        tables["attributes"] = torch.from_numpy(birds.attributes[species])
        index["attributes"] = torch.from_numpy(place)[image]
    label: Any = [birds.classes[rows[place]] for place, _ in pairs]
    return Dataset(modalities, tables, index, label=label)
