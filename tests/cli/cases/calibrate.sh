# An importance matrix from the model's own text, and one from a file; a quantization uses it.
sintra calibrate sample -t 1 -q -o a.imatrix --tokens 512
sintra calibrate sample -t 1 -q -o b.imatrix --tokens 512 --json
cmp a.imatrix b.imatrix && echo "the same text, the same matrix"
sintra calibrate sample -t 1 -q -o c.imatrix --tokens 512 --seed 2 >/dev/null
cmp -s a.imatrix c.imatrix || echo "another seed, another matrix"
sintra quantize sample -q -o q.gguf --type iq2_m --imatrix a.imatrix | head -n 1
seq 1 1000 >numbers.txt
sintra calibrate sample -t 1 -q -o n.imatrix --corpus numbers.txt | tail -n 1
ls
sintra calibrate sample -t 1 -q -o a.imatrix --tokens 512 --factors a.factors >/dev/null
sintra quantize sample -q -o fed.gguf --type q3_k_m --imatrix a.imatrix --factors a.factors | head -n 1
sintra quantize sample -q -o none.gguf --type q3_k_m --imatrix a.imatrix --factors a.imatrix
echo "exit $?"
sintra calibrate sample -t 1 -q -o b.imatrix --tokens 512 --factors spans.factors --span 256 >/dev/null
cmp a.imatrix b.imatrix && echo "spans do not change the matrix"
sintra quantize sample -q -o spans.gguf --type q3_k_m --imatrix a.imatrix --factors spans.factors | head -n 1
cmp -s fed.gguf spans.gguf || echo "spans change what is rounded"
ls *.gguf
