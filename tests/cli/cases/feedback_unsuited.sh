# A model none of whose rows are whole blocks: rounded without error feedback, which is said once.
cat "$SINTRA_ROOT"/*.md "$SINTRA_ROOT"/docs/*.md >text.txt
"$TOOLS/make_synthetic" narrow --shape narrow >/dev/null
taskset -c 0 sintra optimize -q -t 1 --max-iters 1 --tokens 512 --corpus text.txt --model narrow --target-bpw 20 --out out >page
echo "exit=$?"
grep 'error feedback' page
grep -c 'error feedback' out/report.md
