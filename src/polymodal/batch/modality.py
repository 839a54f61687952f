"""`Modality` describes one modality, `Column` one column of a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from polymodal.checks import Count, check_names, shown, typed, typed_arguments

MAX_SIZE = 10**8  # numbers in one value
MAX_NAME = 200  # bytes of a name that stands for a file, see `escaped`
SEPARATORS = "+,="  # they join names in subsets, lists and arguments
END, UNKNOWN = "<end>", "<unk>"  # the first words of a vocabulary
# Fields that settings cannot change.
OF_THE_DATA = (
    "name",
    "shape",
    "vocabulary",
    "columns",
    "location",
    "spread",
    "holes",
    "covariate",
)
AVERAGE = "average"  # in place of a category of a covariate
Scale = Annotated[float, Ge(1e-6), Le(1e6)]
ColumnType = Literal["real", "positive", "bounded", "count", "boolean", "category", "ordinal"]
CODED = ("boolean", "category", "ordinal")  # types whose values are places in `categories`
LOGARITHMIC = ("positive", "count")  # types that are modelled by their logarithms


def escaped(name: str) -> str:
    """A name as one part of a path: letters, digits, _ - and + as they are, the bytes of all else
    as %XX. No two names become one.

    >>> escaped("m0"), escaped("../a b")
    ('m0', '%2E%2E%2Fa%20b')
    """
    return "".join(
        c if c.isalnum() or c in "_-+" else "".join(f"%{byte:02X}" for byte in c.encode())
        for c in name
    )


@dataclass(frozen=True)
class Column:
    """One column of a table, and how its cells are modelled and written.

    Args:
        name: as the table has it.
        type: real, positive (modelled by its logarithm), bounded (between `low` and `high`), count
            (0, 1, ...), boolean, category, ordinal.
        categories: of boolean, category and ordinal columns, the words that the values 0, 1, ...
            stand for, in order.
        low, high: of bounded columns.
        dtype: the type of the cells in the user's table, as pandas names it; "": not known.
        largest: of positive and count columns, the largest value of training; None: not known.

    Raises ValueError for a type and fields that do not fit.
    """

    name: str
    type: ColumnType = "real"
    categories: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    dtype: str = ""
    largest: float | None = None

    def __post_init__(self) -> None:
        for name, value in typed_arguments(Column, vars(self), f"column {self.name!r}").items():
            object.__setattr__(self, name, value)
        least = {"boolean": 2, "category": 1, "ordinal": 1}.get(self.type, 0)
        if bool(self.categories) != (self.type in CODED) or len(self.categories) < least:
            raise ValueError(
                f"Column {self.name!r} of type {self.type} needs"
                f" {f'{least} or more' if least else 'no'} categories, got {self.categories}."
            )
        if len(set(self.categories)) < len(self.categories):
            raise ValueError(f"Column {self.name!r} has a category twice: {self.categories}.")
        if self.type == "bounded" and not self.low < self.high:
            raise ValueError(
                f"Column {self.name!r} needs low < high, got {self.low:g} and {self.high:g}."
            )


@dataclass(frozen=True)
class Covariate:
    """What is known of each sample beside a modality, such as the batch in which a cell was
    measured, and is no part of what the latent has to say.

    Args:
        column: its name in the user's table.
        categories: the words that the places 0, 1, ... stand for.
        shares: of the training samples, by which categories are averaged where that of a sample is
            not known.

    Raises ValueError for fewer than two categories, one that comes twice, and other shares.
    """

    column: str
    categories: tuple[str, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, value in typed_arguments(Covariate, vars(self), self.column).items():
            object.__setattr__(self, name, value)
        count = len(set(self.categories))
        if not 2 <= count == len(self.categories) == len(self.shares) or not sum(self.shares) > 0:
            raise ValueError(
                f"The covariate {self.column!r} needs two or more different categories, each with"
                f" its share of the samples, got {shown(list(self.categories))}."
            )

    def places(self, words: Sequence[str | None]) -> list[int]:
        """The places of words among the categories; -1 of others, of None and of `AVERAGE`."""
        place = {word: k for k, word in enumerate(self.categories)}
        return [-1 if word is None else place.get(word, -1) for word in words]


@dataclass(frozen=True)
class Modality:
    """One modality: its name, its shape, and how its values are modelled.

    Args:
        name: any printable words of at most 200 bytes, without + , = and without a space at an end.
        shape: of one value, without the batch: `(3, 32, 32)` for an image, `(40,)` for a vector.
        likelihood: p(x|z), a key of `polymodal.distributions.likelihoods.LIKELIHOODS`.
        weight: factor on log p(x|z) in *training* objectives; evaluation ignores it.
        scale: fixed standard deviation (normal) or scale (laplace) of the likelihood, in units of
            `spread`; None: learned, one for each entry of a vector, one for all values of an image.
        link: maps the decoder's output to the likelihood's mean: "identity", or "sigmoid" for
            values in [0, 1].
        kind: the kind of data, a key of `polymodal.data.kinds.KINDS`; None: by shape.
        names: of the entries of a vector, such as attributes; None: they have none.
        vocabulary: of text, the words (or characters) that the ids 0, 1, ... stand for; the first
            two are <end>, which ends a text and fills what follows, and <unk>, an unknown word.
        columns: of a table, one for each entry of its shape (d,).
        location, spread: networks read and give (x - location) / spread: one number for each entry
            of a vector or table, or one for all values; (): x itself. They are means and standard
            deviations over the training data, of positive columns of logarithms. Values outside
            networks stay in the user's units.
        holes: whether single entries are missing in the training data; networks then also read
            which.
        covariate: of counts, what the networks are told of each sample; None: nothing.

    Raises:
        ValueError: for another name, a shape that is empty or has more than 10^8 numbers, a weight
            or scale outside 1e-6 to 1e6, names that do not fit, a vocabulary without <end> and
            <unk> or with a word twice, or a value of another type.
    """

    name: str
    shape: tuple[Count, ...]
    likelihood: str = "normal"
    weight: Scale = 1.0
    scale: Scale | None = 1.0
    link: str = "identity"
    kind: str | None = None
    names: tuple[str, ...] | None = None
    vocabulary: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    location: tuple[float, ...] = ()
    spread: tuple[Annotated[float, Gt(0)], ...] = ()
    holes: bool = False
    covariate: Covariate | None = None

    def __post_init__(self) -> None:
        typed(str, self.name, "A modality's name")
        columns = tuple(Column(**c) if isinstance(c, Mapping) else c for c in self.columns)
        object.__setattr__(self, "columns", columns)
        if isinstance(self.covariate, Mapping):
            object.__setattr__(self, "covariate", Covariate(**self.covariate))
        values = typed_arguments(Modality, vars(self), f"modalities.{self.name[:80]}")
        for name, value in values.items():
            object.__setattr__(self, name, value)
        _check_name(self.name)
        if not self.shape or math.prod(self.shape) > MAX_SIZE:
            raise ValueError(
                f"Modality {self.name!r} needs a shape of one or more sizes such as (40,), with at"
                f" most {MAX_SIZE:,} numbers, got {self.shape}."
            )
        if self.names is not None:
            _check_names_of_entries(self)
        if self.vocabulary:
            _check_vocabulary(self)
        if self.columns or self.location or self.spread:
            _check_entries(self)
        if self.covariate is not None and (len(self.shape) != 1 or self.columns or self.vocabulary):
            raise ValueError(
                f"Modality {self.name!r} has the covariate {self.covariate.column!r}; only counts"
                " and vectors of numbers can have one."
            )


def checked_fields(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """{name: {field: value}}, typed: values for fields of modalities that are not `OF_THE_DATA`.

    Raises ValueError for an unknown field, with the nearest, or a value of another type.
    """
    names = [f.name for f in fields(Modality) if f.name not in OF_THE_DATA]
    checked = {}
    for m, change in changes.items():
        check_names(change, names, f"modalities.{m}")
        checked[m] = typed_arguments(Modality, change, f"modalities.{m}")
    return checked


def _check_name(name: str) -> None:
    """Raises ValueError for a name that cannot be told from others in a table or an argument."""
    is_plain = name.isprintable() and name == name.strip() and not set(name) & set(SEPARATORS)
    if not (name and is_plain and len(escaped(name).encode()) <= MAX_NAME):
        raise ValueError(
            "A modality's name must be printable characters without"
            f" {' '.join(SEPARATORS)}, without a space at its ends and of at most {MAX_NAME} bytes,"
            f" got {name[:80]!r}."
        )


def _check_names_of_entries(m: Modality) -> None:
    """Raises ValueError for names that do not tell the entries of a vector apart."""
    names = m.names or ()
    wrong = [n for n in names if not n.isprintable() or n != n.strip() or set(n) & set(",:")]
    counts = Counter(names)
    wrong += [n for n in names if n[:1] in ("", "-") or counts[n] > 1]
    if len(m.shape) != 1 or len(names) != m.shape[0] or wrong:
        among = f", among them {shown(wrong[0])}" if wrong else ""
        raise ValueError(
            f"The names of modality {m.name!r} must be {math.prod(m.shape)} different words, one"
            " for each entry of a vector, printable, without , and : and without - in front; got"
            f" {len(names)} for shape {m.shape}{among}."
        )


def _check_vocabulary(modality: Modality) -> None:
    """Raises ValueError unless a vocabulary has the two first words and each word once."""
    words = modality.vocabulary
    if words[:2] != (END, UNKNOWN) or len(set(words)) < len(words) or len(words) < 3:
        raise ValueError(
            f"The vocabulary of {modality.name!r} must be {END!r}, {UNKNOWN!r} and at least one"
            f" other word, each of them once, got {len(words)} words that begin with"
            f" {list(words[:3])}."
        )


def _check_entries(m: Modality) -> None:
    """Raises ValueError for columns, locations or spreads that do not fit the entries."""
    names = [column.name for column in m.columns]
    if names and (m.shape != (len(names),) or len(set(names)) < len(names)):
        raise ValueError(
            f"The table {m.name!r} of shape {m.shape} needs one column of another name for each"
            f" entry, got {len(names)}, {len(set(names))} of them with different names."
        )
    fitting = {0, 1, math.prod(m.shape)}
    if len(m.location) != len(m.spread) or len(m.location) not in fitting:
        raise ValueError(
            f"{m.name!r} needs as many locations as spreads, one or {math.prod(m.shape)}, got"
            f" {len(m.location)} and {len(m.spread)}."
        )
