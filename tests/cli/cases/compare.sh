sintra optimize --mock -q --target-bpw 4.5 --json --out a >a.json
sintra optimize --mock -q --target-bpw 6 --json --out b >b.json
sintra compare a.json b.json
sintra compare a.json b.json --json | head -n 30
sintra compare latest a.json | head -n 2
echo '{"status":"infeasible","best":null}' >none.json
sintra compare a.json none.json
sintra compare nowhere a.json
