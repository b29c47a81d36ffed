#!/usr/bin/env bash
# GPU acceptance: proves the tree's routes, ZeRO and recipes on this GPU and times steps against TRL; docs/gpu.md says more.
#
#   benchmarks/gpu_acceptance.sh --quick           one GPU of 80 GB, seven minutes, no network and no weights
#   benchmarks/gpu_acceptance.sh --dry             the same on a CPU with tiny shapes: a test of the script
#   benchmarks/gpu_acceptance.sh [MODEL]           about an hour; MODEL (default Qwen/Qwen2.5-0.5B-Instruct) is verified
#
# Exit code: 0 when every part was run and all is as it must be, else 1; 2 without a GPU.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
python=python3
[ ! -x "$root/.venv/bin/python" ] || python=$root/.venv/bin/python
exec "${PYTHON:-$python}" "$root/benchmarks/gpu_acceptance.py" "$@"
