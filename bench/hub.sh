#!/bin/sh
# Download speed beside curl's, from a server on this machine: bench/hub.sh [MIB] [RUNS]
#
# One large file of MIB (default 1024) is fetched into a folder in memory, by turns: `sintra pull`,
# which verifies it; curl, which does not; curl and then sha256sum, the same work as pull. The
# server is tests/tools/hub_server.c (sendfile). CSV: what, seconds (median of RUNS, default 5),
# MiB/s. BENCH_DIR is where the files go (default /dev/shm).
set -eu
mib=${1:-1024} runs=${2:-5}
root=$(cd "$(dirname "$0")/.." && pwd)
sintra=${SINTRA:-$root/sintra} server=${SINTRA_BUILD:-$root/build}/tools/hub_server
dir=$(mktemp -d "${BENCH_DIR:-/dev/shm}/sintra-hub.XXXXXX")
trap 'exec 9>&-; rm -rf "$dir"' EXIT
mkdir -p "$dir/hub/bench/model"
cp "$root"/models/sample/*.json "$dir/hub/bench/model/"
openssl enc -aes-128-ctr -pass pass:sintra -nosalt -pbkdf2 </dev/zero 2>/dev/null |
    head -c "${mib}M" >"$dir/hub/bench/model/model.safetensors"
mkfifo "$dir/keep"
"$server" "$dir/hub" "$dir/ports" <"$dir/keep" &
exec 9>"$dir/keep"
while [ ! -s "$dir/ports" ]; do sleep 0.1; done
HF_ENDPOINT=http://127.0.0.1:$(cut -d' ' -f1 "$dir/ports")
export HF_ENDPOINT HF_HUB_CACHE="$dir/cache"
url=$HF_ENDPOINT/bench/model/resolve/main/model.safetensors
curl -sfI "$HF_ENDPOINT/api/models/bench/model" >/dev/null # the server hashes its files now

pull() { "$sintra" pull -q bench/model >/dev/null; }
plain() { curl -sfL -o "$dir/out" "$url"; }
checked() { curl -sfL -o "$dir/out" "$url" && sha256sum "$dir/out" >/dev/null; }
timed() { # timed NAME: one run
    rm -rf "$dir/cache" "$dir/out"
    begin=$(date +%s%N)
    "$1"
    echo "$1 $((($(date +%s%N) - begin) / 1000))" >>"$dir/times"
}
for i in $(seq "$runs"); do
    for what in pull plain checked; do timed $what; done
done
echo "what,seconds,mib_per_s"
for what in pull plain checked; do
    grep "^$what " "$dir/times" | cut -d' ' -f2 | sort -n | awk -v w="$what" -v m="$mib" '
        BEGIN { n["pull"] = "sintra pull (verified)"; n["plain"] = "curl"; n["checked"] = "curl and sha256sum" }
        { t[NR] = $1 / 1e6 }
        END { s = t[int((NR + 1) / 2)]; printf "%s,%.2f,%.0f\n", n[w], s, m / s }'
done
