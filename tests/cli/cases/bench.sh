sintra quantize sample -q -o q8.gguf --type q8_0 >/dev/null
sintra bench q8.gguf -t 1 -q --repeats 2 --prompt 32 --generate 8 --json >b.json
for key in tps_prefill tps_decode first_token_ms load_ms rss_peak_bytes weights_bytes kv_bytes n_prompt n_generate; do
    grep -q "\"$key\":" b.json && echo "$key"
done
sintra bench q8.gguf -q -r 2 -p 32 -n 8 -t 1 | sed -E 's/[0-9]+(\.[0-9]+)?/N/g; s/ +/ /g; s/[KMG]iB/iB/g'
sintra bench q8.gguf -q -r 1 -p 32 -n 8 -t 1 --cache-type-k q8_0 --cache-type-v q8_0 --json |
    tr -d ' \n' | grep -oE '"(kv_bytes":[0-9]+|cache":\{[^}]*\})'
sintra bench nowhere.gguf
