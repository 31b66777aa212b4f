#!/usr/bin/env bash
# Test with several processes: tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# On several machines run it on each, with NNODES, NODE_RANK and MASTER_ADDR set. On a machine
# without a GPU, GPUS is the number of CPU processes.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [options of tools/test.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
GPUS=$3

# torchrun prints a page of its own after the line by which a process says what is wrong.
FRLR_ERROR_FILE=$(mktemp)
export FRLR_ERROR_FILE
trap 'rm -f "$FRLR_ERROR_FILE"' EXIT

PYTHONPATH="$(dirname "$0")/..:${PYTHONPATH:-}" \
python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" \
    "$(dirname "$0")/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}" || {
    status=$?
    cat "$FRLR_ERROR_FILE" >&2
    exit $status
}
