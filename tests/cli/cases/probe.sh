# Sensitivities without a file: measured once, kept, and what a plan makes of them.
case $TOOLS in */asan/*) echo "takes too long with sanitizers"; exit 77 ;; esac
cat "$SINTRA_ROOT/docs/metrics.md" "$SINTRA_ROOT/ARCHITECTURE.md" | head -n 130 >notes.txt
sintra plan --target-bpw 4.5 | grep -c predicted
sintra probe -q -t 2 sample --corpus notes.txt --json >first.json
echo "exit $?"
grep -c '"name": "blk' first.json
grep '"probes' first.json
sintra probe -q -t 2 sample --corpus notes.txt >again.txt
head -n 6 again.txt
tail -n 3 again.txt
sintra plan --target-bpw 4.5 | sed -n '/stock mix/p;/types chosen/,$p' | head -n 5
sintra plan --target-bpw 4.5 | grep 'best within'
sintra plan --target-bpw 2 | grep -c 'not been measured yet'
sintra plan --target-size 1TiB | grep -c 'best within'
sintra plan --target-memory 10MB | grep -c 'cost of a KV cache not known'
sintra plan --target-bpw 4.5 --json >plan.json
grep -c kld_predicted plan.json
grep -c sintra_recipe plan.json
sintra probe sample --corpus nothing.txt
echo "exit $?"
sintra probe
echo "exit $?"
