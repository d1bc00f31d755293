# Without a target the front is the result: all of it as a table, its knee delivered, and a recipe for every
# member, which quantize makes into the very file that was measured.
case $TOOLS in */asan/*) echo "takes too long with sanitizers"; exit 77 ;; esac
cat "$SINTRA_ROOT/ARCHITECTURE.md" "$SINTRA_ROOT/CONTRIBUTING.md" "$SINTRA_ROOT/docs/validator.md" >text.txt
taskset -c 0 sintra optimize -q -t 1 --corpus text.txt --max-iters 2 --tokens 600 --out out >page
grep -cE '^  (sintra|delivered|I?Q[0-9])' page | sed 's/^[3-9]$/several rows/'
grep '^delivered is' page
[ "$(ls out/front | wc -l)" = "$(grep -c '"recipe_file": "front/' out/report.json)" ] && echo "as many recipes as members"
recipe=$(ls out/front/*bpw.recipe.json | tail -n 1)
sintra quantize sample -q --recipe "$recipe" --imatrix out/imatrix.gguf -o again.gguf >/dev/null
sum=$(grep -A 1 "\"recipe_file\": \"${recipe#out/}\"" out/report.json | sed -n 's/.*"sha256": "\(.*\)".*/\1/p')
[ "$sum" = "$(sha256sum <again.gguf | cut -d ' ' -f 1)" ] && echo "the same file again"
(cd out && sha256sum --quiet -c SHA256SUMS) && echo "sums are right"
# A folder with something of the user's own is not replaced; one with a result alone is.
echo mine >out/front/notes.txt
sintra optimize -q --mock --out out
rm out/front/notes.txt
sintra optimize -q --mock --out out >/dev/null && echo "replaced"
