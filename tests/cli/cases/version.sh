sintra --version
sintra -V
sintra version
sintra version --json
