#!/usr/bin/env bash
# Install Slurm from Debian's packages if this is root on Debian and it takes less than two minutes; else say why not.
# Never fails: without Slurm its test is skipped.
if command -v slurmctld > /dev/null; then
  echo "Slurm is installed"
elif [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  echo "no Slurm: this is not root on Debian; its test is skipped"
else
  export DEBIAN_FRONTEND=noninteractive
  packages="slurmctld slurmd slurm-client munge"
  timeout 120 sh -c "apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages" \
    > "$(mktemp)" 2>&1 || echo "no Slurm: apt-get could not install it; its test is skipped"
fi
