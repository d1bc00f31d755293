# A run that is stopped can be resumed, also beside another one in the same home; one that is running cannot.
sintra optimize -q -t 1 --target-bpw 4.5 --out result &
pid=$!
while kill -0 $pid && ! sintra runs | grep -q running; do sleep 0.2; done
sintra optimize -q --mock --target-bpw 4.5 --out other | head -n 2
run=$(sintra runs | awk '/running/ { print $1 }')
sintra optimize -q --resume "$run"
echo "exit=$?"
kill -TERM $pid
wait $pid
echo "exit=$?"
sintra optimize --list-checkpoints
ls
