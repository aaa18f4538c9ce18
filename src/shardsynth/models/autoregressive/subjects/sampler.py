"""Codes of the rows of a block of subjects: table after table, sibling after sibling, column after column.

A block has ``BLOCK`` subjects and is always made whole, by one thread. So the products have the same shapes every
time, and a subject's rows depend, to the last bit, only on the model, the seed and its number (on one kind of
processor). Each row has words of its own of a counter-based random stream; its number in its table follows from its
block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shardsynth.models.autoregressive.sampler import chosen, nucleus, with_absent
from shardsynth.models.autoregressive.subjects.network import RowNetwork, SubjectsNetwork
from shardsynth.models.autoregressive.subjects.persistence import level_of
from shardsynth.sampling.streams import random_words

#: Subjects that are made together.
BLOCK = 1_024

Integers = NDArray[np.int64]
Codes = NDArray[np.int16]


@dataclass(frozen=True)
class DrawnRows:
    """Rows of a block in one table.

    Attributes:
        codes: int16[columns, n].
        places: uint32[columns, n], random numbers for the place within each code.
        same: bool[columns, n], whether the row has the code of the row before, of the same owner.
        owner: int64[n], place of each row's owner in the owner's rows, never decreasing.
        first: Number of the first row in its table.
    """

    codes: Codes
    places: NDArray[np.uint32]
    same: NDArray[np.bool_]
    owner: Integers
    first: int

    def __len__(self) -> int:
        return len(self.owner)


@dataclass(frozen=True)
class Tie:
    """A column that is missing where a row has no rows of a child table.

    Attributes:
        count: Number of the column that counts these rows.
        none: Its code for none.
        always: Whether the column is never missing elsewhere.
    """

    count: int
    none: int
    always: bool


@dataclass(frozen=True)
class Past:
    """What stood on the earlier rows of some owners.

    Attributes:
        last: int64[columns, n], see ``families.last_known``.
        level: int64[columns, n], see ``persistence.levels_before``.
        times: Per column float32[n, size], how often each code stood there.
    """

    last: Integers
    level: Integers
    times: Sequence[Tensor]


class _Columns:
    """Draws the columns of one table's rows."""

    def __init__(
        self,
        network: RowNetwork,
        calibration: Tensor,
        ties: Mapping[int, Tie],
        first_missing: int | None,
        temperature: float,
        top_p: float,
    ) -> None:
        self.ties, self.first_missing = ties, first_missing
        self.network, self.sizes, self.top_p = network, network.sizes, top_p
        self.temperature = temperature
        self.heads = [network.head(column) for column in range(len(self.sizes))]
        self.embeddings = [network.embedding(column).contiguous() for column in range(len(self.sizes))]
        starts = np.cumsum([0, *self.sizes])
        self.calibration = [calibration[a:b] for a, b in zip(starts, starts[1:])]
        self.last: list[Tensor] = []
        self.level: list[Tensor] = []
        self.again: list[tuple[float, float, Tensor]] = []
        if network.owned:
            found = {}
            for number, (columns, widest) in enumerate(network.groups):
                by_last, by_level = network.by_last(number), network.by_level(number)
                for place, column in enumerate(columns):
                    size = self.sizes[column]
                    last = torch.cat([by_last[place, :size, :size], by_last[place, widest:, :size]]).contiguous()
                    again = (float(network.had[number][place]), float(network.urn[number][place]))
                    rarity = network.buffer("rarity", number)[place, 0, :size].contiguous()
                    found[column] = last, by_level[place, :, :size].contiguous(), (*again, rarity)
            self.last = [found[column][0] for column in range(len(self.sizes))]
            self.level = [found[column][1] for column in range(len(self.sizes))]
            self.again = [found[column][2] for column in range(len(self.sizes))]

    def draw(
        self,
        given: Tensor,
        past: Past | None,
        uniform: Tensor,
        *,
        first: bool = False,
    ) -> tuple[Codes, Tensor]:
        """Codes int16[columns, n] of rows, and the sum of their embeddings float32[n, width].

        Args:
            given: float32[n, width].
            past: What stood on the owners' earlier rows; None for rows of no owner.
            uniform: float32[columns, n] in (0, 1).
            first: Whether they are the first rows of their owners.
        """
        codes = np.empty((len(self.sizes), len(given)), np.int16)
        context = given.clone()
        for column in range(len(self.sizes)):
            inner, inner_bias, outer, bias = self.heads[column]
            hidden = torch.addmm(inner_bias, context, inner).relu_()
            logits = torch.cat([hidden, context], 1) @ outer + (bias + self.calibration[column])
            if past is not None:
                had, urn, rarity = self.again[column]
                times = past.times[column]
                logits += self.last[column][torch.from_numpy(past.last[column])]
                logits += self.level[column][torch.from_numpy(past.level[column])]
                logits += had * (times > 0) + urn * torch.log1p(times * rarity)
            weights = logits.div_(self.temperature).t().contiguous()
            weights = weights.sub_(weights.amax(0)).exp_()
            if column == self.first_missing:
                weights = with_absent(weights, torch.full((len(given),), first))
            if column in self.ties:
                tie = self.ties[column]
                childless = torch.from_numpy(codes[tie.count] == tie.none)
                tied = with_absent(weights, childless)
                weights = tied if tie.always else torch.where(childless[None], tied, weights)
            drawn = chosen(nucleus(weights, self.top_p) if self.top_p < 1.0 else weights, uniform[column])
            codes[column] = drawn.numpy()
            context += self.embeddings[column][drawn.long()]
        return codes, context - given


class SubjectsSampler:
    """Draws blocks of subjects.

    Args:
        network: The trained network, folded.
        calibration: By table float32[all codes], added to the biases.
        most: By table, the largest number of rows of a subject; of the root 1.
        counts: Number of rows of each owner, int64[owners], of a child table: from the table and the owner's rows.
        ties: By table, the tied columns by their numbers.
        first_missing: By table, a column that is missing on the first row of each owner, and on no other.
        temperature: Logits are divided by this.
        top_p: Only the most probable codes that together have this probability are drawn.
    """

    def __init__(
        self,
        network: SubjectsNetwork,
        calibration: Mapping[str, Tensor],
        most: Mapping[str, int],
        counts: Callable[[str, DrawnRows], Integers],
        ties: Mapping[str, Mapping[int, Tie]],
        first_missing: Mapping[str, int],
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> None:
        self.network, self.most, self.counts = network, dict(most), counts
        with torch.no_grad():
            self._columns = {
                name: _Columns(
                    network.table(name), calibration[name], ties[name], first_missing.get(name), temperature, top_p
                )
                for name in network.names
            }

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def block(self, keys: Mapping[str, tuple[int, int]], number: int) -> dict[str, DrawnRows]:
        """The rows of one block, by table.

        Args:
            keys: Key of each table's random stream.
            number: Number of the block.
        """
        drawn: dict[str, DrawnRows] = {}
        says: dict[str, Tensor] = {}
        for name in self.network.names:
            network, columns = self.network.table(name), self._columns[name]
            owner = self.network.owner_of.get(name)
            if owner is None:
                places = np.arange(BLOCK)
            else:
                places = np.repeat(np.arange(len(drawn[owner])), self.counts(name, drawn[owner]))
            first, n = number * BLOCK * self.most[name], len(places)
            shares, within = _lanes(keys[name], first, n, len(columns.sizes))
            if owner is None:
                given = torch.zeros(n, network.width)
                codes, embedding = columns.draw(given, None, shares)
                same = np.zeros(codes.shape, np.bool_)
            else:
                codes, same, embedding, given, final = self._siblings(network, columns, places, says[owner], shares)
                says[owner] = says[owner] + network.aside(final)
            drawn[name] = DrawnRows(codes, within, same, places, first)
            says[name] = network.says(embedding, given)
        return drawn

    @staticmethod
    def _siblings(
        network: RowNetwork, columns: _Columns, owner: Integers, says: Tensor, shares: Tensor
    ) -> tuple[Codes, NDArray[np.bool_], Tensor, Tensor, Tensor]:
        """Rows of all owners, in lock-step: the first row of each, then the second of those that have one."""
        n, sizes = len(owner), columns.sizes
        counts = np.bincount(owner, minlength=len(says))
        starts = np.cumsum(counts) - counts
        codes = np.empty((len(sizes), n), np.int16)
        same = np.zeros((len(sizes), n), np.bool_)
        embedding, given = torch.zeros(n, network.width), torch.zeros(n, network.width)
        state = network.first_state(says)
        last = np.repeat(np.array(sizes, np.int64)[:, None], len(says), 1)
        missing = np.array([s - 1 if null else s + 1 for s, null in zip(sizes, network.nullable)], np.int64)
        times = [torch.zeros(len(says), size) for size in sizes]
        total, known = np.zeros((len(sizes), len(says))), np.zeros((len(sizes), len(says)), np.int64)
        active = np.flatnonzero(counts > 0)
        for step in range(int(counts.max(initial=0))):
            active = active[counts[active] > step]
            rows, who = starts[active] + step, torch.from_numpy(active)
            previous = embedding[rows - 1] if step else torch.zeros(len(active), network.width)
            left = torch.from_numpy(counts[active] - 1 - step)
            own = network.given_rows(says[who], state[who], previous, torch.full_like(left, step), left)
            past = Past(last[:, active], level_of(total[:, active], known[:, active]), [each[who] for each in times])
            drawn, embedded = columns.draw(own, past, shares[:, rows], first=step == 0)
            codes[:, rows], embedding[rows], given[rows] = drawn, embedded, own
            if step:
                same[:, rows] = codes[:, rows] == codes[:, rows - 1]
            wide = drawn.astype(np.int64)
            for column, own_times in enumerate(times):
                own_times[who, torch.from_numpy(wide[column])] += 1.0
                places = network.places[column]
                if places is not None:
                    place = places[wide[column]]
                    total[column, active] += np.nan_to_num(place)
                    known[column, active] += ~np.isnan(place)
            last[:, active] = np.where(wide == missing[:, None], last[:, active], wide)
            _, after = network.history(embedded[:, None], state[who][None].contiguous())
            state[who] = after[0]
        return codes, same, embedding, given, torch.where(torch.from_numpy(counts > 0)[:, None], state, 0.0)


def _lanes(key: tuple[int, int], first: int, n: int, columns: int) -> tuple[Tensor, NDArray[np.uint32]]:
    """Random numbers of rows: float32[columns, n] in (0, 1) for the codes, uint32[columns, n] for the places within."""
    words = random_words(key, first, n, columns)
    small = words.astype("<u8", copy=False).view("<u4").reshape(n, 2 * columns).T
    shares = ((small[:columns] >> np.uint32(8)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
    return torch.from_numpy(np.ascontiguousarray(shares)), np.ascontiguousarray(small[columns:])


def calibrated(
    sampler_of: Callable[[Mapping[str, Tensor]], SubjectsSampler],
    shares: Mapping[str, Sequence[NDArray[np.float64]]],
    keys: Mapping[str, tuple[int, int]],
    *,
    blocks: int,
    rounds: int,
) -> dict[str, Tensor]:
    """What to add to the biases of each table, float32[all codes], so that drawn rows have the counted frequencies.

    Subjects are drawn with the biases so far, and each bias is moved by the logarithm of counted over drawn share.

    Args:
        sampler_of: Makes the sampler with such biases.
        shares: By table, counted share of each code of each column.
        keys: See ``SubjectsSampler.block``.
        blocks: Blocks that are drawn in each round.
        rounds: How often the biases are moved.
    """
    biases = {name: torch.zeros(sum(len(share) for share in own)) for name, own in shares.items()}
    for turn in range(rounds):
        sampler = sampler_of(biases)
        drawn = [sampler.block(keys, turn * blocks + number) for number in range(blocks)]
        for name, own in shares.items():
            steps = []
            for column, share in enumerate(own):
                counted = sum(np.bincount(part[name].codes[column], minlength=len(share)) for part in drawn)
                total = max(float(np.sum(counted)), 1.0)
                # A few rows more of each code, in proportion, keep rare codes from jumping.
                found = (counted + 20.0 * share) / (total + 20.0)
                step = np.where(share > 0, np.log(np.maximum(share, 1e-12) / np.maximum(found, 1e-12)), 0.0)
                steps.append(np.clip(step, -1.0, 1.0))
            moved = np.concatenate([np.zeros(0), *steps]).astype(np.float32)
            biases[name] = biases[name] + torch.from_numpy(moved)
    return biases
