#!/bin/sh
# In a script: one JSON document on stdout, everything else on stderr, and exit codes that mean something.
# --mock simulates the measurements, so this takes a second.
set -e
sintra optimize --mock --target-bpw 4.5 --out result --json -q >result.json
grep '"status"' result.json

code=0
sintra optimize --target-size 100kB --json -q >impossible.json || code=$?
case $code in
0) echo "targets met" ;;
3) echo "not possible:" && grep '"reason"' impossible.json ;;
130) echo "interrupted: sintra optimize --resume goes on" ;;
*) echo "failed with $code" ;;
esac
