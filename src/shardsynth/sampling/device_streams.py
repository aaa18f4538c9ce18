"""The words of ``streams`` on a torch device, the same bits: Philox4x64-10 (Salmon et al. 2011) in 64-bit integers."""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF
_WORD = 0xFFFFFFFFFFFFFFFF
_ROUNDS = 10


def _signed(word: int) -> int:
    """A 64-bit word as the signed integer of the same bits."""
    return word - (1 << 64) if word >> 63 else word


_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_BUMPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)


def random_words(
    key: tuple[int, int], first_row: int, n: int, words_per_row: int, device: torch.device, *, layer: int = 0
) -> Tensor:
    """As ``streams.random_words``: int64[n, words_per_row] on the device, with the same bits."""
    block, skip = divmod(first_row * words_per_row, 4)
    blocks = -(-(skip + n * words_per_row) // 4)
    counter = (block + 1) + (layer << 192)  # NumPy counts before it draws
    start = counter & _WORD
    low = torch.arange(blocks, device=device) + _signed(start)
    # The second word counts how often the first one has overflowed.
    carried = (torch.arange(blocks, device=device) >= (1 << 64) - start) if start + blocks > 1 << 64 else 0
    rest = [torch.full_like(low, _signed((counter >> shift) & _WORD)) for shift in (64, 128, 192)]
    rest[0] = rest[0] + carried
    words = [low, *rest]
    keys = [key[0], key[1]]
    for _ in range(_ROUNDS):
        (high0, low0), (high1, low1) = (_product(words[2 * i], _MULTIPLIERS[i]) for i in (0, 1))
        words = [high1 ^ words[1] ^ _signed(keys[0]), low1, high0 ^ words[3] ^ _signed(keys[1]), low0]
        keys = [(k + bump) & _WORD for k, bump in zip(keys, _BUMPS)]
    return torch.stack(words, dim=1).view(-1)[skip : skip + n * words_per_row].view(n, words_per_row)


def _product(words: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low halves of the 128-bit products of unsigned words and a constant."""
    low, upper = words & _LOW, (words >> 32) & _LOW
    small, large = multiplier & _LOW, multiplier >> 32
    # A product of two 32-bit halves may exceed 2^63. Its bits are still right; they are read as unsigned.
    bottom, middle, other, top = low * small, upper * small, low * large, upper * large
    carry = ((bottom >> 32) & _LOW) + (middle & _LOW) + (other & _LOW)
    high = top + ((middle >> 32) & _LOW) + ((other >> 32) & _LOW) + ((carry >> 32) & _LOW)
    return high, words * _signed(multiplier)


def lanes(words: Tensor) -> Tensor:
    """As ``streams.lanes``: the words [n, w] cut into 16-bit lanes int32[n, 4 w], low bits first."""
    return words.contiguous().view(torch.int16).to(torch.int32) & 0xFFFF


def uniforms(words: Tensor) -> Tensor:
    """As ``streams.uniforms``: float64 of the shape of ``words``, on their device."""
    return ((words >> 12) & ((1 << 52) - 1)).double() * 2.0**-52 + 2.0**-53
