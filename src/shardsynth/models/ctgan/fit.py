"""Fitting a native CTGAN, CopulaGAN or TVAE: code the columns, check the device, train, settle the normalisation."""

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
from shardsynth.sampling.streams import stream_key

_CHUNK = 10_000
#: Rows that are drawn to count the values at the ends of the columns.
_END_ROWS = 65_536


def fit_deep(family: str, fitting: Fitting, *, device: str | None = None) -> DeepModel:
    """Fit a deep model; its ``loss`` has one row per epoch.

    Args:
        family: ``ctgan``, ``copulagan`` or ``tvae``.
        fitting: What the fit is given. Its options are a mapping (see ``DeepOptions.parse``) or parsed. Modes,
            categories and their frequencies come from the counts; the networks are trained on ``rows``, or on the row
            sample. The option ``check_epochs`` needs ``score``.
        device: ``auto``, ``cpu`` or ``cuda``; None: the option ``device``.

    Raises:
        JobError: An option is unknown or impossible.
        ModelError: A column cannot be learned, or the device has too little memory.
        InputError: A GPU is wanted, or this task has one, and it cannot be used.
        Saved: ``should_stop`` was true, and the state is saved; run it again to go on.
    """
    setup = fitting.setup
    options = setup.options if isinstance(setup.options, DeepOptions) else DeepOptions.parse(family, setup.options)
    torch_device = choose_device(device or options.device)
    coding = DeepCoding.fit(
        fitting.profile, setup.coder, fitting.counts, options, setup.schema, fitting.relations or None
    )
    in_memory = 0 if setup.scratch is not None and torch_device.type == "cpu" else fitting.training_rows
    setup.tell(check_memory(coding.columns, options, in_memory, available_memory(torch_device), str(torch_device)))
    for note in coding.notes:
        setup.tell(note)
    table = encode_rows(coding, setup.coder, fitting.batches(), fitting.training_rows, setup.seed, setup.scratch)
    identity = _identity(options, coding, table, setup.seed)
    rows, name = fitting.counts.rows, setup.name or family

    def model(network: Network, loss: pa.Table | None = None) -> DeepModel:
        generators, threads = dict(setup.generators), max(1, setup.threads)
        return DeepModel(setup.schema, options, coding, network, rows, generators, setup.formats, name, loss, threads)

    def watch(total: int, steps_per_epoch: int) -> Watch:
        every = 60.0 * options.checkpoint_minutes
        return Watch(total, steps_per_epoch, setup.checkpoint, identity, every, setup.should_stop, setup.progress)

    def measure(network: Any) -> float:
        trial = copy.deepcopy(network)
        if options.is_gan:
            settle(trial, coding, options, rows, setup.seed, torch_device, most=_CHUNK)
        assert fitting.score is not None
        drawn = replace(model(trial.cpu().eval()), name=f"{name}: check").draw(setup.seed, 0, options.check_rows)
        quality = fitting.score(drawn)
        setup.tell(f"quality {quality:.4f}")
        return quality

    if options.check_epochs and fitting.score is None:
        raise JobError(f"{family}: check_epochs needs the counts of a run to score rows; set it to 0")
    check = QualityCheck(options.check_epochs, options.patience, measure) if options.check_epochs else None
    with torch_threads(setup.threads):
        train = train_ctgan if options.is_gan else train_tvae
        network, losses = train(
            table, coding.layout, options, seed=setup.seed, device=torch_device, watch=watch, check=check
        )
        if options.is_gan:
            settle(network, coding, options, rows, setup.seed, torch_device)
        fitted = model(network.cpu(), _history(options, losses, check))
        return replace(fitted, coding=with_end_shares(fitted, setup.seed))


def with_end_shares(model: DeepModel, seed: int) -> DeepCoding:
    """The columns, whose tails get as many values as the quantile functions say.

    Args:
        model: As it was trained. It puts too many values, or too few, at the ends of a column.
        seed: Of the rows that are drawn to count these.
    """
    if not any(column.has_tails for column in model.coding.columns):
        return model.coding
    drawn = model.sampler.draw(stream_key(seed, f"{model.name}: tails"), 0, _END_ROWS, threads=model.threads)
    columns, axis = [], 0
    for number, column in enumerate(model.coding.columns):
        low, high = column.tails
        if column.has_tails:
            codes = drawn.codes[number]
            absent = column.missing(codes)
            values = column.values(codes, drawn.places[axis], None)
            values = values if absent is None else values[~absent]
            shares = (len(end) / max(len(values), 1) for end in column.at_ends(values))
            low, high = (1.0 if share <= mass else mass / share for share, mass in zip(shares, column.tail_mass))
        columns.append(replace(column, tails=(low, high)) if column.has_tails else column)
        axis += column.is_axis
    return replace(model.coding, columns=tuple(columns))


def _history(options: DeepOptions, losses: Tensor, check: QualityCheck | None) -> pa.Table:
    """Losses by epoch, and the quality at the epochs that were checked."""
    names = ("generator_loss", "discriminator_loss") if options.is_gan else ("loss",)
    history: dict[str, Any] = {"epoch": np.arange(len(losses))}
    history.update({name: losses[:, i].numpy() for i, name in enumerate(names)})
    if check is not None:
        scores: list[float | None] = [None] * len(losses)
        for number, score in enumerate(check.scores):
            scores[(number + 1) * check.every - 1] = score
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
    """Settle a generator's batch normalisation on rows generated under the conditions of sampling.

    Args:
        network: The generator; changed in place.
        coding: The columns.
        options: How it was trained.
        rows: Number of training rows, for ``condvec: log``.
        seed: Seed of the generated rows.
        device: Where the generator is.
        most: Largest number of rows to generate.
    """
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
    """Hash of all that a training depends on: options, columns, rows and seed.

    A checkpoint with another one belongs to another training and is not used.
    """
    same = options.model_copy(update={"device": "", "checkpoint_minutes": 0.0, "condvec": "", "decode": ""})
    digest = hashlib.blake2b(json.dumps([same.to_json(), seed], sort_keys=True).encode(), digest_size=16)
    for column in coding.columns:
        digest.update(f"{column.name}:{column.size}".encode())
    for block in table.blocks():
        digest.update(block.tobytes())
    return digest.hexdigest()
