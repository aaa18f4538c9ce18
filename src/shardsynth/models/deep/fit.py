"""Fitting a native CTGAN, CopulaGAN or TVAE: code the columns, check the device, train, settle, hand over."""

from __future__ import annotations

import copy
import hashlib
import json
import os
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
from shardsynth.errors import InputError, JobError
from shardsynth.models.checkpoint import Watch
from shardsynth.models.deep.codes import DeepCoding, check_memory
from shardsynth.models.deep.ctgan import settle_normalisation, train_ctgan
from shardsynth.models.deep.model import DeepModel, Network, reached_shares
from shardsynth.models.deep.options import DeepOptions
from shardsynth.models.deep.table import DeepTable, encode_rows
from shardsynth.models.deep.tvae import train_tvae
from shardsynth.models.early_stopping import QualityCheck
from shardsynth.models.torch_threads import torch_threads
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
    reached = torch.from_numpy(reached_shares(coding, log_rows=rows if options.condvec == "log" else None)).to(device)
    total = min(options.normalisation_rows, most)
    size = min(_CHUNK, total)

    def noise(chunk: int) -> Tensor:
        random = torch.Generator(device).manual_seed(seed + 7_919 * (chunk + 1))
        latent = torch.randn(size, options.embedding_dim, generator=random, device=device)
        if not len(reached):
            return latent
        uniform = torch.rand(size, generator=random, device=device, dtype=torch.float64) * torch.ceil(reached[-1])
        flat = torch.searchsorted(reached, uniform, right=True).clamp_(max=len(reached) - 1)
        vectors = torch.zeros(size, len(reached), device=device).scatter_(1, flat[:, None], 1.0)
        return torch.cat([latent, vectors], dim=1)

    settle_normalisation(network, noise, -(-total // size))


def choose_device(device: str) -> torch.device:
    """The device to train on.

    Args:
        device: ``auto`` (a GPU where this process has one), ``cpu`` or ``cuda``.

    Raises:
        InputError: A GPU is wanted, or Slurm gave this task one, and it cannot be used: says why.
    """
    given = [v for v in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE") if os.environ.get(v)]
    if device == "cpu" or (device == "auto" and not given and not torch.cuda.is_available()):
        return torch.device("cpu")
    reason = _unusable_gpu()
    if reason is None:
        return torch.device("cuda")
    asked = "there is a GPU here"
    if device == "cuda":
        asked = "device: cuda was asked for"
    elif given:
        asked = f"this task was given a GPU ({given[0]})"
    raise InputError(f"{asked}, but it cannot be used: {reason}; or write device: cpu")


def _unusable_gpu() -> str | None:
    """Why no GPU can be used; None if one can."""
    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) is built without CUDA: install the CUDA build, or use the CUDA image"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles"):
        return "CUDA_VISIBLE_DEVICES hides every device: ask for a GPU (cluster.stages.fit.gpus)"
    if not Path("/proc/driver/nvidia/version").exists():
        return "there is no NVIDIA driver on this node: ask for a GPU node"
    if not Path("/dev/nvidiactl").exists():
        return "the driver's device files are not here: start the container with --nv"
    if not torch.cuda.is_available():
        try:
            torch.cuda.init()
        except RuntimeError as error:
            return (
                f"CUDA {torch.version.cuda} does not start ({str(error).splitlines()[0]}): is the driver older than it?"
            )
        return f"torch for CUDA {torch.version.cuda} sees no device: is the driver older than it?"
    major, minor = torch.cuda.get_device_capability()
    built = torch.cuda.get_arch_list()
    if not runs_on(built, major, minor):
        return f"its compute capability {major}.{minor} is not among those torch was built for ({', '.join(built)})"
    return None


def runs_on(built: Sequence[str], major: int, minor: int) -> bool:
    """Whether torch built for these architectures runs on a device of a compute capability.

    Machine code (``sm_86``) runs on the same major version and a minor one that is no older; code that the driver
    compiles (``compute_90``) on whatever is no older.
    """
    for name in built:
        kind, _, number = name.partition("_")
        digits = number.rstrip("af")
        if not digits.isdigit():
            continue
        found = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and found <= (major, minor):
            return True
        if kind == "sm" and (number == digits or found == (major, minor)) and found[0] == major and found[1] <= minor:
            return True
    return False


def available_memory(device: torch.device) -> int:
    """Bytes that training may use: free on the GPU, or of the machine and its control group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path, pick in (
        ("/proc/meminfo", lambda text: int(text.split("MemAvailable:")[1].split()[0]) * 1024),
        ("/sys/fs/cgroup/memory.max", int),
    ):
        try:
            found.append(pick(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError, IndexError):
            continue
    return min(found)


def _identity(options: DeepOptions, coding: DeepCoding, table: DeepTable, seed: int) -> str:
    """Says which training a checkpoint belongs to: options, columns, data and seed."""
    same = options.model_copy(update={"device": "", "checkpoint_minutes": 0.0, "condvec": "", "decode": ""})
    digest = hashlib.blake2b(json.dumps([same.to_json(), seed], sort_keys=True).encode(), digest_size=16)
    for column in coding.columns:
        digest.update(f"{column.name}:{column.size}".encode())
    for block in table.blocks():
        digest.update(block.tobytes())
    return digest.hexdigest()
