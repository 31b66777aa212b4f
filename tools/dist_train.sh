#!/usr/bin/env bash
# Train with several processes: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# On several machines run it on each, with NNODES, NODE_RANK and MASTER_ADDR set. On a machine
# without a GPU, GPUS is the number of CPU processes.
# With MAX_RESTARTS set, and --resume among the options, a job of which a process dies starts again
# and goes on from its last checkpoint, at most so many times.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [options of tools/train.py]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
PORT=${PORT:-29500}

if [ -n "${MAX_RESTARTS:-}" ]; then
    RENDEZVOUS=(
        --max_restarts="$MAX_RESTARTS"
        --rdzv_backend=c10d
        --rdzv_endpoint="$MASTER_ADDR:$PORT"
        --rdzv_id="frlr_mm-$PORT"
    )
    # One machine needs no name that others can find.
    [ "${NNODES:-1}" != 1 ] || RENDEZVOUS+=(--local_addr="$MASTER_ADDR")
    # torchrun's shared store outlives the processes: those that start again may find addresses of
    # dead ones in it, and a machine that joins again none at all (pytorch/pytorch#135712).
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
else
    RENDEZVOUS=(
        --node_rank="${NODE_RANK:-0}"
        --master_addr="$MASTER_ADDR"
        --master_port="$PORT"
    )
fi

# torchrun prints a page of its own after the line by which a process says what is wrong.
FRLR_ERROR_FILE=$(mktemp)
export FRLR_ERROR_FILE
trap 'rm -f "$FRLR_ERROR_FILE"' EXIT

PYTHONPATH="$(dirname "$0")/..:${PYTHONPATH:-}" \
python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    "${RENDEZVOUS[@]}" \
    --nproc_per_node="$GPUS" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "${@:3}" || {
    status=$?
    cat "$FRLR_ERROR_FILE" >&2
    exit $status
}
