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
