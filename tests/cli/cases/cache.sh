# The KV cache's type: chosen where memory is short, fixed on request, no part of the file.
sintra plan --target-memory 20MiB --context 2048 -t 1 | sed -n 3,7p
sintra plan --target-memory 20MiB --context 2048 --cache-type-k q8_0 --cache-type-v q4_0 | sed -n 3,5p
cat "$SINTRA_ROOT"/docs/*.md >text.txt
sintra optimize -q -t 2 --corpus text.txt --target-memory 20MiB --context 2048 --effort fast --max-iters 1 --tokens 512 --out a >a.txt
echo "exit $?"
sed -n 2p a.txt
grep -E '^(KV cache|run) ' a.txt
json() { tr -d ' \n' <a/report.json | grep -oE "$1"; }
json '"cache":\{"k":"[a-z0-9_]*","v":"[a-z0-9_]*"'
json '"ollama":"[^"]*"'
# What f16 would have cost, and that the candidates were measured with what they are meant for.
json '"kld_predicted":[0-9.e-]*' | cut -d: -f2 | awk 'NR == 1 { f = $1 } NR == 2 { print (f > 5 * $1) ? "f16 costs more" : "f16 " f " q8_0 " $1 }'
json '"label":"[^"]*"' >labels
echo "$(grep -vc KV labels) with f16, the others with $(grep -o '[a-z0-9_]*KV' labels | sort -u)"
grep -c 'q8_0 KV' a/report.md a/report.html | sed 's/:[1-9][0-9]*$/ says so/'
# The same bytes as a file, whatever the cache.
sintra quantize sample -q -o again.gguf --recipe a/recipe.json --imatrix a/imatrix.gguf --card card.md >/dev/null
cmp again.gguf a/Sample-*.gguf && echo "the same file"
grep -E 'llama-cli|OLLAMA' card.md
# What they cost is known from now on.
sintra plan --target-memory 20MiB --context 2048 --json | tr -d ' \n' | grep -o '"caches":.*"context"' | grep -o '"kld":' | wc -l
# A type that was asked for is the type of every candidate.
sintra optimize -q --mock --target-bpw 4.5 --cache-type-k q4_0 --out c | grep -E '^(KV cache|run)'
tr -d ' \n' <c/report.json | grep -oE '"kv":\{[^}]*\}' | sort -u
sintra optimize -q --mock --target-bpw 4.5 --cache-type-k q6_k --out d
echo "exit $?"
