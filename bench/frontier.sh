#!/bin/bash
# The whole Pareto front of a model, from its Hugging Face folder, beside what upstream's tools need to make three
# stock mixes and measure their KL divergence on as many tokens of the same text.
#
#   bench/frontier.sh TEXT [TOKENS] [FOLDER] [MIXES]
#
# TOKENS (8192) held-out ones are scored; FOLDER defaults to make_synthetic's TinyLlama (1.1 B parameters, BF16, made in
# $TMPDIR; wants `make tools`); MIXES defaults to "Q3_K_M Q4_K_M Q5_K_M". Ours: `sintra optimize` without a target, nothing
# known before. Upstream's: convert_hf_to_gguf.py to BF16, llama-imatrix --no-ppl on as many tokens as ours calibrates with,
# llama-quantize for each mix, llama-perplexity for the original's logits and for each mix. Windows of 512 tokens on
# both sides, half of each scored. CSV: tool,step,seconds,cpu_seconds,rss_peak_mib; then the sums.
set -eu
[ $# -ge 1 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
text=$1 tokens=${2:-8192} folder=${3:-} mixes=${4:-Q3_K_M Q4_K_M Q5_K_M}
sintra=${SINTRA:-./sintra} peers=${PEERS:-deps/peers/bin} python=${PYTHON:-deps/python/bin/python}
calibration=32 # windows that optimize calibrates a model of this size with
work=$(mktemp -d "${TMPDIR:-/tmp}/sintra-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
export SINTRA_HOME=$work/home SINTRA_PEERS=$peers
if [ -z "$folder" ]; then
    folder=$work/model
    "${BUILD:-build}/tools/make_synthetic" "$folder" >/dev/null
fi
cat "$folder"/*.safetensors >/dev/null
windows=$(((tokens + 254) / 255))

measured() { # measured TOOL STEP COMMAND...
    python3 - "$@" <<'PY' | tee -a "$work/csv"
import resource, subprocess, sys, time
start = time.monotonic()
done = subprocess.run(sys.argv[3:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
seconds, use = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
if done.returncode:
    sys.exit(f"{sys.argv[1]} failed: {done.stderr.decode()[-2000:]}")
print(f"{sys.argv[1]},{sys.argv[2]},{seconds:.1f},{use.ru_utime + use.ru_stime:.1f},{use.ru_maxrss / 1024:.0f}")
PY
}

echo "tool,step,seconds,cpu_seconds,rss_peak_mib"
measured sintra "complete front" "$sintra" optimize --model "$folder" --corpus "$text" --tokens "$tokens" \
    --out "$work/ours" -q
cp "$work/ours/report.json" "${REPORT:-/dev/null}"
rm -rf "$work/home" "$work/ours"
base=$work/theirs.bf16
measured upstream "safetensors to BF16" "$python" tests/interop/convert_upstream.py "${PRE:-gpt-2}" "$folder" \
    "$work/theirs" bf16
measured upstream "importance matrix" "$peers/llama-imatrix" -m "$base" -f "$text" -o "$work/imatrix.gguf" -c 512 \
    --chunks "$calibration" --no-ppl
measured upstream "the original's logits" "$peers/llama-perplexity" -m "$base" -f "$text" -c 512 --chunks "$windows" \
    --kl-divergence-base "$work/logits"
for mix in $mixes; do
    measured upstream "quantize to $mix" "$peers/llama-quantize" --imatrix "$work/imatrix.gguf" "$base" "$work/x.gguf" \
        "$mix"
    measured upstream "KL divergence of $mix" "$peers/llama-perplexity" -m "$work/x.gguf" --kl-divergence-base \
        "$work/logits" --kl-divergence -c 512 --chunks "$windows"
done
awk -F, '{ wall[$1] += $3; cpu[$1] += $4 } END {
    printf "# sintra %.0f s (CPU %.0f), upstream %.0f s (CPU %.0f): %.2f of its time, %.2f of its CPU time\n",
        wall["sintra"], cpu["sintra"], wall["upstream"], cpu["upstream"], wall["sintra"] / wall["upstream"],
        cpu["sintra"] / cpu["upstream"] }' "$work/csv"
