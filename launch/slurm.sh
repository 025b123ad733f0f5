#!/bin/bash
# sbatch --nodes=2 --gpus-per-node=8 launch/slurm.sh RECIPE --data CATALOGUE --out RUN --set layout.fsdp=16 ...
# All after the script's name goes to `diorama train`; options of sbatch stand before it and win over these.
#SBATCH --job-name=diorama
#SBATCH --nodes=2
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --mem=0
#SBATCH --time=24:00:00

# One process a node, which drives all its GPUs.
#SBATCH --ntasks-per-node=1

# Five minutes before the time is up SIGTERM goes to the processes (with B: it would go to this script alone).
#SBATCH --signal=TERM@300
#SBATCH --requeue

# One log for all starts.
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append

# Under SLURM JAX gives a process the one GPU of its number on the node, unless told which.
export JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((${SLURM_GPUS_ON_NODE:-1} - 1)))
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/diorama/xla}
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-.92}
export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_enable_latency_hiding_scheduler=true"

# srun takes no --cpus-per-task from sbatch since SLURM 22.05. The first process to fail ends the others.
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=1 diorama train "$@" --coordinator auto
code=$?

# 143: told to stop, with a checkpoint. `scancel` ends this script too, so that nothing comes back.
[ "$code" -eq 143 ] && scontrol requeue "$SLURM_JOB_ID"
exit "$code"
