"""Write what this image is: image.json for the tasks inside, labels for the host. Collect the packages' licences.

It runs once, in ``%post`` of the image, with the image's own Python, before the build tools are removed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shutil
import sys
import uuid
from importlib import metadata
from pathlib import Path

#: Packages whose versions are written: they explain differences between two images.
SHOWN = ("torch", "numpy", "pyarrow", "scipy", "pandas", "sdv", "rdt", "ctgan", "copulas")
LICENCES = Path("/usr/share/licenses")


def main() -> None:
    """Describe the image; stop its build if it has the wrong build of torch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--labels", type=Path, required=True)
    options = parser.parse_args()
    import torch

    cuda = torch.version.cuda
    if (cuda is not None) != (options.device == "cuda"):
        sys.exit(
            f"identity.py: asked for a {options.device} image, but pip's index gave torch {torch.__version__}; choose "
            "the index of the other build (PIP_EXTRA_INDEX_URL of containers/build.sh; see containers/README.md)"
        )
    identity = {
        "build": str(uuid.uuid4()),
        "version": metadata.version("shardsynth"),
        "commit": options.commit,
        "device": options.device,
        "built": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **({"cuda": cuda, "gpus": " ".join(torch.cuda.get_arch_list())} if cuda else {}),
        "packages": {name: metadata.version(name) for name in SHOWN},
    }
    Path(sys.prefix, "image.json").write_text(json.dumps(identity, indent=1) + "\n")
    packages = identity.pop("packages")
    with options.labels.open("a") as file:
        for name, value in {**identity, **packages}.items():
            file.write(f"shardsynth.{name} {value}\n")
        file.write(f"org.opencontainers.image.version {identity['version']}\n")
    print(f"licences of {copy_licences()} packages in {LICENCES}")


def copy_licences() -> int:
    """Copy every package's licence files to one folder; returns how many packages had any."""
    count = 0
    for package in metadata.distributions():
        texts = [
            f
            for f in package.files or []
            if ".dist-info" in str(f) and f.name.upper().startswith(("LICEN", "NOTICE", "COPYING", "AUTHORS"))
        ]
        folder = LICENCES / f"{package.metadata['Name']}-{package.version}"
        for text in texts:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(text.locate()), folder / text.name)
        count += bool(texts)
    return count


if __name__ == "__main__":
    main()
