"""Generated parts of docs/: the job file's reference, and the tables of options in the pages of the families.

`python -m shardsynth.commands.reference docs/*.md` writes them again.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pydantic import BaseModel

from shardsynth.job import Job
from shardsynth.models.autoregressive.options import AutoregressiveOptions
from shardsynth.models.columns.column_options import ColumnOptions
from shardsynth.models.columns.options import Distributions, FitOptions
from shardsynth.models.ctgan.options import Deep, Gan, Vae
from shardsynth.options import table
from shardsynth.standalone.files import write_atomic


def reference() -> str:
    """The job file's reference as Markdown, from the models of `shardsynth.job` and the descriptions of their keys."""
    lines = [
        "# The job file",
        "",
        "Generated from `src/shardsynth/job.py` by `python -m shardsynth.commands.reference docs/*.md`.",
        "Unknown keys, wrong types and impossible combinations are one clear error each.",
        "`--set a.b=c` overrides any key.",
        "",
    ]
    sections: list[tuple[str, type[BaseModel]]] = [("", Job)]
    while sections:
        prefix, model = sections.pop(0)
        if prefix:
            lines += ["", f"## {prefix}", "", (model.__doc__ or "").strip(), ""]
        lines += ["| key | default | what it is |", "|---|---|---|"]
        for name, info in model.model_fields.items():
            key = info.alias or name
            annotation = info.annotation
            inner = [annotation, *getattr(annotation, "__args__", ())]
            nested = next((a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)), None)
            if nested:
                suffix = ".<name>" if getattr(annotation, "__origin__", None) is dict else ""
                sections.append((f"{prefix}.{key}".lstrip(".") + suffix, nested))
            default_value = info.get_default(call_default_factory=True)
            default = (
                "required" if info.is_required() else "" if nested or default_value == "" else f"`{default_value}`"
            )
            text = (info.description or "").replace("|", "\\|")
            lines.append(f"| `{key}` | {default} | {text} |")
    return "\n".join(lines) + "\n"


def option_tables() -> dict[str, str]:
    """Tables of the families' options as Markdown, by the name that marks their place in a page of docs/."""
    return {
        "autoregressive": table(AutoregressiveOptions),
        "columns": table(ColumnOptions),
        "copulagan": table(Distributions),
        "deep": table(Deep),
        "gan": table(Gan),
        "gaussian_copula": table(FitOptions),
        "tvae": table(Vae),
    }


def page_in_step(path: Path) -> str:
    """Text of a page of docs/ that agrees with the code: the reference, or the page with its tables written again.

    A table stands between ``<!-- options:NAME -->`` and ``<!-- /options -->``, see ``option_tables``.
    """
    if path.name == "job-file.md":
        return reference()
    tables = option_tables()
    place = re.compile(r"(<!-- options:(\w+) -->\n).*?(<!-- /options -->)", re.DOTALL)
    return place.sub(lambda match: f"{match[1]}\n{tables[match[2]]}\n{match[3]}", path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        write_atomic(page, page_in_step(page).encode("utf-8"))
