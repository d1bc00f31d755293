#!/bin/sh
# Hugging Face folder -> quantized GGUF, whole processes: ours in one step, upstream's two steps.
#
#   bench/e2e.sh FOLDER [TYPE] [SCRATCH]          (default Q4_K_M, /tmp; after make and make peers)
#
# CSV: tool,step,seconds,cpu_seconds,rss_peak_mib. Upstream's steps are convert_hf_to_gguf.py to BF16 (which
# wants a Python with its packages: PYTHON, default deps/python) and llama-quantize with all threads.
# Ours syncs the file to disk before it ends, theirs do not. PRE names the tokenizer for upstream's converter.
set -eu
folder=$1 type=${2:-Q4_K_M} scratch=${3:-/tmp}
sintra=${SINTRA:-./sintra}
peers=${PEERS:-deps/peers/bin}
python=${PYTHON:-deps/python/bin/python}
home=$(mktemp -d)
trap 'rm -rf "$home"; rm -f "$scratch"/e2e.*' EXIT
export SINTRA_HOME="$home" SINTRA_PEERS="$peers"

measured() { # measured TOOL STEP COMMAND...
    python3 - "$@" <<'PY'
import resource, subprocess, sys, time
start = time.monotonic()
done = subprocess.run(sys.argv[3:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
seconds, use = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
if done.returncode:
    sys.exit(f"{sys.argv[1]} failed: {done.stderr.decode()[-2000:]}")
print(f"{sys.argv[1]},{sys.argv[2]},{seconds:.2f},{use.ru_utime + use.ru_stime:.2f},{use.ru_maxrss / 1024:.0f}")
PY
}

cat "$folder"/*.safetensors >/dev/null # both from the page cache, as far as memory allows
echo "tool,step,seconds,cpu_seconds,rss_peak_mib"
measured sintra "safetensors to $type" "$sintra" quantize "$folder" --type "$type" --output "$scratch/e2e.ours.gguf"
measured upstream "safetensors to BF16" "$python" tests/interop/convert_upstream.py "${PRE:-gpt-2}" \
    "$folder" "$scratch/e2e.theirs" bf16
measured upstream "BF16 to $type" "$peers/llama-quantize" "$scratch/e2e.theirs.bf16" \
    "$scratch/e2e.theirs.gguf" "$type"
ls -l "$scratch/e2e.ours.gguf" "$scratch/e2e.theirs.gguf" | awk '{ print "# " $5 " bytes " $9 }'
