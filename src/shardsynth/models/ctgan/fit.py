"""Fitting a native CTGAN, CopulaGAN or TVAE: code the columns, check the device, train, settle, hand over."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.errors import JobError
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
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile

_CHUNK = 10_000


def fit_deep(
    family: str,
    profile: Profile,
    coder: TableCoder,
    counts: Counts,
    schema: pa.Schema,
    columns: Sequence[Column],
    options: DeepOptions | Mapping[str, Any] | None = None,
    *,
    seed: int,
    threads: int = 1,
    checkpoint: Path | None = None,
    progress: Callable[[str], None] | None = None,
    device: str | None = None,
    should_stop: Callable[[], bool] | None = None,
    generators: Mapping[str, dict[str, Any]] | None = None,
    name: str | None = None,
    rows: Callable[[], Iterable[pa.RecordBatch]] | None = None,
    scratch: Path | None = None,
    score: Callable[[pa.RecordBatch], float] | None = None,
) -> DeepModel:
    """Fit a deep model.

    Args:
        family: ``ctgan``, ``copulagan`` or ``tvae``.
        profile: Merged, of the training rows; its row sample is what the networks are trained on.
        coder: Made from it.
        counts: Merged: modes, categories and their frequencies come from all rows.
        schema: Arrow schema of the input.
        columns: The table's columns.
        options: See ``DeepOptions.parse``.
        seed: Everything random follows from it.
        threads: CPU threads of the training, and blocks at a time of the model's ``draw``.
        checkpoint: File to resume from and to save to; None for no checkpoints.
        progress: Gets lines for the log.
        device: ``auto``, ``cpu`` or ``cuda``; the option of that name if None.
        should_stop: Asked after every step.
        generators: From ``identifiers.learn_all``, for columns of role ``id`` and ``pii``.
        name: The model's name in its run; the family if None.
        rows: Gives all training rows; None: the networks are trained on the row sample.
        scratch: Folder for files to map into memory, so that they need not fit into it.
        score: Quality of drawn rows; wanted with ``check_epochs``.

    Returns:
        The model; its ``loss`` is the history by epoch.

    Raises:
        JobError: An option is unknown or impossible.
        ModelError: A column cannot be learned, or the device is too small.
        InputError: A GPU was asked for, or given to this task, and cannot be used.
        Saved: ``should_stop`` said so; run it again to go on.
    """
    if not isinstance(options, DeepOptions):
        options = DeepOptions.parse(family, options)
    tell = progress or (lambda line: None)
    where = choose_device(device or options.device)
    coding = DeepCoding.fit(profile, coder, counts, options, schema)
    total = counts.rows if rows is not None else profile.sample.num_rows
    held = 0 if scratch is not None and where.type == "cpu" else total
    tell(check_memory(coding.columns, options, held, available_memory(where), str(where)))
    for note in coding.notes:
        tell(note)
    batches: Iterable[Any] = rows() if rows is not None else [profile.sample]
    table = encode_rows(coding, coder, batches, total, seed, scratch)
    identity = _identity(options, coding, table, seed)
    formats = {c.name: str(c.options["datetime_format"]) for c in columns if c.options.get("datetime_format")}
    named = name or family

    def model(network: Network, loss: pa.Table | None = None) -> DeepModel:
        made = dict(generators or {})
        return DeepModel(schema, options, coding, network, counts.rows, made, formats, named, loss, max(1, threads))

    def watch(total: int, steps_per_epoch: int) -> Watch:
        every = 60.0 * options.checkpoint_minutes
        return Watch(total, steps_per_epoch, checkpoint, identity, every, should_stop, progress)

    def measure(network: Any) -> float:
        trial = copy.deepcopy(network)
        if options.is_gan:
            settle(trial, coding, options, counts.rows, seed, where, most=_CHUNK)
        assert score is not None
        found = score(replace(model(trial.cpu().eval()), name=f"{named}: check").draw(seed, 0, options.check_rows))
        tell(f"quality {found:.4f}")
        return found

    if options.check_epochs and score is None:
        raise JobError(f"{family}: check_epochs wants a run's counts to score the rows by")
    check = QualityCheck(options.check_epochs, options.patience, measure) if options.check_epochs else None
    with torch_threads(threads):
        train = train_ctgan if options.is_gan else train_tvae
        network, losses = train(table, coding.layout, options, seed=seed, device=where, watch=watch, check=check)
        if options.is_gan:
            settle(network, coding, options, counts.rows, seed, where)
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
    same = replace(options, device="", checkpoint_minutes=0.0, condvec="", decode="")
    digest = hashlib.blake2b(json.dumps([same.to_json(), seed], sort_keys=True).encode(), digest_size=16)
    for column in coding.columns:
        digest.update(f"{column.name}:{column.size}".encode())
    for block in table.blocks():
        digest.update(block.tobytes())
    return digest.hexdigest()
