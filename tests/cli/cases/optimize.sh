# The whole loop with simulated measurements: the same files, rows and words, in a second.
sintra optimize -q --mock --target-bpw 4.5 --out result
echo "exit=$?"
ls result 2>/dev/null
sintra optimize -q --mock --target-bpw 4.5 --out result --json >r.json
for key in run status mock model hardware targets best front stock trials seconds evaluations paired windows; do
    grep -q "^  \"$key\":" r.json && echo "$key"
done
sintra --mock -q --preset smallest --out other | head -n 3
sintra optimize --list-checkpoints
