"""Keys and values of the rows of a batch: rows join, leave, and grow by a token without copying the others.

They stand in tensors with room for more: a token is written behind the others, the last row takes the place of one that
leaves, one that joins is written below. transformers' own cache makes a new tensor each time: with 64 rows of 1,000
tokens that was 43 % of a step, and as much again whenever a row came or went.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

SPARE_COLUMNS = 64
"""Room for so many more tokens whenever there is none left."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped
    """One layer. `keys` and `values`, each [B, heads, T, head size], are a window of rooms, each [B', heads, T', …]."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Add columns to every row."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._look_at((key_states, value_states), len(key_states), 0, key_states.shape[2])
            return self.keys, self.values
        num_new = key_states.shape[2]
        if self._end + num_new > self._rooms[0].shape[2]:
            self._make_room(len(self._rooms[0]), before=0, behind=num_new + SPARE_COLUMNS)
        start, end = self._end, self._end + num_new
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[: self._num_rows, :, start:end] = states
        self._look_at(self._rooms, self._num_rows, self._first, end)
        return self.keys, self.values

    def join(self, others: Sequence[RoomyLayer]) -> None:
        """Add rows below, their last columns in line."""
        num_rows = self._num_rows + sum(len(other.keys) for other in others)
        width = max(self._end - self._first, *(other.keys.shape[2] for other in others))
        if num_rows > len(self._rooms[0]) or width > self._end:
            num_rows_there = max(num_rows, len(self._rooms[0]))
            self._make_room(num_rows_there, before=width - (self._end - self._first), behind=SPARE_COLUMNS)
        row = self._num_rows
        for other in others:
            place = slice(row, row + len(other.keys)), slice(None), slice(self._end - other.keys.shape[2], self._end)
            self._rooms[0][place], self._rooms[1][place] = other.keys, other.values
            row += len(other.keys)
        self._look_at(self._rooms, num_rows, self._end - width, self._end)

    def leave(self, moved: Sequence[tuple[int, int]], num_rows: int, width: int) -> None:
        """Copy rows, each `(to, from)`, then keep the first `num_rows`, and the last `width` columns."""
        for room in self._rooms:
            for to, source in moved:
                room[to, :, self._first : self._end] = room[source, :, self._first : self._end]
        self._look_at(self._rooms, num_rows, self._end - width, self._end)

    def change(self, keys: Tensor, values: Tensor) -> None:
        """Put others in their place."""
        self._look_at((keys, values), len(keys), 0, keys.shape[2])

    def _make_room(self, num_rows: int, before: int, behind: int) -> None:
        """Move what is in use to larger rooms, with so many columns before and behind it."""
        used = self._end - self._first
        rooms = []
        for states in (self.keys, self.values):
            room = states.new_zeros(num_rows, states.shape[1], before + used + behind, states.shape[3])
            room[: self._num_rows, :, before : before + used] = states
            rooms.append(room)
        self._look_at((rooms[0], rooms[1]), self._num_rows, before, before + used)

    def _look_at(self, rooms: tuple[Tensor, Tensor], num_rows: int, first: int, end: int) -> None:
        self._rooms, self._num_rows, self._first, self._end = rooms, num_rows, first, end
        self.keys, self.values = (room[:num_rows, :, first:end] for room in rooms)


class KeyValues(Cache):  # type: ignore[misc]
    """Layers with room. The tokens of each row end together in the last column."""

    layers: list[RoomyLayer]

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=RoomyLayer)

    @torch.inference_mode()
    def join(self, others: Sequence[KeyValues]) -> None:
        """Add rows below, their last columns in line."""
        for index, layer in enumerate(self.layers):
            layer.join([other.layers[index] for other in others])

    @torch.inference_mode()
    def leave(self, moved: Sequence[tuple[int, int]], num_rows: int, width: int) -> None:
        """Copy rows, each `(to, from)`, then keep the first `num_rows`, and the last `width` columns."""
        for layer in self.layers:
            layer.leave(moved, num_rows, width)

    def repeat(self, rows: Sequence[int]) -> None:
        """Hold these rows, in this order."""
        index_B = torch.tensor(rows, device=self.layers[0].keys.device)
        for layer in self.layers:
            layer.change(layer.keys[index_B], layer.values[index_B])

    def close_gaps(self, num_head: int, missing_B: Tensor) -> None:
        """Move the first `num_head` columns of each row up to its next ones, over the padding between them."""
        columns_T = torch.arange(self.get_seq_length())
        moved_B_T = columns_T - missing_B[:, None]
        from_B_T = torch.where(moved_B_T < num_head, moved_B_T.clamp(min=0), columns_T)
        index_B_1_T_1 = from_B_T.to(self.layers[0].keys.device)[:, None, :, None]
        for layer in self.layers:
            index = index_B_1_T_1.expand_as(layer.keys)
            layer.change(layer.keys.gather(2, index), layer.values.gather(2, index))
