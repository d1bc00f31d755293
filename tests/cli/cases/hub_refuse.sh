# What the hub does not give, each with what to do about it.
. "$CASES/../hub_server.sh"
try() {
    echo "\$ sintra $*" >&2
    code=0
    sintra "$@" >out || code=$?
    cat out
    echo "exit $code" >&2
}
hub_model acme/open
hub_model acme/gated
echo '{"gated":true}' >hub/acme/gated.json
hub_model acme/secret
echo '{"private":true}' >hub/acme/secret.json
hub_model acme/new-name
echo '{"moved_to":"acme/new-name"}' >hub/acme/old-name.json
mkdir hub/acme/pickle hub/acme/ggufs hub/acme/data
cp hub/acme/open/config.json hub/acme/pickle/
echo x >hub/acme/pickle/pytorch_model.bin
for type in Q4_K_M Q8_0 F16-00001-of-00002 F16-00002-of-00002; do echo "$type" >hub/acme/ggufs/m-$type.gguf; done
echo x >hub/acme/data/data.csv
mkdir hub/acme/adapter hub/acme/other
cp hub/acme/open/*.json hub/acme/other/
cp hub/acme/open/model.safetensors hub/acme/adapter/adapter_model.safetensors
cp hub/acme/open/model.safetensors hub/acme/other/consolidated.safetensors
hub_start
try pull acme/none
try pull acme/open@nope
try pull acme/gated
export HF_TOKEN=hf_noaccess
try pull acme/gated
try pull acme/secret
HF_TOKEN=hf_bad
try pull acme/open
HF_TOKEN=hf_good
: >requests
try pull acme/gated --json
grep cdn requests | sort -u
grep -c 'hub.*token=yes' requests
unset HF_TOKEN
try pull acme/old-name
try pull acme/pickle
try pull acme/data
try pull acme/adapter
try pull acme/other
try pull acme/ggufs
try pull acme/ggufs:Q5_K_M
try pull acme/open:Q4_K_M
: >requests
try pull acme/ggufs:q8_0
try pull acme/ggufs:F16
grep cdn requests | sort
try inspect acme/none
HF_ENDPOINT=$HF_ENDPOINT/elsewhere HF_TOKEN=hf_good try pull acme/open
HF_ENDPOINT=$HF_ENDPOINT/elsewhere HF_TOKEN=hf_good try hf status
grep -c 'cdn.*api' requests
HF_HUB_OFFLINE=1 try pull acme/secret
hub_stop
try pull acme/secret
for bad in plain ../x a/b/c a/.. 'a/b@' 'a/b@../x' 'a/b:' '-a/b' 'a--b/c'; do try pull -- "$bad"; done
HF_ENDPOINT=ftp://x try pull a/b
HF_ENDPOINT=http://me:pw@127.0.0.1:9 try pull a/b
HF_HUB_DOWNLOAD_TIMEOUT=soon try pull a/b
HF_TOKEN='two words' try pull a/b
