#!/usr/bin/env bash
# Start Slurm on this machine alone: munged, slurmctld and slurmd of Debian's packages, one node, all files in the folder $1.
# No cgroups, no accounting. As root; prints the folder's slurm.conf, to be given to its users as SLURM_CONF.
set -euo pipefail
folder=$(realpath "$1")
host=$(hostname -s)
mkdir -p "$folder"/{munge,state,spool}
chmod 755 "$folder"

head -c 1024 /dev/urandom > "$folder/munge/key"
chmod 700 "$folder/munge"
chmod 400 "$folder/munge/key"
socket="$folder/munge.socket"
/usr/sbin/munged --force --key-file="$folder/munge/key" --socket="$socket" --pid-file="$folder/munge/pid" \
  --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" --num-threads=2

free_ports=$(python3 - <<'PY'
import socket
held = [socket.socket() for _ in range(2)]
for s in held:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in held))
PY
)
read -r controller daemon <<< "$free_ports"

cat > "$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
SlurmdPort=$daemon
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$socket,cred_expire=10
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=100000
MpiDefault=none
ReturnToService=2
MinJobAge=60
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF

export SLURM_CONF="$folder/slurm.conf"
slurmctld -c
slurmd -c
for _ in $(seq 100); do
  if sinfo --noheader --format=%T 2>> "$folder/start.log" | grep -q '^idle'; then
    echo "$SLURM_CONF"
    exit 0
  fi
  sleep 0.2
done
echo "no node is idle:" >&2
tail -n 20 "$folder"/*.log >&2
exit 1
