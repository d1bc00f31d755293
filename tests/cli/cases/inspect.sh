# The sample: every figure but those of this machine's memory is exact.
sintra inspect sample
sintra inspect sample --tensors --json | grep -c '"shape"'
sintra inspect "$SINTRA_ROOT/models/sample" --context 128 | grep 'KV cache'
sintra inspect sample --json >i.json
for type in Q8_0 Q6_K Q4_K_M IQ4_XS Q2_K; do
    said=$(grep -A1 "\"name\": \"$type\"" i.json | sed -n 's/.*"bytes": \([0-9]*\).*/\1/p')
    planned=$(sintra quantize sample --dry-run --type $type --json | sed -n 's/^  "bytes": \([0-9]*\).*/\1/p')
    [ -n "$said" ] && [ "$said" = "$planned" ] && echo "$type: quantize agrees"
done
# The card's license and ancestry, from the folder and from the file made of it.
cp -r "$SINTRA_ROOT/models/sample" carded
printf -- '---\nlicense: other\nlicense_name: some-licence\nbase_model: [org/Base-7B, https://example.org/m]\n---\n' >carded/README.md
sintra inspect carded | grep -A2 -E '^  (license|base model)'
sintra convert carded -o carded.gguf -q >convert.log
sintra inspect carded.gguf --json | grep -A3 -E '"(license|base_models)"'
# A mix that only some machines hold; what this one holds is its own affair.
"$TOOLS/make_synthetic" eight --shape qwen3-8b --sparse
sintra inspect eight --json >eight.json
for type in BF16 Q8_0 Q4_K_M; do
    echo "$type:" $(grep -A40 "\"name\": \"$type\"" eight.json | sed -n '/fits_on/,/]/p' | sed '/]/q' | grep -E -o '"[a-z0-9-]+"' | grep -v this)
done
sintra inspect eight | grep -E '^  Q4_K_M .* jetson-nano-4gb' | wc -l
# What upstream converts and we do not, with reasons.
sintra inspect --architectures | sed -n '2,5p'
sintra inspect --architectures | sed -n '/^not converted/,$p' | grep -A2 '^not converted' | head -12
sintra inspect --architectures --json | grep -A3 '"JambaForCausalLM"'
