# Killed and interrupted downloads go on where they were.
. "$CASES/../hub_server.sh"
cache=$HOME/.cache/huggingface/hub
mkdir -p hub/acme/big
cp "$SINTRA_ROOT"/models/sample/*.json hub/acme/big/
cp "$SINTRA_ROOT"/models/sample/model.safetensors hub/acme/big/
chmod -R u+w hub
# More than two chunks, each of which another connection fetches.
for i in 1 2 3; do cat "$SINTRA_ROOT"/models/sample/model.safetensors; done >>hub/acme/big/model.safetensors
total=$(stat -c %s hub/acme/big/model.safetensors)
arrived() { # arrived KIB: has the large partial file so much?
    have=$(du -k "$cache"/models--acme--big/blobs/*.sintra.incomplete 2>/dev/null | cut -f1 | sort -n | tail -n 1)
    [ "${have:-0}" -ge "$1" ]
}
wait_for() {
    n=0
    while ! arrived "$1" && [ $n -lt 400 ]; do
        sleep 0.05
        n=$((n + 1))
    done
}
hub_start slow=2000000
sintra pull acme/big --json >out 2>err &
pid=$!
wait_for 4000
kill -9 $pid
wait $pid 2>/dev/null || echo "killed"
ls "$cache"/models--acme--big/blobs | grep -c incomplete
sintra pull acme/big --json >out 2>err &
pid=$!
wait_for 12000
kill -INT $pid
code=0
wait $pid || code=$?
echo "exit $code"
cat err
hub_stop
hub_start
sintra pull acme/big --json >out
fetched=$(sed -n 's/.*"bytes_fetched": \([0-9]*\),/\1/p' out)
[ "$fetched" -lt $((total - 11000000)) ] && echo "the rest only"
cmp "$cache"/models--acme--big/snapshots/*/model.safetensors hub/acme/big/model.safetensors && echo same
ls "$cache"/models--acme--big/blobs | grep -c incomplete
grep -q 'cdn.*bytes=' requests && echo "by ranges"
hub_stop
echo "-- a server that ignores ranges, and breaks off once"
rm -rf "$cache"
hub_start norange truncate=1
sintra pull -q acme/big --json | grep '"files'
cmp "$cache"/models--acme--big/snapshots/*/model.safetensors hub/acme/big/model.safetensors && echo same
hub_stop
echo "-- wrong bytes in a part that a killed program left"
rm -rf "$cache"
hub_start slow=2000000
sintra pull acme/big --json >out 2>err &
pid=$!
wait_for 4000
kill -9 $pid
wait $pid 2>/dev/null || echo killed
hub_stop
printf x | dd of="$(ls "$cache"/models--acme--big/blobs/*.sintra.incomplete | grep -E '/[0-9a-f]{64}')" bs=1 seek=100 conv=notrunc 2>/dev/null
hub_start
sintra pull -q acme/big --json | grep '"files'
cmp "$cache"/models--acme--big/snapshots/*/model.safetensors hub/acme/big/model.safetensors && echo same
hub_stop
echo "-- a part that a killed program left, written over by a server that ignores ranges"
rm -rf "$cache"
hub_start slow=20000000
sintra pull acme/big --connections 1 --json >out 2>err &
pid=$!
wait_for 20000 # more than a chunk, which is 16 MiB
kill -9 $pid
wait $pid 2>/dev/null || echo killed
hub_stop
hub_start norange wrong=1
sintra pull -q acme/big --json | grep '"files'
cmp "$cache"/models--acme--big/snapshots/*/model.safetensors hub/acme/big/model.safetensors && echo same
hub_stop
