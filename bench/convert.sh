#!/bin/sh
# Hugging Face folder → BF16 GGUF beside `cp` of the same bytes and upstream's converter.
#
#   bench/convert.sh [RUNS] [PROGRAM]
#
# The folder is make_synthetic's TinyLlama (1.1 B parameters, 2.2 GB), made in $TMPDIR and read once before. Each run
# is `cp` and fsync, then `sintra convert` (which syncs too), then, with `make peers`, convert_hf_to_gguf.py with
# the same output type. CSV: tool, run, seconds, CPU seconds, peak memory in MiB; then medians and ratios.
set -eu
runs=${1:-5} sintra=$(realpath "${2:-./sintra}") root=$(pwd)
build=${BUILD:-build}
[ -x "$build/tools/make_synthetic" ] || { echo "make tools first" >&2; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$build/tools/make_synthetic" "$dir/model"
cat "$dir"/model/* >/dev/null
sync

timed() { # timed TOOL RUN COMMAND...
    python3 - "$@" <<'PYTHON' | tee -a "$dir/csv"
import resource, subprocess, sys, time
start = time.monotonic()
done = subprocess.run(sys.argv[3:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
seconds, use = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
if done.returncode:
    sys.exit(done.stdout.decode()[-2000:])
print(f"{sys.argv[1]},{sys.argv[2]},{seconds:.2f},{use.ru_utime + use.ru_stime:.2f},{use.ru_maxrss / 1024:.0f}")
PYTHON
    rm -f "$dir"/out.*
    sync
}

python=$root/deps/python/bin/python
[ -x "$python" ] || python=python3
echo "tool,run,seconds,cpu_seconds,rss_peak_mib"
for run in $(seq "$runs"); do
    timed cp "$run" sh -c "cp '$dir/model/model.safetensors' '$dir/out.cp' && sync '$dir/out.cp'"
    timed sintra "$run" "$sintra" convert "$dir/model" -o "$dir/out.gguf" --type BF16 -q
    [ ! -e "$root/deps/peers/bin/convert_hf_to_gguf.py" ] ||
        timed upstream "$run" env "SINTRA_PEERS=$root/deps/peers/bin" "$python" \
            "$root/tests/interop/convert_upstream.py" llama-bpe "$dir/model" "$dir/out.theirs" bf16
done
for tool in cp sintra upstream; do
    for column in 3 4; do
        grep "^$tool," "$dir/csv" | cut -d, -f$column | sort -n |
            awk -v t="$tool" '{ v[NR] = $1 } END { if (NR) print t, v[int((NR + 1) / 2)] }'
    done
done | awk '{ if (!($1 in wall)) wall[$1] = $2; else cpu[$1] = $2 }
    END {
        printf "# medians: cp %.2f s, sintra %.2f s (%.2f of cp)", wall["cp"], wall["sintra"], wall["sintra"] / wall["cp"]
        if ("upstream" in wall)
            printf ", upstream %.2f s (%.1f times sintra; CPU %.1f times)", wall["upstream"],
                wall["upstream"] / wall["sintra"], cpu["upstream"] / cpu["sintra"]
        print ""
    }'
