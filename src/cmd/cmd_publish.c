/* `publish`: a result folder to the hub, as a model of its own with a card.
 *
 * What is published cannot be taken back from those who fetched it: without --yes only what would
 * be sent is shown, and nothing is asked of the hub.
 */
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "cmd/cmd_int.h"
#include "hub/hub.h"
#include "run/run.h"

#include "base/banned.h"

enum { REPORT_BYTES_MAX = 64 << 20, SMALL_BYTES_MAX = 4 << 20 };

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

/* What is made for the repository: the card, the report in its three forms, and the checksums that
 * name them. */
struct made {
    char *card, *report, *markdown, *page, *sums;
    struct hub_made files[5];
    size_t n;
};

static void made_release(struct made *m)
{
    xfree(m->card);
    xfree(m->report);
    xfree(m->markdown);
    xfree(m->page);
    xfree(m->sums);
}

/* The text of a small file of the folder; NULL when there is none. */
static int read_small(const char *folder, const char *name, char **text, struct err *e)
{
    char *path = fs_join(folder, name);
    size_t n;
    *text = NULL;
    int rc = fs_exists(path) ? fs_read_all(path, SMALL_BYTES_MAX, text, &n, e) : 0;
    xfree(path);
    return rc;
}

/* Puts the sum of a text into SHA256SUMS, when that names the file; true when it did. */
static bool set_sum(char *sums, const char *file, const char *text)
{
    char hex[HASH_HEX_MAX], *tail = xasprintf("  %s\n", file);
    char *line = strstr(sums, tail);
    xfree(tail);
    if (!line || line - sums < HASH_HEX_MAX - 1)
        return false;
    hash_sha256_text(text, strlen(text), hex);
    memcpy(line - (HASH_HEX_MAX - 1), hex, HASH_HEX_MAX - 1);
    return true;
}

/* SHA256SUMS with the sums of what is made. */
static int make_sums(struct made *m, const char *folder, struct err *e)
{
    bool changed = false;
    if (read_small(folder, "SHA256SUMS", &m->sums, e))
        return -1;
    for (size_t i = 0; m->sums && i < m->n; i++)
        changed |= set_sum(m->sums, m->files[i].path, m->files[i].text);
    if (changed)
        m->files[m->n++] = (struct hub_made){"SHA256SUMS", m->sums};
    return 0;
}

/* A card that is not the one optimize wrote is its owner's: it stays. */
static int replace_card(struct made *m, const json_t *report, const char *folder, const char *base,
                        struct err *e)
{
    char *there = NULL, *written = run_card_markdown(report, NULL);
    int rc = read_small(folder, "README.md", &there, e);
    bool same = there && strcmp(there, written) == 0;
    xfree(written);
    if (rc == 0 && there && !same) {
        xfree(there);
        return base ? err_set(e, ERR_USAGE, "state base_model in its front matter instead",
                              "%s/README.md is a card of your own, which --base-model does not "
                              "change",
                              folder)
                    : 0;
    }
    if (rc == 0 && (!there || strcmp(there, m->card) != 0))
        m->files[m->n++] = (struct hub_made){"README.md", m->card};
    xfree(there);
    return rc;
}

/* In place of the folder's file, where it has one. */
static void replace(struct made *m, const char *folder, const char *name, const char *text)
{
    char *path = fs_join(folder, name);
    if (fs_exists(path))
        m->files[m->n++] = (struct hub_made){name, text};
    xfree(path);
}

/* The report without the paths of this machine. */
static void replace_report(struct made *m, const json_t *report, const char *folder,
                           const char *base)
{
    json_t *shown = run_report_public_new(report, base);
    m->report = json_text(shown, true);
    m->markdown = run_report_markdown(shown);
    m->page = run_report_html(shown);
    replace(m, folder, "report.json", m->report);
    replace(m, folder, "report.md", m->markdown);
    replace(m, folder, "report.html", m->page);
    json_decref(shown);
}

/* Card and report for a folder with a report. */
static int texts_make(const struct cmd_args *a, struct made *m, struct err *e)
{
    const char *base = cmd_text(a, "base-model"), *folder = cmd_text(a, "DIR");
    char *path = fs_join(folder, "report.json");
    json_t *report = NULL;
    struct hub_ref ref;
    int rc = base ? hub_ref_parse(&ref, base, e) : 0;
    if (rc == 0 && fs_exists(path)) {
        report = json_read(path, REPORT_BYTES_MAX, e);
        rc = report ? 0 : -1;
    }
    if (report) {
        m->card = run_card_markdown(report, base ? ref.repo : NULL);
        replace_report(m, report, folder, base ? ref.repo : NULL);
        rc = replace_card(m, report, folder, base, e) || make_sums(m, folder, e) ? -1 : 0;
    }
    json_decref(report);
    xfree(path);
    return rc;
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
                struct hub_plan *p, char url[static 512], char commit[static HUB_COMMIT_MAX],
                struct err *e)
{
    struct hub *h = NULL;
    struct hub_publish o = {.ref = ref,
                            .message = cmd_text(a, "message"),
                            .is_private = cmd_flag(a, "private"),
                            .progress = c->progress};
    int rc = hub_open(&h, e) ? -1 : hub_publish(h, &o, p, url, commit, e);
    hub_close(h);
    return rc;
}

/* Where it goes: a repository, in which the folder's files keep their names. */
static int target_parse(const char *text, struct hub_ref *ref, struct err *e)
{
    if (hub_ref_parse(ref, text, e))
        return -1;
    return ref->pick[0] ? err_set(e, ERR_USAGE, "name the repository alone: org/name[@branch]",
                                  "publish: \":%s\" names a file, and a whole folder is published",
                                  ref->pick)
                        : 0;
}

static int publish_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                       struct err *e)
{
    struct hub_ref ref;
    struct hub_plan plan = {0};
    struct made made = {0};
    char url[512], commit[HUB_COMMIT_MAX];
    bool yes = cmd_flag(a, "yes");
    int rc = target_parse(cmd_text(a, "MODEL"), &ref, e);
    if (rc == 0)
        rc = texts_make(a, &made, e) ||
                     hub_plan_make(&plan, cmd_text(a, "DIR"), made.files, made.n, e)
                 ? -1
                 : 0;
    if (rc == 0 && yes)
        rc = send(c, a, &ref, &plan, url, commit, e);
    if (rc == 0)
        *result = plan_json_new(&ref, &plan);
    if (rc == 0 && yes) {
        json_object_set_new(*result, "published", json_true());
        json_object_set_new(*result, "url", json_string(url));
        json_object_set_new(*result, "commit", json_string(commit));
    }
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
        "base model, measured table and how to run it; one that was edited stays as it is. "
        "Of the paths that the report names only the last part is published. Without --yes nothing "
        "is sent: the list of files is shown. Needs a token that may write "
        "('sintra hf login'). Hidden files are left out. An interrupted upload goes on with the "
        "files that have not arrived.",
    .example = "sintra publish ./result me/TinyLlama-1.1B-4.5bpw-GGUF\n"
               "sintra publish ./result me/TinyLlama-1.1B-4.5bpw-GGUF --private --yes",
    .args = publish_args,
    .run = publish_run,
};
