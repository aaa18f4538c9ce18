#!/usr/bin/env bash
# torch 2.13.0 on a CPU with AMX (amx_bf16: Intel Xeon of the fourth generation and later).
#
# The bfloat16 product of a view reads one column beyond the view: torch gives oneDNN a row stride, the AMX kernel works
# on pairs of columns, and an odd number of columns is filled up with what lies next in memory, times zero. A finite
# number there changes nothing; a NaN (or an infinity) there makes outputs of that row NaN. The product of a copy of the
# view, of an even number of columns, in float32, and on the same CPU held to AVX512 are right.
#
# Seen: of 64 x 20 outputs, 17 columns of 100 used, NaN beyond them: 640 are NaN; of the copy: 0.
# Exits 0 where this is still so, 1 where it changed, and 0 with a word where the CPU has no AMX.
set -euo pipefail
if ! grep -qw amx_bf16 /proc/cpuinfo; then
  echo "this CPU has no amx_bf16: nothing can be seen here"
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/product.py" <<'PY'
import torch

torch.manual_seed(0)
rows, used, width, outputs = 64, 17, 100, 20
wide = torch.full((rows, width), float("nan"), dtype=torch.bfloat16)
wide[:, :used] = torch.randn(rows, used)
weight = torch.randn(used, outputs).bfloat16()
view = wide[:, :used]
print(
    torch.isnan(view @ weight).sum().item(),
    torch.isnan(view.contiguous() @ weight).sum().item(),
    torch.isnan(wide[:, : used - 1] @ weight[:-1]).sum().item(),
    torch.isnan(view.float() @ weight.float()).sum().item(),
)
PY
as_it_is=$("$folder/venv/bin/python" "$folder/product.py")
held=$(ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 "$folder/venv/bin/python" "$folder/product.py")
echo "NaN among 1280 outputs: of the view, of its copy, of one column less, in float32"
echo "with AMX:    $as_it_is"
echo "with AVX512: $held"
[ "$as_it_is" = "640 0 0 0" ] && [ "$held" = "0 0 0 0" ]
