#!/bin/sh
# Runs libFuzzer targets, each for FUZZ_SECONDS (default 20): tests/fuzz/run.sh TALLY PROGRAM...
#
# A target is tests/fuzz/NAME.c with LLVMFuzzerTestOneInput; tests/fuzz/NAME.corpus/ holds inputs to
# begin with, where there are any. An input that crashes, leaks, hangs for 10 s or takes 1 GiB is
# written to $SINTRA_BUILD/fuzz-found and counts as a failure.
set -u
here=$(dirname "$0")
tally=$1
shift
found=$SINTRA_BUILD/fuzz-found
mkdir -p "$found" "$SINTRA_BUILD/logs"
passed=0 failed=0
for program; do
    name=$(basename "$program")
    corpus=$(mktemp -d "${TMPDIR:-/tmp}/sintra-fuzz.XXXXXX")
    [ ! -d "$here/$name.corpus" ] || cp "$here/$name.corpus"/* "$corpus/"
    log=$SINTRA_BUILD/logs/fuzz-$name.log
    if (cd "$corpus" && "$program" -max_total_time="${FUZZ_SECONDS:-20}" -timeout=10 \
        -rss_limit_mb=1024 -max_len=65536 -seed=1 -artifact_prefix="$found/$name-" "$corpus") \
        >"$log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        echo "ok   fuzz/$name: $(sed -nE 's/^Done ([0-9]+) runs.*/\1 inputs/p' "$log")"
    else
        failed=$((failed + 1))
        echo "FAIL fuzz/$name; from $log:"
        grep -v -e '^#' -e NEW "$log" | tail -n 40 | sed 's/^/    /'
    fi
    rm -rf "$corpus"
done
echo "fuzz $passed $failed 0" >>"$tally"
[ $failed = 0 ]
