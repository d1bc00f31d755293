# A folder to the hub: shown first, sent in one commit, read back.
. "$CASES/../hub_server.sh"
try() {
    echo "\$ sintra $*" >&2
    code=0
    sintra "$@" || code=$?
    echo "exit $code" >&2
}
mkdir -p hub result/sub
cat >result/report.json <<'JSON'
{"out":"/srv/ada/secret plans/result","corpus":"/srv/ada/secret plans/notes.txt",
 "notes":["/srv/ada/secret plans/notes.txt has few tokens"],"model":{"name":"Tiny: \"one\"","architecture":"llama","parameters":7340000,"bytes":14696792,
 "path":"/x/hub/models--acme--tiny/snapshots/0123456789012345678901234567890123456789"},
 "best":{"name":"composed","file":"tiny.gguf","bytes":4131168,"bpw":4.5,
 "score":{"kld_mean":0.00549,"kld_mean_ci95":[0.0052,0.0057],"top1":0.945,"ppl":52.9,"ppl_base":52.8,"tps_decode":100}},
 "stock":[{"name":"Q4_K_M","bytes":4785696,"bpw":5.21,"score":{"kld_mean":0.00365,"top1":0.954,"ppl":53.0}}]}
JSON
echo 'corpus: /srv/ada/secret plans/notes.txt' >result/report.md
(cd result && sha256sum report.* >SHA256SUMS && echo 0000 >>SHA256SUMS)
head -c 3000000 "$SINTRA_ROOT/models/sample/model.safetensors" >result/tiny.gguf
: >result/empty.txt
echo hidden >result/.hidden
echo note >result/sub/note.txt
hub_start part=1000000
try publish result ada/tiny-GGUF
cat requests 2>/dev/null
try publish result ada/tiny-GGUF --yes
export HF_TOKEN=hf_noaccess
try publish result ada/tiny-GGUF --yes
HF_TOKEN=hf_good
: >requests
try publish result ada/tiny-GGUF --yes -m 'First' --json
echo "-- what was asked"
sed 's/[0-9a-f]\{64\}/<sha256>/' requests
echo "-- what came"
for f in tiny.gguf sub/note.txt empty.txt; do cmp "result/$f" "hub/ada/tiny-GGUF/$f" && echo "$f"; done
ls -A hub/ada/tiny-GGUF
head -n 9 hub/ada/tiny-GGUF/report.json
grep -r -l -e secret -e /x/hub hub/ada/tiny-GGUF
(cd hub/ada/tiny-GGUF && sha256sum -c SHA256SUMS 2>/dev/null)
cat hub/ada/tiny-GGUF/README.md
echo "-- a card that optimize wrote takes another base model, and the checksums know it"
cp hub/ada/tiny-GGUF/README.md result/README.md
cp result/report.md result/report.html
(cd result && sha256sum README.md tiny.gguf >SHA256SUMS)
sintra publish result ada/based-GGUF --base-model acme/other --json | grep -B3 '"made": true' | grep path
sintra publish result ada/based-GGUF --base-model acme/other --yes --json | grep -c published
grep base_model: hub/ada/based-GGUF/README.md
grep -r -l -e secret hub/ada/based-GGUF
(cd hub/ada/based-GGUF && sha256sum -c SHA256SUMS)
sintra publish result ada/based-GGUF --json | grep -c '"made": true'
rm result/SHA256SUMS result/report.html
echo "-- again: what the store has is not sent"
: >requests
echo 'mine' >result/README.md
sintra publish result ada/tiny-GGUF --yes
grep -c PUT requests
cat hub/ada/tiny-GGUF/README.md
try publish result ada/tiny-GGUF --base-model acme/other
echo "-- a token for one repository; files that the hub ignores"
echo x >result/ignored.txt
HF_TOKEN=hf_one try publish result ada/tiny-GGUF --yes --json | grep -e '"path"' -e '"published"'
HF_TOKEN=hf_one try publish result ada/not-there --yes
ls hub/ada/tiny-GGUF
rm result/ignored.txt
mkfifo result/pipe
try publish result ada/tiny-GGUF
rm result/pipe
try publish result ada/tiny-GGUF:Q4_0
echo "-- pulled back"
unset HF_TOKEN
sintra pull ada/tiny-GGUF --json | grep '"files"'
cmp "$HOME"/.cache/huggingface/hub/models--ada--tiny-GGUF/snapshots/*/tiny.gguf result/tiny.gguf && echo same
hub_stop
export HF_TOKEN=hf_good
try publish nowhere ada/x
mkdir none
try publish none ada/x
try publish result plain
HF_HUB_OFFLINE=1 try publish result ada/x --yes
echo '{' >result/report.json
try publish result ada/x
