#!/usr/bin/env bash
# GPU acceptance: proves the tree's routes on this GPU, then times a training step against TRL; prints docs/gpu.md's table.
#
#   benchmarks/gpu_acceptance.sh [MODEL]          about an hour on one GPU; MODEL (default Qwen/Qwen2.5-0.5B-Instruct)
#                                                 is what the routes are compared on, the timings use random weights
#   SIZES=tiny SHAPES=64:16 VERIFY=no benchmarks/gpu_acceptance.sh      a test of the script on a machine without a GPU
#
# Exit code: 0; 1 when a route or a loss differs. Full fine-tuning is tried where 16 bytes a weight (float32 weights,
# gradients, AdamW's two moments) take at most 80 % of the GPU's memory. A line that does not fit says so and the rest go
# on. Every line is kept in RESULTS as JSON.
set -u -o pipefail
cd "$(dirname "$0")/.."
MODEL=${1:-Qwen/Qwen2.5-0.5B-Instruct}
PYTHON=${PYTHON:-python}
SIZES=${SIZES:-0.5B 1.5B 7B}
SHAPES=${SHAPES:-1024:256 512:512 256:1024}
PAIRS=${PAIRS:-4}
RESULTS=${RESULTS:-gpu_acceptance.jsonl}
status=0

if [ "${VERIFY:-yes}" = yes ]; then
  "$PYTHON" -c 'import torch; raise SystemExit(not torch.cuda.is_available())' ||
    { echo "gpu_acceptance: there must be a CUDA device, but torch sees none" >&2; exit 2; }
  for compute in float32 bfloat16; do
    echo "## align verify $MODEL --compute $compute"
    align verify "$MODEL" --compute "$compute" || { echo "verify failed in $compute: exit code $?"; status=1; }
  done
fi

: > "$RESULTS"
for size in $SIZES; do
  for tune in lora full; do
    for shape in $SHAPES; do
      for arm in TRL ours; do
        echo "$size $tune $shape $arm" >&2
        "$PYTHON" benchmarks/gpu_step.py --size "$size" --tune "$tune" --shape "$shape" --arm "$arm" --pairs "$PAIRS" \
          >> "$RESULTS" || {
          code=$?
          status=1
          printf '{"size": "%s", "tune": "%s", "shape": "%s", "arm": "%s", "pairs": %s, "forward": "tree", ' \
            "$size" "$tune" "$shape" "$arm" "$PAIRS" >> "$RESULTS"
          printf '"not_measured": "exit code %s"}\n' "$code" >> "$RESULTS"
        }
      done
    done
  done
done
"$PYTHON" benchmarks/gpu_table.py "$RESULTS" || status=1
exit "$status"
