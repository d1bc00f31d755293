#!/bin/bash
# Rounding with error feedback beside rounding to the nearest: the same mix, bytes, importance matrix
# and text, KL divergence to the original; CSV on stdout.
#
#   bench/feedback.sh CALIBRATION TEXT [MODEL] [PROGRAM] [TYPES]
#
# CALIBRATION and TEXT are UTF-8 files; MODEL is the built-in sample unless given. TOKENS (65536) of
# CALIBRATION are read, SCORED (16384) positions of TEXT are scored, in windows of CONTEXT (256).
set -eu
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
calibration=$1 text=$2 model=${3:-sample}
sintra=${4:-./sintra}
types=${5:-Q2_K IQ3_S Q3_K_M IQ4_XS Q4_K_M Q5_K_M Q6_K}
work=$(mktemp -d "${TMPDIR:-/tmp}/sintra-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
export SINTRA_HOME=$work/home
context="-c ${CONTEXT:-256}"

kld() { # kld FILE
    $sintra eval "$1" --reference "$model" --corpus "$text" --tokens "${SCORED:-16384}" $context -q --json |
        sed -nE 's/.*"kld_mean": ([-+0-9.e]+).*/\1/p'
}

$sintra calibrate "$model" -o "$work/imatrix" --factors "$work/factors" --corpus "$calibration" \
    --tokens "${TOKENS:-65536}" $context -q >/dev/null
echo 'type,bytes,kld_nearest,kld_feedback,ratio'
for type in $types; do
    $sintra quantize "$model" -o "$work/a.gguf" --type "$type" --imatrix "$work/imatrix" -q >/dev/null
    $sintra quantize "$model" -o "$work/b.gguf" --type "$type" --imatrix "$work/imatrix" \
        --factors "$work/factors" -q >/dev/null
    nearest=$(kld "$work/a.gguf") fed=$(kld "$work/b.gguf")
    echo "$type,$(stat -c %s "$work/b.gguf"),$nearest,$fed,$(echo "$fed $nearest" | awk '{ printf "%.3f", $1 / $2 }')"
done
