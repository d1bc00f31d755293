# The figures are this machine's; their names are not. The bandwidth is measured unless --fast.
sintra detect --fast --json >d.json
for key in cpu_model arch simd cores_physical cores_logical cores_usable ram_total ram_available \
    ram_usable os devices libllama; do
    grep -q "\"$key\":" d.json && echo "$key"
done
sintra detect >d.txt
grep -oE '^(processor|cores|memory|memory free|system)  ' d.txt
grep -oE 'memory bandwidth, measured: [0-9.]+ GB/s' d.txt | sed 's/[0-9.][0-9.]*/N/'
