sintra report | grep -vE "^\| [A-Zc]"
sintra optimize --mock -q --target-bpw 4.5 --out a >/dev/null
sintra report | grep -vE "^\| [A-Zc]"
sintra report latest --json | grep -E '^  "(status|mock|trials|evaluations)"'
sintra report 01zz
