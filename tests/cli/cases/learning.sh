# A run starts from what earlier ones measured and says so: its own sensitivities are taken, those of a sibling
# (same shapes, other weights) are offered, and used only when asked for.
cat "$SINTRA_ROOT"/*.md "$SINTRA_ROOT"/docs/*.md >text.txt
for seed in 1 2 3; do "$TOOLS/make_synthetic" m$seed --shape tiny --layers 1 --vocab 600 --seed $seed >/dev/null; done
optimize() { # optimize MODEL OPTION...
    taskset -c 0 sintra optimize -t 1 --effort fast --max-iters 1 --tokens 512 --target-bpw 4.5 --corpus text.txt \
        --out out --model "$@" 2>log >/dev/null
    echo "exit=$?"
    grep -E '^  .*(sensitivities|sibling)' log
    sed -n '/"history": {/,/}/p' out/report.json
}
optimize m1
optimize m1
optimize m2
optimize m3 --sensitivities sibling
grep -o 'sensitivities are those of a sibling' out/report.md
sintra stats | grep -A 2 'known from before'
