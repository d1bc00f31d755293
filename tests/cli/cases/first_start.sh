# Several programs may meet a new home at the same time.
for i in 1 2 3 4 5 6; do
    for k in 1 2 3 4; do sintra --home "home$i" runs >"out$i$k" & done
    wait
done
sort out* | uniq -c | awk '{ print $1, "times:", $2, $3, $4 }'
