/* `publish`: a result folder to the hub, as a model of its own with a card.
 *
 * What is published cannot be taken back from those who fetched it: without --yes only what would
 * be sent is shown, and nothing is asked of the hub.
 */
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "cmd/cmd_int.h"
#include "hub/hub.h"
#include "run/run.h"

#include "base/banned.h"

enum { REPORT_BYTES_MAX = 64 << 20, SUMS_BYTES_MAX = 1 << 20 };

static const struct arg_spec publish_args[] = {
    {.name = "DIR",
     .type = ARG_PATH,
     .positional = true,
     .required = true,
     .value = "DIR",
     .help = "folder to publish, as optimize writes it"},
    {.name = "MODEL",
     .type = ARG_TEXT,
     .positional = true,
     .required = true,
     .value = "MODEL",
     .help = "org/name[@branch] on the hub"},
    {.name = "yes", .letter = 'y', .type = ARG_FLAG, .help = "do it; without, only show it"},
    {.name = "private", .type = ARG_FLAG, .help = "a new repository is private"},
    {.name = "base-model",
     .type = ARG_TEXT,
     .value = "MODEL",
     .help = "org/name of the original, for the card"},
    {.name = "message",
     .letter = 'm',
     .type = ARG_TEXT,
     .value = "TEXT",
     .help = "of the commit",
     .fallback = "Upload with sintra"},
    ARG_LINE_END,
};

/* ".../models--ORG--NAME/snapshots/..." → "ORG/NAME"; NULL when the model is not of the cache.
 * xfree. */
static char *cached_name(const char *path)
{
    static const char before[] = "/models--";
    const char *begin = strstr(path, before), *end = begin ? strstr(begin, "/snapshots/") : NULL;
    begin = begin ? begin + sizeof(before) - 1 : NULL;
    const char *dashes = begin && end ? strstr(begin, "--") : NULL;
    if (!dashes || dashes >= end)
        return NULL;
    return xasprintf("%.*s/%.*s", (int)(dashes - begin), begin, (int)(end - dashes - 2),
                     dashes + 2);
}

/* What is made of a folder with a report, and not as it lies there; NULL where there is nothing. */
struct made {
    char *card, *report, *sums;
};

static void made_release(struct made *m)
{
    xfree(m->card);
    xfree(m->report);
    xfree(m->sums);
}

/* SHA256SUMS with the hash of the report as it is published; NULL where the folder has none. */
static int sums_make(const char *folder, const char *report, char **sums, struct err *e)
{
    static const char name[] = "  report.json";
    char *path = fs_join(folder, "SHA256SUMS"), *text = NULL, hex[HASH_HEX_MAX];
    size_t n = 0;
    int rc = fs_exists(path) ? fs_read_all(path, SUMS_BYTES_MAX, &text, &n, e) : 0;
    struct buf b;
    buf_init(&b, SUMS_BYTES_MAX * 2);
    hash_sha256_text(report, strlen(report), hex);
    for (const char *line = text; rc == 0 && line && *line;) {
        size_t length = strcspn(line, "\n"), all = HASH_HEX_MAX - 1 + sizeof(name) - 1;
        bool own = length == all && memcmp(line + HASH_HEX_MAX - 1, name, sizeof(name) - 1) == 0;
        buf_addf(&b, "%.*s", (int)(own ? 0 : length), line);
        buf_addf(&b, "%s%s\n", own ? hex : "", own ? name : "");
        line += length + (line[length] == '\n');
    }
    if (rc == 0 && text)
        *sums = xstrdup(buf_str(&b));
    buf_release(&b);
    xfree(text);
    xfree(path);
    return rc;
}

/* Card, report and sums for a folder with a report. */
static int texts_make(const struct cmd_args *a, struct made *m, struct err *e)
{
    const char *base = cmd_text(a, "base-model"), *folder = cmd_text(a, "DIR");
    char *path = fs_join(folder, "report.json"), *found = NULL;
    json_t *report = NULL;
    struct hub_ref ref;
    int rc = base ? hub_ref_parse(&ref, base, e) : 0;
    if (rc == 0 && fs_exists(path)) {
        report = json_read(path, REPORT_BYTES_MAX, e);
        rc = report ? 0 : -1;
    }
    if (report) {
        found = cached_name(json_opt_str(json_object_get(report, "model"), "path", ""));
        const char *original = base ? ref.repo : found;
        json_t *public = run_report_public_new(report, original);
        m->card = run_card_markdown(public, original);
        m->report = json_text(public, true);
        json_decref(public);
        rc = sums_make(folder, m->report, &m->sums, e);
    }
    json_decref(report);
    xfree(found);
    xfree(path);
    return rc;
}

static int plan_make(const struct cmd_args *a, const struct made *m, struct hub_plan *p,
                     struct err *e)
{
    if (hub_plan_make(p, cmd_text(a, "DIR"), e))
        return -1;
    if (m->report)
        hub_plan_text(p, "report.json", m->report);
    if (m->sums)
        hub_plan_text(p, "SHA256SUMS", m->sums);
    if (m->card && !hub_plan_has(p, "README.md"))
        hub_plan_text(p, "README.md", m->card);
    return 0;
}

static json_t *plan_json_new(const struct hub_ref *ref, const struct hub_plan *p)
{
    json_t *o = json_object(), *files = json_array();
    for (size_t i = 0; i < p->n; i++) {
        const struct hub_upload *f = &p->files[i];
        json_array_append_new(files, json_pack("{s:s,s:o,s:b,s:b}", "path", f->path, "bytes",
                                               cmd_bytes_json_new(f->bytes), "large", f->large,
                                               "made", f->text != NULL));
    }
    json_object_set_new(o, "model", json_string(ref->repo));
    json_object_set_new(o, "revision", json_string(ref->revision));
    json_object_set_new(o, "files", files);
    json_object_set_new(o, "bytes", cmd_bytes_json_new(p->bytes));
    json_object_set_new(o, "published", json_false());
    return o;
}

static int send(struct cmd_context *c, const struct cmd_args *a, const struct hub_ref *ref,
                struct hub_plan *p, json_t *doc, struct err *e)
{
    struct hub *h = NULL;
    char url[512], commit[HUB_COMMIT_MAX];
    struct hub_publish o = {.ref = ref,
                            .message = cmd_text(a, "message"),
                            .is_private = cmd_flag(a, "private"),
                            .progress = c->progress};
    int rc = hub_open(&h, e) ? -1 : hub_publish(h, &o, p, url, commit, e);
    hub_close(h);
    if (rc)
        return -1;
    json_object_set_new(doc, "published", json_true());
    json_object_set_new(doc, "url", json_string(url));
    json_object_set_new(doc, "commit", json_string(commit));
    return 0;
}

static int publish_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                       struct err *e)
{
    struct hub_ref ref;
    struct hub_plan plan = {0};
    struct made made = {0};
    json_t *doc = NULL;
    int rc = hub_ref_parse(&ref, cmd_text(a, "MODEL"), e);
    if (rc == 0)
        rc = texts_make(a, &made, e) || plan_make(a, &made, &plan, e) ? -1 : 0;
    if (rc == 0) {
        doc = plan_json_new(&ref, &plan);
        rc = cmd_flag(a, "yes") ? send(c, a, &ref, &plan, doc, e) : 0;
    }
    if (rc == 0)
        *result = json_incref(doc);
    json_decref(doc);
    hub_plan_release(&plan);
    made_release(&made);
    return rc;
}

const struct cmd cmd_publish = {
    .name = "publish",
    .group = CMD_HUB,
    .summary = "upload a result folder to the hub as a model; shows first",
    .description =
        "Sends the files of a folder as one commit to org/name, which is made when it does not "
        "exist. A folder that optimize wrote gets a model card from its report, README.md with "
        "base model, measured table and how to run it, unless it has a README.md; of the paths "
        "that its report names only the last part is published. Without --yes nothing is sent: "
        "the list of files is shown. Needs a token that may write ('sintra hf "
        "login'). Hidden files are left out. An interrupted upload goes on with the files that "
        "have not arrived.",
    .example = "sintra publish ./result me/TinyLlama-1.1B-4.5bpw-GGUF\n"
               "sintra publish ./result me/TinyLlama-1.1B-4.5bpw-GGUF --private --yes",
    .args = publish_args,
    .run = publish_run,
};
