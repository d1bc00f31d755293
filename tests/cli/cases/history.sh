# Simulated candidates are not history; of their run they are shown.
sintra history
sintra optimize --mock -q --target-bpw 4.5 --out a >/dev/null
sintra history
sintra history --run latest >h.txt
head -n 2 h.txt
grep -c final h.txt
sintra history --run nothing
