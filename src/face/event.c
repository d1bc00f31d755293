/* What happens during a run, as lines above the progress bar: candidates as they are measured,
 * notes.
 *
 * The lines are a running log; the result table afterwards says what counts. Phases are the bar's
 * business.
 */
#include <string.h>

#include "face/screen.h"
#include "face/view_int.h"

#include "base/banned.h"

enum { NAME_COLUMNS = 10 };

/* "  Q4_K_M      4.56 MiB  KL 0.00343  top-1 95.8 %  stock mix" */
static void on_trial(const json_t *doc)
{
    char size[VIEW_TEXT_MAX], kl[VIEW_TEXT_MAX], top1[VIEW_TEXT_MAX];
    const char *state = view_str(doc, "state", ""), *name = view_str(doc, "name", "composed");
    if (strcmp(state, "failed") == 0) {
        screen_note("  %-*s  failed: %s", NAME_COLUMNS, name, view_str(doc, "error", ""));
        return;
    }
    if (!json_is_number(json_object_get(doc, "kld_mean")))
        return;
    screen_note("  %-*s  %9s  KL %-8s  top-1 %7s  %s", NAME_COLUMNS, name,
                view_format_at(doc, "bytes", VIEW_SIZE, size),
                view_format_at(doc, "kld_mean", VIEW_KL, kl),
                view_format_at(doc, "top1", VIEW_PERCENT, top1), view_str(doc, "reason", ""));
}

/* How long it will take is said first. */
static void on_begin(const json_t *doc)
{
    char time[VIEW_TEXT_MAX];
    screen_note("run %.10s, expected to take %s; Ctrl-C stops it, --resume goes on",
                view_str(doc, "run", ""),
                view_format_at(doc, "seconds_expected", VIEW_SECONDS, time));
}

void face_event(void *ud, const json_t *doc)
{
    (void)ud;
    const char *event = view_str(doc, "event", "");
    if (strcmp(event, "begin") == 0)
        on_begin(doc);
    else if (strcmp(event, "trial") == 0)
        on_trial(doc);
    else if (strcmp(event, "note") == 0)
        screen_note("  %s", view_str(doc, "text", ""));
}
