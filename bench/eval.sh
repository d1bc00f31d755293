#!/bin/bash
# Our eval beside llama-perplexity: same files, same text, same windows, in turns; CSV on stdout.
#
#   bench/eval.sh TEXT [PROGRAM] [TYPES]     TYPES: "Q8_0 Q4_K_M Q2_K"
#
# ppl: perplexity of the file alone. kld: the original's pass and the candidate's pass; upstream needs
# two runs and a file of 16-bit log-probabilities for that. Wall and CPU seconds are the median of RUNS
# (3). CHUNKS windows (160) of CONTEXT tokens (256) of the built-in sample. Wants make peers.
set -eu
[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
text=$1
sintra=${2:-./sintra}
types=${3:-Q8_0 Q4_K_M Q2_K}
root=$(cd "$(dirname "$0")/.." && pwd)
peer=$root/deps/peers/bin/llama-perplexity
runs=${RUNS:-3} chunks=${CHUNKS:-160} context=${CONTEXT:-256}
[ -x "$peer" ] || { echo "no $peer (make peers)" >&2; exit 1; }
work=$(mktemp -d "${TMPDIR:-/tmp}/sintra-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
export SINTRA_HOME=$work/home
TIMEFORMAT='%R %U %S'
scored=$((chunks * (context - 1 - context / 2)))
windows="-c $context --chunks $chunks --no-escape"

timed() { # timed NAME COMMAND...: wall and cpu seconds to NAME.times, output to NAME.out
    local name=$1
    shift
    # stdout and stderr apart: together they would cut each other's lines
    { time "$@" >"$work/$name.out" 2>"$work/$name.err"; } 2>"$work/time"
    cat "$work/$name.err" >>"$work/$name.out"
    awk '{ print $1, $2 + $3 }' "$work/time" >>"$work/$name.times"
}

median() { # median FILE COLUMN
    awk -v c="$2" '{ print $c }' "$1" | sort -n | awk '{ t[NR] = $1 } END { print t[int((NR + 1) / 2)] }'
}

row() { # row TYPE WHAT PROGRAM VALUE NAME
    echo "$1,$2,$3,$4,$(median "$work/$5.times" 1),$(median "$work/$5.times" 2)"
}

value() { # value JSON-KEY FILE
    tr ',{}' '\n\n\n' <"$2" | sed -n "s/^ *\"$1\": *\([0-9.e+-]*\).*/\1/p" | head -n 1
}

# shellcheck disable=SC2086 # $windows is several words
upstream_kld() { # upstream_kld FILE
    rm -f "$work/base"
    "$peer" -m "$work/BF16.gguf" -f "$text" $windows --kl-divergence-base "$work/base" &&
        "$peer" -m "$1" -f "$text" $windows --kl-divergence --kl-divergence-base "$work/base"
}

"$sintra" quantize "$root/models/sample" -o "$work/BF16.gguf" --type BF16 -q >/dev/null
echo "type,what,program,value,wall_s,cpu_s"
for type in $types; do
    file=$work/$type.gguf
    "$sintra" quantize "$root/models/sample" -o "$file" --type "$type" -q >/dev/null
    rm -f "$work"/*.times
    for _ in $(seq "$runs"); do
        timed ours "$sintra" eval "$file" --corpus "$text" -c "$context" --tokens $scored --json -q
        # shellcheck disable=SC2086
        timed theirs "$peer" -m "$file" -f "$text" $windows
        timed ours_kld "$sintra" eval "$file" --reference "$work/BF16.gguf" --corpus "$text" \
            -c "$context" --tokens $scored --json -q
        timed theirs_kld upstream_kld "$file"
    done
    row "$type" ppl sintra "$(value ppl "$work/ours.out")" ours
    row "$type" ppl llama-perplexity \
        "$(sed -n 's/.*Final estimate: PPL = \([0-9.]*\).*/\1/p' "$work/theirs.out")" theirs
    row "$type" kld sintra "$(value kld_mean "$work/ours_kld.out")" ours_kld
    row "$type" kld llama-perplexity \
        "$(sed -n 's/^Mean    KLD: *\([0-9.]*\).*/\1/p' "$work/theirs_kld.out")" theirs_kld
done
