# A reader that goes away is no error; a full disk is.
sintra help | head -n 1
sintra help >/dev/full
echo "exit $?"
