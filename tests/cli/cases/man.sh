# The manual page: its head, its sections, and no line that roff would take for an unknown request.
sintra man >sintra.1
head -n 12 sintra.1
grep '^\.S[HS]' sintra.1
grep '^\.' sintra.1 | grep -vE '^\.(TH|SH|SS|PP|TP|B|nf|fi|RS|RE)( |$)' || echo "only known requests"
if command -v groff >/dev/null; then
    groff -man -Tascii -ww -z sintra.1
fi
