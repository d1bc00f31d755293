/* Signals, and the only exit of the program.
 *
 * The first Ctrl-C (or SIGTERM) asks the work to stop at the next safe point, so that a run stays
 * resumable; a second one ends the program at once by the same signal. The worker process has
 * signals of its own making and is entered before any of this.
 */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/stop.h"
#include "engine/engine.h"
#include "face/face.h"

#include "base/banned.h"

static void on_stop(int signal_number)
{
    if (stop_requested()) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
        return;
    }
    static const char text[] = "\nsintra: stopping at the next safe point; again to end at once\n";
    if (isatty(STDERR_FILENO) && write(STDERR_FILENO, text, sizeof(text) - 1) < 0) {
        /* Nobody reads; stopping is what matters. */
    }
    stop_request();
}

static void take_signals(void)
{
    struct sigaction stop = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&stop.sa_mask);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* `ulimit -f`: an error of write, with a sentence */
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return engine_worker_main();
    take_signals();
    return face_main(argc, argv);
}
