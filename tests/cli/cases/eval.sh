# Against the original, itself, and alone; on a text, and on what the original samples.
seq 1 600 >numbers.txt
sintra quantize sample -q -o q8.gguf --type q8_0 >/dev/null
sintra convert sample -q -o bf16.gguf >/dev/null
sintra eval q8.gguf -t 1 -q --reference sample --corpus numbers.txt --json >e.json
for key in kld_mean kld_mean_ci95 kld_median kld_p99 kld_max top1 top1_ci95 ppl ppl_base; do
    grep -q "\"$key\":" e.json && echo "$key"
done
sintra eval bf16.gguf -t 1 -q -r sample --corpus numbers.txt | grep -E 'KL divergence|top-1|on .* tokens'
sintra eval q8.gguf -t 1 -q -r bf16.gguf --corpus numbers.txt --context 128 --tokens 200 | tail -n 1
sintra eval q8.gguf -t 1 -q --tokens 256 | grep -cE 'perplexity|KL'
# The types of the KV cache: what they alone cost, and that the result says them.
kld() {
    sintra eval bf16.gguf -t 1 -q -r bf16.gguf --corpus numbers.txt "$@" --json >c.json
    sed -n 's/.*"kld_mean": \([0-9.e-]*\),.*/\1/p' c.json
}
echo "f16 $(kld)"
kld --cache-type-k q8_0 --cache-type-v Q8_0 >eight
kld --cache-type-k q8_0 --cache-type-v q4_0 >half
tr -d ' \n' <c.json | grep -o '"cache":{[^}]*}'
kld --cache-type-k q4_0 --cache-type-v q4_0 >four
cat eight half four | awk '{ if (!($1 > last)) print "out of order"; last = $1 } END { print NR " in order" }'
