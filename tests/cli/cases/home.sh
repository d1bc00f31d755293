# Where things are kept: --home, SINTRA_HOME, XDG_DATA_HOME, ~/.local/share. Looking leaves no trace.
sintra inspect sample >/dev/null
sintra quantize sample --dry-run --type Q4_K >/dev/null
sintra help >/dev/null
find "$HOME" -mindepth 1
sintra runs
ls "$HOME/.local/share/sintra"
XDG_DATA_HOME=$PWD/xdg sintra runs && ls xdg/sintra
SINTRA_HOME=$PWD/own XDG_DATA_HOME=$PWD/no sintra runs && ls own
SINTRA_HOME=$PWD/no sintra runs --home given && ls given
ls
