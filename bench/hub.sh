#!/bin/bash
# Download speed beside curl's, from a server on this machine: bench/hub.sh [MIB] [RUNS]
#
# One large file of MIB (default 1024) is fetched into a folder in memory, by turns: `sintra pull`,
# which verifies it; curl, which does not; curl and then sha256sum, the same work as pull. The
# server is tests/tools/hub_server.c (sendfile). CSV: medians of RUNS (default 5) of seconds, MiB/s,
# processor seconds (user and system) of the client and of the server; then the least seconds of any
# run, which on a machine with other work says more. BENCH_DIR is where the files go (default
# /dev/shm). Before each run as much memory is taken and freed again as it needs, since a virtual
# machine may have to ask its host for memory, which costs several times the download.
set -eu
TIMEFORMAT='%R %U %S'
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
server_pid=$!
exec 9>"$dir/keep"
while [ ! -s "$dir/ports" ]; do sleep 0.1; done
HF_ENDPOINT=http://127.0.0.1:$(cut -d' ' -f1 "$dir/ports")
export HF_ENDPOINT HF_HUB_CACHE="$dir/cache"
url=$HF_ENDPOINT/bench/model/resolve/main/model.safetensors
curl -sfI "$HF_ENDPOINT/api/models/bench/model" >/dev/null # the server hashes its files now

pull() { "$sintra" pull -q bench/model >/dev/null; }
plain() { curl -sfL -o "$dir/out" "$url"; }
checked() { curl -sfL -o "$dir/out" "$url" && sha256sum "$dir/out" >/dev/null; }
served() { awk '{ print $14 + $15 }' "/proc/$server_pid/stat"; } # processor time in hundredths
timed() { # timed NAME: one run
    rm -rf "$dir/cache" "$dir/out"
    head -c "$((mib + 100))M" /dev/zero >"$dir/warm"
    rm "$dir/warm"
    before=$(served)
    echo "$1 $({ time "$1"; } 2>&1) $(($(served) - before))" >>"$dir/times"
}
least() { awk -v w="$1" '$1 == w && (!n++ || $2 < t) { t = $2 } END { print t }' "$dir/times"; }
middle() { # middle NAME EXPRESSION: the median of it over the runs of NAME
    awk -v w="$1" '$1 == w { print '"$2"' }' "$dir/times" | sort -n | awk '{ t[NR] = $1 } END { print t[int((NR + 1) / 2)] }'
}
# By turns, each as often behind each other: memory that was just freed is cheaper to take.
for i in $(seq "$runs"); do
    case $((i % 6)) in
    0) turns="pull plain checked" ;;
    1) turns="plain pull checked" ;;
    2) turns="checked plain pull" ;;
    3) turns="pull checked plain" ;;
    4) turns="plain checked pull" ;;
    5) turns="checked pull plain" ;;
    esac
    for what in $turns; do timed "$what"; done
done
echo "what,seconds,mib_per_s,cpu_seconds,server_cpu_seconds,least_seconds"
for what in pull plain checked; do
    case $what in
    pull) name="sintra pull (verified)" ;;
    plain) name=curl ;;
    checked) name="curl and sha256sum" ;;
    esac
    awk -v n="$name" -v s="$(middle $what '$2')" -v c="$(middle $what '$3 + $4')" -v m="$mib" \
        -v d="$(middle $what '$5 / 100')" -v l="$(least $what)" \
        'BEGIN { printf "%s,%.2f,%.0f,%.2f,%.2f,%.2f\n", n, s, m / s, c, d, l }'
done
