#!/bin/bash
# Extraction as an array of Slurm jobs, one part each; every node has to see the pictures, the store and this Python.
#
#   sbatch --array=1-64 examples/slurm.sh PHOTOS STORE --config configs/caffe_10_100.yaml --weights weights.safetensors
#   featx status STORE --watch
#
# A task that died, ran out of time or was preempted: submit the same line again. Finished parts end at once, the others
# go on where they stopped. A store keeps the number of parts it was begun with, so keep the 64.
#
#SBATCH --job-name=featx
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:INT@120
#SBATCH --output=featx-%A_%a.log
# The INT, two minutes before the time is over, lets the batch under way be finished and committed.
set -euo pipefail

if [ "${SLURM_ARRAY_TASK_MIN:-1}" != 1 ] && [ -z "${PARTS:-}" ]; then
  echo "the array must begin with 1, or PARTS say how many parts there are: PARTS=64 sbatch --array=7,9 ..." >&2
  exit 2
fi
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
exec featx extract "$@" --part "$SLURM_ARRAY_TASK_ID/${PARTS:-$SLURM_ARRAY_TASK_MAX}"
