# Quantized checkpoints are read as the floats they stand for, with one warning; in what state is seen.
"$TOOLS/make_synthetic" four --shape tiny --layers 1 --vocab 600 --packed gptq
sintra inspect four | sed -n 2,5p
sintra inspect four --tensors --json | grep -A1 -E '"name": "blk.0.ffn_down.weight"|"role": "ffn_down"' | tail -n 2
sintra convert four -q -o a.gguf --type f32 --threads 1 --sha256
sintra convert four -q -o b.gguf --type f32 --threads 2 >log 2>&1
cmp a.gguf b.gguf && echo same
sintra quantize four -q -o c.gguf --type q4_k_m
"$TOOLS/make_synthetic" awq --shape tiny --layers 1 --vocab 600 --packed awq
sintra convert awq -q -o d.gguf --type bf16
# What cannot be read, and no output.
sed -i 's/"bits": 4/"bits": 6/' four/config.json
sintra convert four -q -o e.gguf
sed -i 's/"gptq", "bits": 6/"hqq"/' four/config.json
sintra inspect four
ls
