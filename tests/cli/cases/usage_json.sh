# With --json an error is one document on stdout as well.
sintra --json quantise
sintra quantize --json nowhere -o x.gguf --type Q4_K_M
