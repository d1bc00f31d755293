# kill -9 in the second run of a contest: --resume goes on with the contest, not with that run alone. The first run is
# not repeated, the comparison is made, and nothing is left to go on with.
case $TOOLS in */asan/*) echo "takes too long with sanitizers"; exit 77 ;; esac
cat "$SINTRA_ROOT"/*.md "$SINTRA_ROOT"/docs/*.md >text.txt
"$TOOLS/idle_block" "$SINTRA_ROOT/models/sample" one.gguf 5
"$TOOLS/idle_block" "$SINTRA_ROOT/models/sample" two.gguf 2
# The shell's own child is the program, so that the signal meets it.
sintra optimize --effort fast --sensitivities sibling --max-iters 1 --tokens 512 --target-bpw 9 --corpus text.txt \
    --model one.gguf --model two.gguf --out both >killed.out 2>killed.log &
pid=$!
i=0
while [ $i -lt 2000 ] && ! sed '1,/model 2 of 2/d' killed.log | grep -q KL; do
    i=$((i + 1))
    sleep 0.05
done
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
grep -o 'model . of 2.*' killed.log
ls both both/one | grep -v gguf
sintra optimize --list-checkpoints | grep -c 01
sintra optimize --list-checkpoints | tail -n 1
sintra optimize --resume >resumed.out 2>resumed.log
echo "exit=$?"
grep -o 'model . of 2.*' resumed.log
ls both
grep -c 'take it' both/comparison.md
sintra optimize --resume
echo "exit=$?"
ls "$HOME"/.local/share/sintra
