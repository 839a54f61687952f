"""Tables of a user: read with every cell as it is written, and written with only holes filled."""

from polymodal.data.tables.cells import Cells
from polymodal.data.tables.coding import decoded, moments, numbers_of
from polymodal.data.tables.guess import Guess, categories_of, guess
from polymodal.data.tables.reading import TABLES, is_table, read_table
from polymodal.data.tables.user_table import Filled, UserTable

__all__ = [
    "TABLES",
    "Cells",
    "Filled",
    "Guess",
    "UserTable",
    "categories_of",
    "decoded",
    "guess",
    "is_table",
    "moments",
    "numbers_of",
    "read_table",
]
