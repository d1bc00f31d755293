# A folder becomes a GGUF file of the source's own type; the same bytes for any number of threads.
sintra convert sample -q -o a.gguf --sha256
sintra convert sample -q -o b.gguf --type bf16 --threads 1 --sha256 --json
cmp a.gguf b.gguf && echo same
sintra convert sample -q -o c.gguf --outtype q8_0 -q -t 2
sintra inspect a.gguf --json | grep -E '"(name|architecture|source|parameters|quantized)"' | head -n 5
ls
# What lies beside model.safetensors is the same in another type.
cp -r "$SINTRA_ROOT/models/sample" both
cp both/model.safetensors both/model.fp16.safetensors
sintra convert both -q -o d.gguf | sed 's/, in .*//'
