#!/bin/sh
# Start-up time: bench/startup.sh [PROGRAM]. CSV: command, median and worst of 21 runs in milliseconds.
set -eu
sintra=${1:-./sintra}
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export SINTRA_HOME="$home"
echo "command,median_ms,worst_ms"
for command in "--help" "runs" "version"; do
    for i in $(seq 21); do
        begin=$(date +%s%N)
        "$sintra" $command >/dev/null
        end=$(date +%s%N)
        echo $(((end - begin) / 1000))
    done | sort -n | awk -v c="$command" '{ t[NR] = $1 } END { printf "%s,%.1f,%.1f\n", c, t[11] / 1000, t[NR] / 1000 }'
done
