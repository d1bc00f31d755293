sintra report | grep -vE "^\| [A-Zclo0-9]|^\|---\||^- "
sintra optimize --mock -q --target-bpw 4.5 --out a >/dev/null
sintra report | grep -vE "^\| [A-Zclo0-9]|^\|---\||^- "
sintra report latest --json | grep -E '^  "(status|mock|trials|evaluations)"'
sintra report 01zz
# The same as a page: to a file, to a pipe, in the document.
sintra report --html -o page.html
sintra report --html >piped.html
cmp page.html piped.html && cmp page.html a/report.html && echo "one page"
grep -c 'class="pt best"' page.html
grep -oE '<h2>[^<]*' page.html
grep -o 'class="pt [a-z]*"' page.html | sort -u
sintra report | grep -E '^\| [0-9]+ \|.*Q3_K_M'
sintra report | grep -A 1 '^| layer'
sintra report --html --json | grep -oE '^  "(html|markdown|written)": ".{15}'
sintra report -o report.md && cmp report.md a/report.md && echo "the same text"
sintra report --html -o /proc/nowhere/page.html
