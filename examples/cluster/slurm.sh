#!/usr/bin/env bash
# A sweep as a Slurm job:  TRACERANK_STORAGE=/shared/runs sbatch slurm.sh sweep.yaml ID
#
# Ray starts on every node of the job, and ends with it. Given the same ID again, after the time
# limit or a failure, the sweep goes on from what is stored. Then, on any machine that reaches the
# storage:  tracerank fetch ID --storage /shared/runs
#
# The directory it is sent from must be one that every node sees, and the first `python` on the path
# one that has tracerank[cluster].
#SBATCH --job-name=tracerank
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
# At its end Ray ends all Ray processes of yours on these nodes, not only its own: so no other job.
#SBATCH --exclusive
set -euo pipefail

usage="usage: TRACERANK_STORAGE=URI sbatch slurm.sh CONFIG ID"
config=$(realpath -e -- "${1:?$usage}")
id=${2:?$usage}
storage=${TRACERANK_STORAGE:?$usage}

# The address of the first node that the others reach; its name may mean itself alone there.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
read -r address _ < <(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname -I)
port=$((20000 + SLURM_JOB_ID % 10000))

# Without a token, whoever reaches these nodes could run what they like there, as you. The
# environment carries it to the tasks, where nobody else reads it.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
unset RAY_ADDRESS
export RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID"
export RAY_USAGE_STATS_ENABLED=0
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

# Where Ray doesn't start, symmetric-run ends with 0 all the same: so the driver says that it ended.
ended=$(mktemp)
trap 'rm -f "$ended"' EXIT

srun --kill-on-bad-exit=0 \
    ray symmetric-run --address "$address:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --include-dashboard false --disable-usage-stats \
    -- bash -c 'code=0; "${@:2}" || code=$?; echo "$code" > "$1"; exit "$code"' driver "$ended" \
    python -m sweeps.jobs.driver --id "$id" --attempt "slurm-$SLURM_JOB_ID" \
    --storage "$storage" --config "$config" || true

[ -s "$ended" ] || { echo "slurm.sh: Ray didn't start, see above" >&2; exit 1; }
exit "$(cat "$ended")"
