# What is not a model.
try() {
    echo "\$ sintra $*" >&2
    code=0
    sintra "$@" || code=$?
    echo "exit $code" >&2
}
try inspect
try inspect --architectures sample
try inspect nowhere
try inspect someone/some-model
mkdir empty
try inspect empty
echo "not a model" >bad.gguf
try inspect bad.gguf
printf 'GGUF\003\000\000\000\377\377\377\377\377\377\377\177\000\000\000\000\000\000\000\000' >lying.gguf
try inspect lying.gguf
cp -r "$SINTRA_ROOT/models/sample" cut
chmod -R u+w cut
head -c 100000 cut/model.safetensors >cut/short && mv cut/short cut/model.safetensors
try inspect cut
cp -r "$SINTRA_ROOT/models/sample" other
chmod -R u+w other
sed -i 's/LlamaForCausalLM/JambaForCausalLM/' other/config.json
try inspect other
sed 's/"num_hidden_layers": 8/"num_hidden_layers": 9/; s/JambaForCausalLM/LlamaForCausalLM/' other/config.json >c
mv c other/config.json
try inspect other
