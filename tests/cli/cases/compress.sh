# The main job on real weights, as examples/compress.sh has it: the page that a new user sees, the log of
# what was tried, and a file that its recipe makes again.
case $TOOLS in */asan/*) echo "takes too long with sanitizers"; exit 77 ;; esac
taskset -c 0 sh "$SINTRA_ROOT/examples/compress.sh" >out 2>err || { tail -n 20 out err; exit 1; }
sed '/^run  /,/^sha256/d' out
grep -q 'held-out windows' report.txt && echo "the report names the held-out windows"
sed -n '1,2p' err
ls small
echo "-- the card: what the original's card says, nothing of this machine"
sed -n '1,/^#/p' small/README.md
grep -e "$PWD" -e "$HOME" -e "$SINTRA_ROOT" small/README.md || echo "no path of this machine"
(cd small && sha256sum -c SHA256SUMS | grep README)
