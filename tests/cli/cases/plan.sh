# Exact sizes, and the same as --dry-run; nothing is written.
sintra plan --target-bpw 4.5
sintra plan --target-bpw 4.5 --json | grep -v '"ram_' >a.json
sintra optimize --target-bpw 4.5 --dry-run --json | grep -v '"ram_' >b.json
cmp a.json b.json && echo "plan and --dry-run agree"
sintra plan --profile raspberry-pi-5-8gb --target-tps 2500 | head -n 8
sintra plan --target-size 1MB
echo "exit $?"
ls -A "$HOME"
