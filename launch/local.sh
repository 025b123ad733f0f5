#!/usr/bin/env bash
# Several processes on one machine: launch/local.sh PROCESSES RECIPE --data CATALOGUE --set layout.data=PROCESSES ...
# Not needed to train on several accelerators, which one process drives: for trying out what several machines will do.
# With GPUs, process i gets the i-th. SIGTERM and Ctrl-C go to all: they save a checkpoint and leave with 143.
set -uo pipefail
processes=${1:?how many processes?}
shift
port=${PORT:-$((10000 + RANDOM % 20000))}  # below those that Linux hands out itself

pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM INT
for ((i = 0; i < processes; i++)); do
    JAX_LOCAL_DEVICE_IDS=$i diorama train "$@" --coordinator "localhost:$port" --processes "$processes" --process "$i" &
    pids+=($!)
done

status=0
for ((left = processes; left > 0 && status == 0; left--)); do
    wait -n || status=$?
done
case $status in
    0 | 130 | 143) ;;  # told to stop, the others are saving
    *) kill -KILL "${pids[@]}" 2>/dev/null ;;  # they would wait for the one that failed
esac
wait
exit "$status"
