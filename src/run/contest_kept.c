/* What is kept of a contest, so that it goes on as a whole after an interruption.
 *
 * A fact holds what was asked: the settings of every run, the folder, the hash of the text. Another
 * lists the contests that have not ended, oldest first. Each run says in its stored settings which
 * contest it belongs to and as which of its models ("ID/0"), so which runs were begun, and how they
 * ended, is read from their rows: what is true of a run is written in one place. Both facts go when
 * the contest has ended, or failed for a reason that another try would meet again.
 */
#include "run/contest_int.h"

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/banned.h"

static const char kind[] = "contest", open_key[] = "open";

/* The list of open contests with one taken out, and put at its end again where `with` says so. */
static int list_put(struct store *s, const char *id, bool with, struct err *e)
{
    json_t *old = store_fact_get(s, kind, open_key), *list = json_array(), *item;
    size_t i;
    json_array_foreach(old, i, item)
    {
        if (json_is_string(item) && strcmp(json_string_value(item), id) != 0)
            json_array_append(list, item);
    }
    if (with)
        json_array_append_new(list, json_string(id));
    int rc = store_fact_put(s, kind, open_key, json_array_size(list) > 0 ? list : NULL, e);
    json_decref(old);
    json_decref(list);
    return rc;
}

int kept_begin(struct kept *k, struct store *s, const struct run_config *configs, size_t n,
               const char *out, const char *text_sha256, struct err *e)
{
    json_t *entries = json_array(), *doc;
    int rc = 0;
    rng_id(k->id);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct settings set;
        rc = settings_init(&set, &configs[i], e);
        if (rc != 0)
            break;
        json_array_append_new(entries, settings_json_new(&set));
        settings_release(&set);
    }
    doc = json_pack("{s:i, s:s, s:s, s:o}", "sintra_contest", 1, "out", out, "text_sha256",
                    text_sha256, "entries", entries);
    if (rc == 0)
        rc = store_fact_put(s, kind, k->id, doc, e);
    if (rc == 0)
        rc = list_put(s, k->id, true, e);
    json_decref(doc);
    return rc;
}

void kept_end(struct store *s, const char *id)
{
    struct err e = {0};
    if (list_put(s, id, false, &e) != 0 || store_fact_put(s, kind, id, NULL, &e) != 0)
        log_warn("the end of the contest is not stored: %s", e.message);
}

char *kept_tag(const char *id, size_t entry)
{
    return xasprintf("%s/%zu", id, entry);
}

/* ---- reading back ---- */

static void config_of(struct run_config *c, const struct settings *s)
{
    *c = (struct run_config){.model_path = s->model_path,
                             .home = s->home,
                             .corpus = s->corpus,
                             .sibling_sensitivities = s->sibling_sensitivities,
                             .tokens = s->tokens,
                             .seed = s->seed,
                             .targets = s->asked,
                             .profile = s->has_profile ? &s->profile : NULL,
                             .preset = s->preset,
                             .effort = s->effort,
                             .max_iters = s->max_iters,
                             .budget_minutes = s->budget_minutes,
                             .threads = s->threads,
                             .gpu_layers = s->gpu_layers,
                             .cache = s->cache,
                             .cache_fixed = s->cache_fixed,
                             .mock = s->mock};
}

int kept_read(struct kept *k, struct store *s, const char *id, const char *home, struct err *e)
{
    *k = (struct kept){.doc = store_fact_get(s, kind, id)};
    const json_t *entries = json_object_get(k->doc, "entries");
    size_t n = json_array_size(entries);
    snprintf(k->id, sizeof(k->id), "%s", id);
    if (json_opt_i64(k->doc, "sintra_contest", 0) != 1 || n == 0)
        return err_set(e, ERR_MISSING, "start it again", "nothing is stored of the contest %s", id);
    k->out = json_opt_str(k->doc, "out", "comparison-sintra");
    k->text_sha256 = json_opt_str(k->doc, "text_sha256", "");
    k->settings = xcalloc(n, sizeof(*k->settings));
    k->configs = xcalloc(n, sizeof(*k->configs));
    for (size_t i = 0; i < n; i++) {
        char *text = json_text(json_array_get(entries, i), false);
        int rc = settings_parse(&k->settings[i], home, text, e);
        xfree(text);
        if (rc != 0)
            return -1;
        k->n++;
        config_of(&k->configs[i], &k->settings[i]);
    }
    return 0;
}

void kept_release(struct kept *k)
{
    for (size_t i = 0; i < k->n; i++)
        settings_release(&k->settings[i]);
    xfree(k->settings);
    xfree(k->configs);
    json_decref(k->doc);
    *k = (struct kept){0};
}

/* ---- its runs ---- */

/* Of a run's stored settings; new reference, or NULL. */
static json_t *config_json(const struct store_run *row)
{
    return row->config ? json_parse(row->config, strlen(row->config), "stored run", NULL) : NULL;
}

struct looking {
    const char *tag;
    struct kept_run *found;
};

static int look(void *ud, const struct store_run *row)
{
    struct looking *l = ud;
    json_t *config = config_json(row);
    bool same = strcmp(json_opt_str(config, "contest", ""), l->tag) == 0;
    json_decref(config);
    if (!same)
        return 0;
    snprintf(l->found->id, sizeof(l->found->id), "%s", row->id);
    l->found->ended = strcmp(row->state, "met") == 0 || strcmp(row->state, "best_effort") == 0;
    if (l->found->ended && row->report)
        l->found->report = json_parse(row->report, strlen(row->report), "stored report", NULL);
    return 1;
}

int kept_run_find(struct store *s, const char *tag, struct kept_run *found, struct err *e)
{
    struct looking l = {tag, found};
    *found = (struct kept_run){0};
    return store_runs(s, false, 0, look, &l, e);
}

/* ---- which contest is meant ---- */

static int take_tag(void *ud, const struct store_run *row)
{
    char *id = ud;
    json_t *config = config_json(row);
    const char *tag = json_opt_str(config, "contest", "");
    const char *slash = strchr(tag, '/');
    snprintf(id, 27, "%.*s", (int)(slash ? slash - tag : 0), tag);
    json_decref(config);
    return 1;
}

static bool is_open(struct store *s, const char *id)
{
    json_t *list = store_fact_get(s, kind, open_key), *item;
    size_t i;
    bool found = false;
    json_array_foreach(list, i, item)
    {
        found = found || (json_is_string(item) && strcmp(json_string_value(item), id) == 0);
    }
    json_decref(list);
    return found;
}

bool run_contest_of(struct store *s, const char *run_id, char contest[static 27])
{
    contest[0] = 0;
    if (store_run_get(s, run_id, take_tag, contest, NULL) != 0 || !is_open(s, contest))
        contest[0] = 0;
    return contest[0] != 0;
}

bool run_contest_latest(struct store *s, char contest[static 27])
{
    json_t *list = store_fact_get(s, kind, open_key);
    const char *last = json_string_value(json_array_get(list, json_array_size(list) - 1));
    snprintf(contest, 27, "%s", last ? last : "");
    json_decref(list);
    return contest[0] != 0;
}
