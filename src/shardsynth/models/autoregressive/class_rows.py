"""Rows of rare classes of the first column: their biases, and which class a row has whose other columns are known.

The network alone hardly knows a rare class by the other columns, since a training by all rows hardly sees it. Where
the first column is drawn after others (they are conditions, or known values), its classes c are weighed by Bayes' rule,
with the calibrated conditional probabilities of the order in which rows are drawn without conditions:

    p(c | x) ~ p(c) prod_j p(x_j | c, the known x_i before j).

Among the codes of no rare class the network decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

#: Codes of no rare class, the most frequent ones, whose probabilities of the known values stand for those of all.
_COMMON = 4
_LEAST = 1e-30


@dataclass(frozen=True)
class ClassBiases:
    """Rare classes of the first column.

    Attributes:
        codes: Code of each class in column 0.
        biases: float32[classes, all codes], added to the biases of the columns after it, in place of the calibration.
    """

    codes: tuple[int, ...]
    biases: Tensor


class ClassRows:
    """What a sampler does otherwise in rows of rare classes.

    Args:
        sampler: The ``Sampler`` of the model, which draws its columns.
        classes: The classes.
    """

    def __init__(self, sampler: Any, classes: ClassBiases) -> None:
        self._sampler, self._codes = sampler, classes.codes
        group = torch.zeros(sampler.sizes[0], dtype=torch.int64)
        group[list(classes.codes)] = 1 + torch.arange(len(classes.codes))
        self._group = group.to(sampler.device)
        biases = classes.biases.to(sampler.device) / sampler.temperature
        self._biases = [part.t().contiguous() for part in biases.split(sampler.sizes, dim=1)]

    def add(self, logits: Tensor, target: Tensor, column: int, instead: Tensor | None) -> None:
        """Add the biases of a column to its logits [size, n] in rows of rare classes.

        Args:
            logits: Of the column.
            target: int16[n], codes of column 0.
            column: The column.
            instead: float32[size, 1], what the logits hold of a calibration that is not for these rows; None: nothing.
        """
        group = self._group[target.long()]
        rare = torch.nonzero(group).squeeze(1)
        if len(rare):
            own = self._biases[column][:, group[rare] - 1]
            logits[:, rare] += own if instead is None else own - instead

    def of_known(self, rows: Any, weights: Tensor) -> Tensor:
        """Weights of the codes of column 0 given the known columns, float32[size, n].

        Args:
            rows: ``Rows`` whose column 0 is not drawn yet.
            weights: The network's, float32[size, n].
        """
        known = rows.known if rows.known is not None else {c: codes for c, codes in rows.codes.items() if c}
        if not known:
            return weights
        prior, common = self._prior
        asked = [*self._codes, *common[:_COMMON]]
        logs = torch.stack([self._log_probability(known, code, weights.shape[1]) for code in asked])
        share = torch.exp(logs - logs.amax(0)).clamp_(min=_LEAST) * prior[asked][:, None].clamp(min=_LEAST)
        rare = len(self._codes)
        left = share[rare:].sum(0) * (prior[common].sum() / prior[common[:_COMMON]].sum().clamp(min=_LEAST))
        rest = weights.clone()
        rest[list(self._codes)] = 0.0
        weighed = rest * (left / rest.sum(0).clamp(min=_LEAST))
        weighed[list(self._codes)] = share[:rare]
        return weighed / weighed.amax(0)

    @cached_property
    def _prior(self) -> tuple[Tensor, list[int]]:
        """Weights of the codes of column 0 where nothing is known; those of no rare class, frequent ones first."""
        prior = self._sampler.weights(self._sampler.begin(1), 0, calibrated=True)[:, 0]
        return prior, [code for code in prior.argsort(descending=True).tolist() if not self._group[code]]

    def _log_probability(self, known: Mapping[int, Tensor], code: int, n: int) -> Tensor:
        """Logarithm of the probability of the known codes where column 0 has a code, float32[n]."""
        rows, sampler = self._sampler.begin(n), self._sampler
        sampler.enter(rows, 0, torch.full((n,), code, dtype=torch.int16, device=sampler.device))
        total = torch.zeros(n, device=sampler.device)
        for column in sorted(known):
            there = known[column] >= 0
            if not there.any():
                continue
            codes = known[column].clamp(min=0)
            weights = sampler.weights(rows, column, calibrated=True)
            own = weights.gather(0, codes.long()[None])[0] / weights.sum(0)
            total += torch.where(there, torch.log(own.clamp(min=_LEAST)), torch.zeros_like(own))
            rows.context += torch.where(there[:, None], sampler.embedding(column)[codes.long()], 0.0)
        return total
