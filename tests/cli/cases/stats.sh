sintra optimize --mock -q --target-bpw 4.5 --out a >/dev/null
sintra stats
sintra stats --json
