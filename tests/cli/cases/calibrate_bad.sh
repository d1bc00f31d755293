try() {
    echo "\$ sintra $*" >&2
    code=0
    sintra -q "$@" -t 1 || code=$?
    echo "exit $code" >&2
}
: >empty.txt
try calibrate sample -o x.imatrix --corpus empty.txt
printf 'caf\351\n' >latin1.txt
try calibrate sample -o x.imatrix --corpus latin1.txt
echo "too short" >short.txt
try calibrate sample -o x.imatrix --corpus short.txt
try calibrate sample -o x.imatrix --corpus nowhere.txt
try calibrate nowhere -o x.imatrix
try calibrate sample -o nowhere/x.imatrix --tokens 512
try calibrate sample -o x.imatrix --factors x.factors --span 300
try calibrate sample -o x.imatrix --span 256
ls
try calibrate sample -o x.imatrix --factors x.imatrix
try calibrate sample -o x.imatrix --factors nowhere/x.factors
# The folder of the matrix goes while the factors are computed: neither file is left.
cat "$SINTRA_ROOT"/docs/*.md >text.txt
mkdir gone
(
    until ls x.factors.partial* >/dev/null 2>&1 || [ -e ended ]; do
        sleep 0.02
    done
    rm -r gone
) &
try calibrate sample -o gone/x.imatrix --factors x.factors --corpus text.txt --tokens 4096
touch ended
wait
rm ended text.txt
ls
