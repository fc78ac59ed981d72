"""Small pieces of work put together, so that each is worth the way to a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

# For each place that runs one, so that the last to end is short.
PER_SLOT = 4

# Rows: of fewer, the way to a worker (2.5 ms with Dask) and what a chunk costs whatever its size would be a good part.
LEAST = 5_000

# What opening, closing and hashing a file costs, as so many rows.
OF_A_FILE = 500


def packs(items: Sequence[Item], rows: Callable[[Item], int], slots: int) -> list[tuple[Item, ...]]:
    """The items in order, in packs of about as many rows each."""
    sizes = [rows(item) + OF_A_FILE for item in items]
    goal = max(sum(sizes) // (slots * PER_SLOT), LEAST)
    found: list[tuple[Item, ...]] = []
    pack: list[Item] = []
    size = 0
    for item, one in zip(items, sizes, strict=True):
        pack.append(item)
        size += one
        if size >= goal:
            found.append(tuple(pack))
            pack, size = [], 0
    return [*found, tuple(pack)] if pack else found
