# The list of commands, and that -h, --help and help agree.
sintra help
sintra help >a
sintra --help >b
sintra -h >c
cmp a b && cmp a c && echo "help, --help and -h agree"
sintra help quantize >a
sintra quantize --help >b
cmp a b && cat a
sintra help quantise
