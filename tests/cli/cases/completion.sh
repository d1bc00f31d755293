# The bash script completes commands, options, choices and files without starting the program; the
# others are whole.
sintra completion bash >script
cat >try.bash <<'EOF'
PATH=/nowhere
. ./script
complete_line() {
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    COMPREPLY=()
    _sintra
    echo "$* -> ${COMPREPLY[*]}"
}
complete_line sintra qu
complete_line sintra h
complete_line sintra --target-t
complete_line sintra quantize --dr
complete_line sintra plan --preset ""
complete_line sintra plan --preset ch
complete_line sintra bench --threads ""
complete_line sintra quantize --imatrix scr
complete_line sintra convert scr
complete_line sintra help ev
EOF
bash try.bash
sintra completion zsh | grep -c -- '--target-size\['
sintra completion fish | grep -- '-l target-size'
sintra completion tcsh
