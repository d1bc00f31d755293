# A model of the hub: pulled, found in the cache, used by name, used offline.
. "$CASES/../hub_server.sh"
cache=$HOME/.cache/huggingface/hub
hub_model acme/tiny-story-7M
mkdir hub/acme/tiny-story-7M/onnx
echo x >hub/acme/tiny-story-7M/onnx/model.onnx
echo x >hub/acme/tiny-story-7M/pytorch_model.bin
hub_model acme/embedder
mkdir hub/acme/embedder/1_Pooling hub/acme/embedder/2_Dense
echo '[]' >hub/acme/embedder/modules.json
echo '{}' | tee hub/acme/embedder/1_Pooling/config.json >hub/acme/embedder/2_Dense/config.json
hub_start
sintra pull acme/tiny-story-7M
echo "-- what was asked"
hub_requests
echo "-- what is there"
(cd "$cache" && find . -name '*.lock' -prune -o \( -type f -o -type l \) -printf '%p %l\n' | sort)
cat "$cache/models--acme--tiny-story-7M/refs/main" && echo
echo "-- the same bytes"
snapshot=$(sintra pull acme/tiny-story-7M --json | sed -n 's/.*"path": "\(.*\)",/\1/p')
for f in config.json model.safetensors tokenizer.json; do
    cmp "$snapshot/$f" "hub/acme/tiny-story-7M/$f" && echo "$f"
done
: >requests
echo "-- again"
sintra pull acme/tiny-story-7M
hub_requests
echo "-- by its commit: no request"
sintra pull "acme/tiny-story-7M@$(cat "$cache/models--acme--tiny-story-7M/refs/main")"
hub_requests
echo "-- by its commit, of which only a part was fetched"
rm "$snapshot"/*token*
sintra pull "acme/tiny-story-7M@${snapshot##*/}" --json | grep '"files'
hub_requests
rm "$snapshot"/*token*
HF_HUB_OFFLINE=1 sintra pull "acme/tiny-story-7M@${snapshot##*/}" --json | grep '"files'
sintra pull acme/tiny-story-7M -q >out
: >requests
echo "-- as a model"
sintra convert acme/tiny-story-7M@v1.0 -o a.gguf --type q8_0 --json | grep '"name"'
sintra convert "$SINTRA_ROOT/models/sample" -o b.gguf --type q8_0 --json >b.json
sintra inspect a.gguf --json | grep -m1 '"name"'
echo "-- a folder of that name comes first"
mkdir -p acme
cp -r "$SINTRA_ROOT/models/sample" acme/tiny-story-7M
: >requests
sintra inspect acme/tiny-story-7M --json | grep -m1 '"name"'
rm -rf acme
hub_requests
echo "-- how an embedding model pools"
sintra pull acme/embedder --json >e.json
(cd "$cache/models--acme--embedder/snapshots" && find . -path '*ool*' -type l -printf '%f %l\n' && find . -name modules.json -printf '%f\n')
ls "$cache"/models--acme--embedder/snapshots/*/1_Pooling/config.json | wc -l
hub_stop
echo "-- offline"
HF_HUB_OFFLINE=1 sintra pull acme/tiny-story-7M
echo "-- a hub that does not answer"
sintra pull acme/tiny-story-7M
echo "-- a cache that can only be read"
chmod -R a-w "$cache"
HF_HUB_OFFLINE=1 sintra inspect acme/tiny-story-7M --json | grep -m1 '"name"'
chmod -R u+w "$cache"
