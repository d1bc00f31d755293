/* Views of what came from the hub or went there: pull, hf. */
#include <string.h>

#include "base/json.h"
#include "face/view_int.h"

#include "base/banned.h"

void view_pull(struct paper *p, const json_t *r)
{
    static const struct view_fact facts[] = {
        {"renamed to", "moved_to", VIEW_TEXT},
        {"commit", "commit", VIEW_SHORT},
        {"files", "files", VIEW_INTEGER},
        {"size", "bytes", VIEW_SIZE},
        {NULL, NULL, VIEW_TEXT},
    };
    char size[VIEW_TEXT_MAX], time[VIEW_TEXT_MAX], rate[VIEW_TEXT_MAX];
    paper_say(p, STYLE_BOLD, "%s@%s", view_str(r, "model", ""), view_str(r, "revision", ""));
    paper_end(p);
    view_facts(p, r, facts, 2);
    double fetched = view_real(r, "files_fetched", 0), bytes = view_real(r, "bytes_fetched", 0);
    if (fetched > 0 && bytes > 0)
        view_line(p, "  fetched %.0f %s, %s in %s (%s/s)", fetched, fetched > 1 ? "files" : "file",
                  view_format_at(r, "bytes_fetched", VIEW_SIZE, size),
                  view_format_at(r, "seconds", VIEW_SECONDS, time),
                  view_format_at(r, "bytes_per_second", VIEW_SIZE, rate));
    else
        view_line(p, "  everything was in the cache");
    view_line(p, "%s", view_str(r, "path", "")); /* alone on its line: to be copied */
}

static void view_login(struct paper *p, const json_t *r)
{
    view_line(p, "logged in as %s; the token is in %s", view_str(r, "user", ""),
              view_str(r, "stored", ""));
    const char *other = view_str(r, "overridden_by", NULL);
    if (other)
        view_line(p, "%s in the environment comes before it", other);
}

static void view_logout(struct paper *p, const json_t *r)
{
    view_line(p, "%s",
              json_is_true(view_at(r, "removed")) ? "the stored token was removed"
                                                  : "no token was stored");
    const char *other = view_str(r, "token", NULL);
    if (other)
        view_line(p, "%s in the environment is still in use", other);
}

void view_hf(struct paper *p, const json_t *r)
{
    static const struct view_fact facts[] = {
        {"hub", "endpoint", VIEW_TEXT},   {"cache", "cache", VIEW_TEXT},
        {"offline", "offline", VIEW_YES}, {"token", "token", VIEW_TEXT},
        {"user", "user", VIEW_TEXT},      {"token name", "token_name", VIEW_TEXT},
        {"may", "role", VIEW_TEXT},       {"problem", "problem", VIEW_TEXT},
        {NULL, NULL, VIEW_TEXT},
    };
    const char *action = view_str(r, "action", "");
    if (strcmp(action, "login") == 0) {
        view_login(p, r);
    } else if (strcmp(action, "logout") == 0) {
        view_logout(p, r);
    } else {
        view_facts(p, r, facts, 0);
        if (!view_at(r, "token"))
            view_line(p, "not logged in: 'sintra hf login'");
    }
}

void view_publish(struct paper *p, const json_t *r)
{
    static const struct view_column columns[] = {
        {"file", "path", VIEW_TEXT, STYLE_PLAIN}, {"size", "bytes", VIEW_SIZE, STYLE_PLAIN},
        {"large", "large", VIEW_YES, STYLE_DIM},  {"made", "made", VIEW_YES, STYLE_DIM},
        {NULL, NULL, VIEW_TEXT, STYLE_PLAIN},
    };
    char size[VIEW_TEXT_MAX];
    paper_say(p, STYLE_BOLD, "%s@%s", view_str(r, "model", ""), view_str(r, "revision", ""));
    paper_end(p);
    view_rows(p, view_at(r, "files"), columns, 2);
    view_format_at(r, "bytes", VIEW_SIZE, size);
    if (json_is_true(view_at(r, "published")))
        view_line(p, "published %s: %s", size, view_str(r, "url", ""));
    else
        view_line(p, "%s; nothing was sent: --yes publishes it", size);
}
