# Where the limit is low, the search may leave blocks out. Of a model with a block that does nothing it must find just
# that block and win by it; the recipe makes the file again; a second run knows what was measured; other limits and
# --effort fast leave all blocks where they are.
case $TOOLS in */asan/*) echo "takes too long with sanitizers"; exit 77 ;; esac
cat "$SINTRA_ROOT/ARCHITECTURE.md" "$SINTRA_ROOT/CONTRIBUTING.md" "$SINTRA_ROOT/docs/validator.md" >text.txt
"$TOOLS/idle_block" "$SINTRA_ROOT/models/sample" idle.gguf 5 || exit 1
optimize() {
    taskset -c 0 sintra optimize -t 1 --model idle.gguf --corpus text.txt --tokens 600 "$@" >page 2>log
    echo "exit=$?"
}
dropped() { tr -d ' \n' <"$1" | grep -o '"drop_layers":\[[0-9,]*\]'; }

optimize --target-bpw 2.3 --max-iters 2 --out low
dropped low/recipe.json
grep -o 'without block 5, the least missed, KL is 0 ' low/report.md
grep -o 'delivered | without block 5: additive optimum' low/report.md
tr -d ' \n' <low/report.json | grep -o '"layer":5,"part":"ffn_down","parameters":[0-9]*,"probe":"Q3_K","probe_kld":[^,]*,"type":[a-z]*'
sintra quantize idle.gguf -q -o again.gguf --recipe low/recipe.json --imatrix low/imatrix.gguf >/dev/null
cmp again.gguf low/Sample-*.gguf && echo "the same bytes"
sintra eval again.gguf -q --reference idle.gguf --corpus text.txt --tokens 600 >/dev/null && echo "it loads"

optimize --target-bpw 2.3 --max-iters 2 --out twice
tr -d ' \n' <twice/report.json | grep -o '"sets_of_blocks":[0-9]*'
cmp low/Sample-*.gguf twice/Sample-*.gguf && echo "the same file"

optimize --target-bpw 2.3 --max-iters 2 --effort fast --out fast
dropped fast/recipe.json
optimize --target-bpw 3.2 --max-iters 2 --out high
dropped high/recipe.json
grep -q block high/report.md || echo "no word of blocks"
