# What goes wrong on the way, each with one clear sentence: a target just under the smallest candidate, rows that
# blocks do not divide, experts that no text reaches, an importance file of another model.
cat "$SINTRA_ROOT"/*.md "$SINTRA_ROOT"/docs/*.md >text.txt
optimize() { taskset -c 0 sintra optimize -q -t 1 --effort fast --max-iters 1 --tokens 512 --corpus text.txt "$@" >page; }

smallest=$(sintra plan --json | sed -n 's/.*"smallest_bytes": \([0-9]*\).*/\1/p')
sintra optimize -q --target-size $((smallest - 1)) --out under
echo "exit=$?"
ls
sintra optimize -q --mock --target-size "$smallest" --out at >/dev/null
echo "exit=$?"

"$TOOLS/make_synthetic" odd --shape odd >/dev/null
sintra plan --model odd --target-bpw 4.5 | sed -n '/rows of/,/^$/p'
optimize --model odd --target-bpw 5.5 --out out-odd
echo "exit=$?"
grep -c '"part": "ffn_down"' out-odd/report.json
optimize --model odd --target-size 1TiB --out out-big
echo "exit=$?"

"$TOOLS/make_synthetic" moe --shape moe >/dev/null
optimize --model moe --target-bpw 5.5 --out out-moe
echo "exit=$?"
grep 'never met' page
grep -c 'never met' out-moe/report.md

"$TOOLS/make_synthetic" other --shape odd --seed 7 >/dev/null
quantize() { sintra quantize "$@" -q -o x.gguf --type Q4_K_M --imatrix out-odd/imatrix.gguf >/dev/null; echo "exit=$?"; }
quantize moe
quantize other
quantize odd
quantize out-odd/Odd*.gguf --allow-requantize
sintra quantize odd -q --type Q2_K -o rough.gguf >/dev/null
optimize --model rough.gguf --target-size 1TiB --out out-rough
echo "exit=$?"
grep 'quantized already' page
sintra calibrate rough.gguf -q -o rough.imatrix --corpus text.txt --tokens 2048 >/dev/null
sintra quantize odd -q -o x.gguf --type Q4_K_M --imatrix rough.imatrix >/dev/null
echo "exit=$?"
sintra quantize other -q -o y.gguf --type Q4_K_M --imatrix rough.imatrix
echo "exit=$?"
ls y.gguf 2>/dev/null
