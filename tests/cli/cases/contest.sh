# Several models for one target: a run of each, then bits per byte of the same text says which to take.
cat "$SINTRA_ROOT"/*.md "$SINTRA_ROOT"/docs/*.md >text.txt
head -n 40 text.txt >short.txt
"$TOOLS/make_synthetic" other --shape tiny >/dev/null
sintra optimize -q --mock --model sample --model other --target-bpw 4.5
echo "exit=$?"
sintra optimize -q --mock --model sample --model other --target-bpw 4.5 --corpus short.txt
echo "exit=$?"
sintra optimize -q --mock --model sample --model nowhere --target-bpw 4.5 --corpus text.txt
echo "exit=$?"
ls
sintra optimize --mock --model sample --model other --target-bpw 4.5 --corpus text.txt --out both
ls both both/*
sintra optimize -q --mock --model sample --model sample --target-size 3MB --corpus text.txt --json | grep -E '^  "(status|take|pieces)"|"name"|"bits_per_byte"'
sintra plan --model sample --model other --target-bpw 4.5 | grep parameters
sintra optimize -q --mock --model sample --model other --target-size 1MB --corpus text.txt
echo "exit=$?"
