sintra runs
sintra optimize --mock -q --target-bpw 4.5 --out a >/dev/null
sintra optimize --mock -q --target-accuracy 0.9 --out b >/dev/null
sintra runs
sintra runs -n 1 --json
sintra runs --resumable
