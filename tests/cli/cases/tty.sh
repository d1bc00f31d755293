# Colour on a terminal only, and not with NO_COLOR, --no-color or a dumb one; a bar while it takes long.
command -v script >/dev/null || { echo "script(1) is not there"; exit 77; }
colours() { # colours COMMAND: how many escape sequences it writes to a terminal
    script -qec "$1" /dev/null | grep -ac "$(printf '\033')\\["
}
export TERM=xterm
[ "$(colours 'sintra help')" -gt 10 ] && echo "colour on a terminal"
[ "$(colours 'NO_COLOR=1 sintra help')" = 0 ] && echo "none with NO_COLOR"
[ "$(colours 'sintra help --no-color')" = 0 ] && echo "none with --no-color"
[ "$(colours 'TERM=dumb sintra help')" = 0 ] && echo "none on a dumb terminal"
sintra help | grep -c "$(printf '\033')"
script -qec 'stty cols 60; sintra history' /dev/null | tr -d '\r'
exit 0
