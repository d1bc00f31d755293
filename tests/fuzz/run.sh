#!/bin/sh
# Runs libFuzzer targets, JOBS side by side, each for FUZZ_SECONDS (default 20):
# tests/fuzz/run.sh TALLY PROGRAM...
#
# A target is tests/fuzz/NAME.c with LLVMFuzzerTestOneInput; tests/fuzz/NAME.corpus/ holds inputs to
# begin with, where there are any. An input that crashes, leaks, hangs for 10 s or takes 1 GiB is
# written to $SINTRA_BUILD/fuzz-found and counts as a failure.
set -u

one() { # one TALLY PROGRAM
    name=$(basename "$2")
    corpus=$(mktemp -d "${TMPDIR:-/tmp}/sintra-fuzz.XXXXXX")
    [ ! -d "$HERE/$name.corpus" ] || cp "$HERE/$name.corpus"/* "$corpus/"
    log=$SINTRA_BUILD/logs/fuzz-$name.log
    if (cd "$corpus" && "$2" -max_total_time="${FUZZ_SECONDS:-20}" -timeout=10 -rss_limit_mb=1024 \
        -max_len=65536 -seed=1 -artifact_prefix="$SINTRA_BUILD/fuzz-found/$name-" "$corpus") \
        >"$log" 2>&1 </dev/null; then
        echo "fuzz/$name 1 0 0" >>"$1"
        echo "ok   fuzz/$name: $(sed -nE 's/^Done ([0-9]+) runs.*/\1 inputs/p' "$log")"
    else
        echo "fuzz/$name 0 1 0" >>"$1"
        printf '%s\n' "FAIL fuzz/$name; from $log:
$(grep -v -e '^#' -e NEW "$log" | tail -n 40 | sed 's/^/    /')"
    fi
    rm -rf "$corpus"
}

HERE=$(realpath "$(dirname "$0")")
export HERE
if [ "$1" = --one ]; then
    one "$2" "$3"
    exit
fi
tally=$(realpath -m "$1")
shift
mkdir -p "$SINTRA_BUILD/fuzz-found" "$SINTRA_BUILD/logs"
printf '%s\n' "$@" | xargs -P "${JOBS:-2}" -I{} "$0" --one "$tally" {}
! awk '$3 > 0 { bad = 1 } END { exit !bad }' "$tally"
