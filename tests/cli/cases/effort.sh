# Error feedback, end to end: what is delivered was rounded with it and says so; its recipe finds the factors where
# the run left them, and elsewhere asks for them.
case $TOOLS in */asan/*) echo "takes too long with sanitizers"; exit 77 ;; esac
sintra optimize -q -t 2 --effort max --max-iters 1 --tokens 2048 --target-bpw 4.5 --out small >/dev/null
echo "exit $?"
grep -c '"feedback": "[0-9a-f]*"' small/recipe.json
sintra quantize sample -q -o again.gguf --recipe small/recipe.json --imatrix small/imatrix.gguf | head -n 1
sha256sum <again.gguf | cut -c 1-64 >a
grep gguf small/SHA256SUMS | grep -v imatrix | cut -c 1-64 >b
cmp a b && echo "the same bytes"
sintra quantize sample -q -o again.gguf --recipe small/recipe.json --imatrix small/imatrix.gguf --home elsewhere
echo "exit $?"
factors=$(ls "$HOME"/.local/share/sintra/cache/*/factors-*.gguf)
sintra quantize sample -q -o there.gguf --recipe small/recipe.json --imatrix small/imatrix.gguf --home elsewhere \
    --factors "$factors" | head -n 1
cmp again.gguf there.gguf && echo "the same bytes"
