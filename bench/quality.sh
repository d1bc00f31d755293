#!/bin/bash
# The result of `optimize` at the size of each stock mix, beside that mix; CSV on stdout.
#
#   bench/quality.sh CALIBRATION TEXT [MODEL] [EFFORT] [PROGRAM]
#
# Both sides get the importance matrix that the first run makes from CALIBRATION (UTF-8); KL divergence
# is measured on WINDOWS (256) windows of TEXT that neither has seen, 128 scored tokens each for the
# built-in sample. MIXES are the sizes. seconds_ours: the whole run, what earlier sizes have measured
# being reused; seconds_stock: baking the mix. ci_low and ci_high: of the ratio, from the paired
# difference. The last line is the geometric mean of the ratios. Wants `make bench`.
set -eu
[ $# -ge 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
calibration=$1 text=$2 model=${3:-models/sample} effort=${4:-normal}
sintra=${5:-./sintra}
mixes=${MIXES:-Q2_K Q3_K_S IQ3_M Q3_K_M IQ4_XS Q4_K_S Q4_K_M Q5_K_M Q6_K}
work=$(mktemp -d "${TMPDIR:-/tmp}/sintra-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
export SINTRA_HOME=$work/home
TIMEFORMAT=%R

field() { # field NAME: the first number of that name in JSON on stdin
    sed -nE "s/^ *\"$1\": ([0-9.]+),?\$/\1/p" | head -n 1
}

$sintra optimize --model "$model" --corpus "$calibration" --target-bpw 5 --effort "$effort" \
    --out "$work/first" -q >/dev/null
results=
for mix in $mixes; do
    bytes=$($sintra quantize "$model" -o "$work/x.gguf" --type "$mix" \
        --imatrix "$work/first/imatrix.gguf" --dry-run --json | field bytes)
    { time $sintra quantize "$model" -o "$work/x.gguf" --type "$mix" \
        --imatrix "$work/first/imatrix.gguf" -q >/dev/null; } 2>"$work/$mix.stock"
    { time $sintra optimize --model "$model" --corpus "$calibration" --target-size "$bytes" \
        --effort "$effort" --out "$work/$mix" -q >/dev/null; } 2>"$work/$mix.ours"
    rm -f "$work/$mix/imatrix.gguf"
    mv "$work/$mix"/*.gguf "$work/at-$mix.gguf"
    results="$results --result $work/at-$mix.gguf"
done
build/bench/stock_table "$model" "$text" --imatrix "$work/first/imatrix.gguf" $results --no-speed \
    --mixes "$(echo "$mixes" | tr ' ' ',')" --windows "${WINDOWS:-256}" 2>/dev/null >"$work/table"
echo model,size_of,bytes_stock,kld_stock,bytes_ours,kld_ours,ratio,ci_low,ci_high,seconds_ours,seconds_stock
awk -F, -v model="$(basename "$model")" -v work="$work" '
    /^at-/ { bytes[$1] = $2; kld[$1] = $4; next }
    NR > 1 && $15 != "" {
        getline ours < (work "/" $1 ".ours"); getline stock < (work "/" $1 ".stock")
        printf "%s,%s,%d,%s,%d,%s,%.3f,%.3f,%.3f,%s,%s\n", model, $1, $2, $4, bytes[$15], kld[$15],
            kld[$15] / $4, 1 + $17 / $4, 1 + $18 / $4, ours, stock
        sum += log(kld[$15] / $4); n++
    }
    END { printf "# geometric mean %.3f over %d sizes\n", exp(sum / n), n }' "$work/table"
