"""The site file's `setup:` lines in a batch script: `module` works there, and a line that fails ends the element."""

from __future__ import annotations

import re
import shlex

#: Exit code of a script if a line of `setup:` failed; the log names the line.
SETUP_FAILED = 72
_MODULE = re.compile(r"(^|[\s;&|(])(module|ml)\s")
#: `module` is a shell function. An exported one may call others that are not exported (Environment Modules 4 and 5),
#: so it is defined anew, as a login shell of the node does; where no such file is, the exported one is all there is.
_DEFINE_MODULE = (
    'for define in "${LMOD_PKG:-/usr/share/lmod/lmod}/init/bash" "${MODULESHOME:-/usr/share/modules}/init/bash" \\',
    "  /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh /etc/profile.d/modules.sh; do",
    "  # shellcheck disable=SC1090 # whichever the node has",
    '  [ ! -r "$define" ] || { . "$define"; break; }',
    "done",
)
#: Not in a file that a line sources: there, only the end of the whole counts.
_ON_FAILURE = (
    'trap \'failed=$? at=$((LINENO - first)); [ "${#BASH_SOURCE[@]}" -gt 1 ] || { '
    'echo "shardsynth: setup: \\`${setup[at]}\\` ended with exit code $failed on $(hostname)" >&2; '
    f"exit {SETUP_FAILED}; }}' ERR"
)

_INERT = "# shellcheck disable=SC2016,SC2034 # for the message below"


def setup_lines(setup: list[str]) -> list[str]:
    """Lines of a batch script that run the site's lines.

    Args:
        setup: Shell lines of the site file; a command of several lines may be spread over several of them.
    """
    lines = [line for entry in setup for line in entry.splitlines()]
    if not lines:
        return []
    define = _DEFINE_MODULE if any(_MODULE.search(line) for line in lines) else ()
    known = f"setup=({' '.join(map(shlex.quote, lines))}) first=$((LINENO + 3))"
    return [
        *define,
        _INERT,
        known,
        "# shellcheck disable=SC2154",
        _ON_FAILURE,
        *lines,
        "trap - ERR",
        "unset setup first",
    ]
