#!/usr/bin/env bash
# End what start.sh began in the folder $1; only processes whose numbers stand there.
folder=$(realpath "$1")
for pid in "$folder"/slurmd.pid "$folder"/slurmctld.pid "$folder"/munge/pid; do
  if [ -f "$pid" ]; then
    number=$(cat "$pid")
    kill "$number"
    for _ in $(seq 50); do
      kill -0 "$number" 2> "$folder/stop.log" || break
      sleep 0.1
    done
  fi
done
