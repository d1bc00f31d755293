# kill -9 while sensitivities are measured, while a candidate is, and in the search: --resume ends with the
# same file as an undisturbed run, and what was finished is not done again.
case $TOOLS in */asan/*) echo "takes too long with sanitizers"; exit 77 ;; esac
cat "$SINTRA_ROOT/ARCHITECTURE.md" "$SINTRA_ROOT/CONTRIBUTING.md" "$SINTRA_ROOT/docs/validator.md" >text.txt
# Other bits each time, so that no run knows the scores of the one before.
bits() {
    case $1 in probing) echo 4.5 ;; measuring) echo 5.4 ;; *) echo 4.8 ;; esac
}
until_seen() { # until_seen COMMAND...: waits for its success while the run lives
    while ! "$@" >/dev/null 2>&1; do
        kill -0 $pid 2>/dev/null || return 1
        sleep 0.05
    done
}
probing() { grep -q 'sensitivities: blk' killed.log; }
measuring() { ls "$HOME"/.local/share/sintra/runs/*/candidates/*.gguf; }
searching() { grep -q composed killed.log; }
trials() { cat "$@" | grep -cE '^  (composed|I?Q[0-9][A-Z0-9_]*) .*KL'; }

for moment in probing measuring searching; do
    # The shell's own child is the program, so that the signal meets it.
    taskset -c 0 sintra optimize -t 1 --target-bpw "$(bits $moment)" --corpus text.txt --max-iters 3 --tokens 600 \
        --out "$moment" >killed.out 2>killed.log &
    pid=$!
    until_seen $moment
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
    sintra optimize --list-checkpoints | grep -c 01
    [ ! -e "$moment" ] && echo "nothing is delivered"
    taskset -c 0 sintra optimize --resume >resumed.out 2>resumed.log || cat resumed.log
    cp killed.log "$moment.1"
    cp resumed.log "$moment.2"
done
grep -o 'sensitivities are known from before' probing.2
for moment in probing measuring searching; do
    taskset -c 0 sintra optimize -t 1 --target-bpw "$(bits $moment)" --corpus text.txt --max-iters 3 --tokens 600 \
        --home clean --out whole >whole.out 2>whole.log
    cmp whole/Sample-*.gguf $moment/Sample-*.gguf && cmp whole/recipe.json $moment/recipe.json && echo "$moment: the same"
    [ "$(trials $moment.1 $moment.2)" = "$(trials whole.log)" ] || {
        echo "$moment: finished trials were repeated"
        cat $moment.1 $moment.2 whole.log
    }
    (cd $moment && sha256sum --quiet -c SHA256SUMS && ls | wc -l)
done
sintra optimize --list-checkpoints
ls -A "$HOME"/.local/share/sintra/runs
