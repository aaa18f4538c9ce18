"""Fitting a native CTGAN, CopulaGAN or TVAE: code the columns, check the device, train, settle, hand over."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from shardsynth.errors import JobError
from shardsynth.models.base import Fitting
from shardsynth.models.ctgan.codes import DeepCoding, check_memory
from shardsynth.models.ctgan.ctgan import settle_normalisation, train_ctgan
from shardsynth.models.ctgan.model import DeepModel
from shardsynth.models.ctgan.options import DeepOptions
from shardsynth.models.ctgan.parameters import Network, condition_cdf
from shardsynth.models.ctgan.table import DeepTable, encode_rows
from shardsynth.models.ctgan.tvae import train_tvae
from shardsynth.models.training.checkpoint import Watch
from shardsynth.models.training.device import available_memory, choose_device
from shardsynth.models.training.early_stopping import QualityCheck
from shardsynth.models.training.torch_threads import torch_threads

_CHUNK = 10_000


def fit_deep(family: str, given: Fitting, *, device: str | None = None) -> DeepModel:
    """Fit a deep model; its ``loss`` is the history by epoch.

    Args:
        family: ``ctgan``, ``copulagan`` or ``tvae``.
        given: Its options as mappings (see ``DeepOptions.parse``), or parsed. Modes, categories and their frequencies
            come from the counts; the networks are trained on ``rows``, or on the row sample. ``score`` is wanted with
            ``check_epochs``.
        device: ``auto``, ``cpu`` or ``cuda``; the option of that name if None.

    Raises:
        JobError: An option is unknown or impossible.
        ModelError: A column cannot be learned, or the device is too small.
        InputError: A GPU was asked for, or given to this task, and cannot be used.
        Saved: ``should_stop`` said so; run it again to go on.
    """
    setup = given.setup
    options = setup.options if isinstance(setup.options, DeepOptions) else DeepOptions.parse(family, setup.options)
    where = choose_device(device or options.device)
    coding = DeepCoding.fit(given.profile, setup.coder, given.counts, options, setup.schema)
    in_memory = 0 if setup.scratch is not None and where.type == "cpu" else given.training_rows
    setup.tell(check_memory(coding.columns, options, in_memory, available_memory(where), str(where)))
    for note in coding.notes:
        setup.tell(note)
    table = encode_rows(coding, setup.coder, given.batches(), given.training_rows, setup.seed, setup.scratch)
    identity = _identity(options, coding, table, setup.seed)
    rows, name = given.counts.rows, setup.name or family

    def model(network: Network, loss: pa.Table | None = None) -> DeepModel:
        generators, threads = dict(setup.generators), max(1, setup.threads)
        return DeepModel(setup.schema, options, coding, network, rows, generators, setup.formats, name, loss, threads)

    def watch(total: int, steps_per_epoch: int) -> Watch:
        every = 60.0 * options.checkpoint_minutes
        return Watch(total, steps_per_epoch, setup.checkpoint, identity, every, setup.should_stop, setup.progress)

    def measure(network: Any) -> float:
        trial = copy.deepcopy(network)
        if options.is_gan:
            settle(trial, coding, options, rows, setup.seed, where, most=_CHUNK)
        assert given.score is not None
        drawn = replace(model(trial.cpu().eval()), name=f"{name}: check").draw(setup.seed, 0, options.check_rows)
        quality = given.score(drawn)
        setup.tell(f"quality {quality:.4f}")
        return quality

    if options.check_epochs and given.score is None:
        raise JobError(f"{family}: check_epochs wants a run's counts to score the rows by")
    check = QualityCheck(options.check_epochs, options.patience, measure) if options.check_epochs else None
    with torch_threads(setup.threads):
        train = train_ctgan if options.is_gan else train_tvae
        network, losses = train(table, coding.layout, options, seed=setup.seed, device=where, watch=watch, check=check)
        if options.is_gan:
            settle(network, coding, options, rows, setup.seed, where)
    return model(network.cpu(), _history(options, losses, check))


def _history(options: DeepOptions, losses: Tensor, check: QualityCheck | None) -> pa.Table:
    """Losses by epoch, and the quality where it was looked at."""
    names = ("generator_loss", "discriminator_loss") if options.is_gan else ("loss",)
    history: dict[str, Any] = {"epoch": np.arange(len(losses))}
    history.update({name: losses[:, i].numpy() for i, name in enumerate(names)})
    if check is not None:
        scores: list[float | None] = [None] * len(losses)
        for number, found in enumerate(check.scores):
            scores[(number + 1) * check.every - 1] = found
        history["quality"] = pa.array(scores, pa.float64())
    return pa.table(history)


def settle(
    network: Network,
    coding: DeepCoding,
    options: DeepOptions,
    rows: int,
    seed: int,
    device: torch.device,
    *,
    most: int = 10**9,
) -> None:
    """Settle a generator's batch normalisation on rows generated under the conditions of sampling."""
    cdf = torch.from_numpy(condition_cdf(coding, log_rows=rows if options.condvec == "log" else None)).to(device)
    total = min(options.normalisation_rows, most)
    size = min(_CHUNK, total)

    def noise(chunk: int) -> Tensor:
        random = torch.Generator(device).manual_seed(seed + 7_919 * (chunk + 1))
        latent = torch.randn(size, options.embedding_dim, generator=random, device=device)
        if not len(cdf):
            return latent
        uniform = torch.rand(size, generator=random, device=device, dtype=torch.float64) * torch.ceil(cdf[-1])
        flat = torch.searchsorted(cdf, uniform, right=True).clamp_(max=len(cdf) - 1)
        vectors = torch.zeros(size, len(cdf), device=device).scatter_(1, flat[:, None], 1.0)
        return torch.cat([latent, vectors], dim=1)

    settle_normalisation(network, noise, -(-total // size))


def _identity(options: DeepOptions, coding: DeepCoding, table: DeepTable, seed: int) -> str:
    """Says which training a checkpoint belongs to: options, columns, data and seed."""
    same = options.model_copy(update={"device": "", "checkpoint_minutes": 0.0, "condvec": "", "decode": ""})
    digest = hashlib.blake2b(json.dumps([same.to_json(), seed], sort_keys=True).encode(), digest_size=16)
    for column in coding.columns:
        digest.update(f"{column.name}:{column.size}".encode())
    for block in table.blocks():
        digest.update(block.tobytes())
    return digest.hexdigest()
