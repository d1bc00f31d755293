/* The result folder: complete under its name, or not there.
 *
 * It is built as a sibling with a temporary name and moved into place by one rename; an earlier
 * result is exchanged in one step where the system can (renameat2), so at no time is half of one
 * there. Only a folder that is empty, or holds an earlier result and nothing else, is ever
 * replaced. Before that the delivered file is loaded, lets the model write a few words, and is
 * hashed; when this fails the next best candidate takes its place and the report says so.
 */
#include "run/run_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/banned.h"

enum { REPORT_BYTES_MAX = 64 << 20, COPY_BYTES = 1 << 20, CONTEXT_MOST = 1 << 24 };

/* ---- may the folder be replaced? ---- */

static bool is_own_file(const char *name, const json_t *report)
{
    static const char *const fixed[] = {"report.json", "report.md",    "report.html", "recipe.json",
                                        "README.md",   "imatrix.gguf", "SHA256SUMS"};
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        if (strcmp(fixed[i], name) == 0)
            return true;
    const char *file = json_opt_str(json_object_get(report, "best"), "file", "");
    return strcmp(file, name) == 0;
}

static bool is_front_recipe(const char *name, const json_t *report)
{
    const json_t *c;
    size_t k;
    bool found = false;
    json_array_foreach(json_object_get(report, "front"), k, c)
    {
        found = found || strcmp(json_opt_str(c, "recipe_file", ""), name) == 0;
    }
    return found;
}

/* The same for the folder of the front's recipes: NULL when it holds nothing else. */
static char *foreign_recipe(const char *folder, const json_t *report)
{
    char *path = fs_join(folder, FRONT_FOLDER), **names = NULL, *found = NULL;
    size_t n = 0;
    if (!fs_is_dir(path) || fs_list(path, &names, &n, NULL) != 0)
        found = xstrdup(FRONT_FOLDER);
    for (size_t i = 0; !found && i < n; i++) {
        char *name = fs_join(FRONT_FOLDER, names[i]);
        if (is_front_recipe(name, report))
            xfree(name);
        else
            found = name;
    }
    fs_list_free(names, n);
    xfree(path);
    return found;
}

/* The name of a file that is not ours, or NULL; "" when the folder is no result at all. */
static char *foreign_file(const char *folder, char **names, size_t n)
{
    char *path = fs_join(folder, "report.json");
    json_t *report = fs_exists(path) ? json_read(path, REPORT_BYTES_MAX, NULL) : NULL;
    char *found = NULL;
    xfree(path);
    if (!json_object_get(report, REPORT_MARKER))
        found = xstrdup("");
    for (size_t i = 0; !found && i < n; i++) {
        if (strcmp(names[i], FRONT_FOLDER) == 0)
            found = foreign_recipe(folder, report);
        else if (!is_own_file(names[i], report))
            found = xstrdup(names[i]);
    }
    json_decref(report);
    return found;
}

static int check_existing(const char *folder, struct err *e)
{
    char **names = NULL;
    size_t n = 0;
    if (!fs_is_dir(folder))
        return err_set(e, ERR_USAGE, "choose another folder with --out",
                       "%s exists and is no folder", folder);
    if (fs_list(folder, &names, &n, e) != 0)
        return -1;
    char *foreign = n > 0 ? foreign_file(folder, names, n) : NULL;
    fs_list_free(names, n);
    if (!foreign)
        return 0;
    int rc = foreign[0] ? err_set(e, ERR_USAGE, "move it away, or choose another folder with --out",
                                  "%s holds an earlier result and also %s, which would be lost",
                                  folder, foreign)
                        : err_set(e, ERR_USAGE, "choose an empty or new folder with --out",
                                  "%s is not empty and holds no earlier result", folder);
    xfree(foreign);
    return rc;
}

static char *parent_of(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n == 0 ? xstrdup(".") : xstrndup(path, n);
}

/* A sibling of the folder, on the same file system. Named by the run, so that a resumed run finds
 * and removes what a killed one left. */
static char *temporary_of(const char *folder, const char *tag)
{
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/')
        n--;
    return xasprintf("%.*s.sintra-%s.partial", (int)n, folder, tag);
}

int deliver_check(const struct settings *s, struct err *e)
{
    if (!s->out_dir)
        return err_set(e, ERR_USAGE, "give --out", "no folder for the result is given");
    char tag[24];
    snprintf(tag, sizeof(tag), "%ld", (long)getpid());
    char *parent = parent_of(s->out_dir), *temporary = temporary_of(s->out_dir, tag);
    int rc = fs_exists(s->out_dir) ? check_existing(s->out_dir, e) : 0;
    if (rc == 0)
        rc = fs_mkdirs(parent, e);
    if (rc == 0 && mkdir(temporary, 0777) != 0 && errno != EEXIST)
        rc = err_set_errno(e, errno, NULL, "cannot create the result beside %s", s->out_dir);
    rmdir(temporary);
    if (rc != 0)
        err_context(e, "result folder");
    xfree(parent);
    xfree(temporary);
    return rc;
}

/* ---- files ---- */

static int copy_bytes(int from, struct fs_atomic *to, const char *path, struct err *e)
{
    char *buffer = xmalloc(COPY_BYTES / 2);
    int rc = 0;
    for (;;) {
        ssize_t n = read(from, buffer, COPY_BYTES / 2);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = err_set_errno(e, errno, NULL, "cannot read %s", path);
        if (n <= 0)
            break;
        rc = fs_atomic_write(to, buffer, (size_t)n, e);
        if (rc != 0)
            break;
    }
    xfree(buffer);
    return rc;
}

static int copy_file(const char *from, const char *to, struct err *e)
{
    struct fs_atomic a;
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(e, errno, NULL, "cannot open %s", from);
    int rc = fs_atomic_open(&a, to, e);
    if (rc == 0) {
        rc = copy_bytes(fd, &a, from, e);
        if (rc == 0)
            rc = fs_atomic_commit(&a, e);
        fs_atomic_abort(&a);
    }
    close(fd);
    return rc;
}

/* A second name costs nothing; another file system needs a copy. */
static int place_file(const char *from, const char *to, struct err *e)
{
    return link(from, to) == 0 ? 0 : copy_file(from, to, e);
}

/* "sample-4.49bpw.gguf": of the model's name what may stand in a file name. */
static char *file_name(const struct run *r, uint64_t bytes)
{
    char name[96];
    size_t n = 0;
    const char *from =
        r->subject.desc->name && r->subject.desc->name[0] ? r->subject.desc->name : "model";
    for (; *from && n < sizeof(name) - 1; from++) {
        bool plain = (*from >= 'a' && *from <= 'z') || (*from >= 'A' && *from <= 'Z') ||
                     (*from >= '0' && *from <= '9') || *from == '.' || *from == '_';
        name[n] = plain ? *from : '-';
        n += n > 0 || name[n] != '.';
    }
    name[n] = 0;
    return xasprintf("%s-%.2fbpw.gguf", n > 0 ? name : "model",
                     (double)bytes * 8 / (double)r->subject.desc->parameters);
}

/* ---- the check of a file ---- */

static int check_file(struct run *r, const struct trial *t, const char *path, const char *sha256,
                      char **text, struct err *e)
{
    char found[65];
    if (hash_sha256_file(path, found, e) != 0)
        return -1;
    if (strcmp(found, sha256) != 0)
        return err_set(e, ERR_IO, "the disk or its memory may be faulty",
                       "%s: SHA-256 is %.16s..., as written it was %.16s...", path, found, sha256);
    return r->world->generate(r, t, path, text, e);
}

/* Places finalist i in the folder and checks it there. 1 = it failed its check, try another. */
static int place_candidate(struct run *r, struct outcome *o, int i, const char *folder,
                           struct err *e)
{
    size_t trial = r->finals.items[i].trial;
    const struct trial *t = &r->trials.items[trial];
    struct err inner = {0};
    xfree(o->file_name);
    o->file_name = file_name(r, t->bytes);
    memcpy(o->sha256, r->file_sha256[trial], sizeof(o->sha256));
    o->bytes = t->bytes;
    if (r->set.mock)
        return 0;
    char *from = trial_file(r, trial, &inner), *to = fs_join(folder, o->file_name);
    int rc = from ? place_file(from, to, &inner) : -1;
    bool placed = rc == 0;
    if (placed)
        rc = check_file(r, t, to, o->sha256, &o->text, &inner);
    /* A file that is not there speaks of the disk, not of the candidate. */
    if (rc != 0 && (error_is_of_trial(&inner) || (placed && inner.code == ERR_IO))) {
        fs_remove(to, NULL);
        run_note(r, "the file of %s failed its last check: %s",
                 t->stock_name ? t->stock_name : "the best candidate", inner.message);
        rc = 1;
    } else if (rc != 0) {
        *e = inner;
    }
    xfree(from);
    xfree(to);
    return rc;
}

static int place_best(struct run *r, struct outcome *o, const char *folder, struct err *e)
{
    int *order = xcalloc(r->finals.n + 1, sizeof(*order));
    size_t n;
    int rc = 1;
    final_order(r, o, order, &n);
    for (size_t k = 0; rc == 1 && k < n; k++) {
        rc = place_candidate(r, o, order[k], folder, e);
        if (rc == 0 && k > 0) {
            run_note(r, "an earlier candidate is delivered instead");
            o->best = order[k];
            o->paired = (struct stat_mean){0};
            const struct trial *t = &r->trials.items[r->finals.items[o->best].trial];
            o->met = targets_met(&r->set.targets, t->bytes, r->subject.desc->parameters,
                                 &r->finals.items[o->best].score, o->why);
        }
    }
    xfree(order);
    return rc == 1 ? err_set(e, ERR_CHILD, "run again with -v to see what the library says",
                             "no candidate passed the check of the finished file")
                   : rc;
}

/* ---- documents ---- */

static int write_text(const char *folder, const char *name, const char *text, struct err *e)
{
    char *path = fs_join(folder, name);
    int rc = fs_write_all(path, text, strlen(text), e);
    xfree(path);
    return rc;
}

static int write_json(const char *folder, const char *name, const json_t *doc, struct err *e)
{
    char *text = json_text(doc, true), *line = xasprintf("%s\n", text);
    int rc = write_text(folder, name, line, e);
    xfree(text);
    xfree(line);
    return rc;
}

/* One line of SHA256SUMS. The delivered file was hashed a moment ago. */
static int add_sum(struct buf *b, const char *folder, const char *name, const struct outcome *o,
                   struct err *e)
{
    char hex[65], *path = fs_join(folder, name);
    int rc = 0;
    if (strcmp(name, o->file_name) == 0)
        memcpy(hex, o->sha256, sizeof(hex));
    else
        rc = hash_sha256_file(path, hex, e);
    if (rc == 0)
        buf_addf(b, "%s  %s\n", hex, name);
    xfree(path);
    return rc;
}

static int write_sums(const char *folder, const json_t *report, const struct outcome *o,
                      struct err *e)
{
    char **names = NULL;
    size_t n = 0, k;
    struct buf b;
    const json_t *c;
    if (fs_list(folder, &names, &n, e) != 0)
        return -1;
    buf_init(&b, 1 << 20);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (strcmp(names[i], FRONT_FOLDER) != 0)
            rc = add_sum(&b, folder, names[i], o, e);
    json_array_foreach(json_object_get(report, "front"), k, c)
    {
        if (rc == 0)
            rc = add_sum(&b, folder, json_opt_str(c, "recipe_file", ""), o, e);
    }
    if (rc == 0)
        rc = write_text(folder, "SHA256SUMS", buf_str(&b), e);
    buf_release(&b);
    fs_list_free(names, n);
    return rc;
}

/* A recipe for every member of the front, so that `quantize` can make each of them. */
static int write_front(const char *folder, const json_t *report, struct err *e)
{
    char *path = fs_join(folder, FRONT_FOLDER);
    const json_t *c;
    size_t k;
    int rc = fs_mkdirs(path, e);
    json_array_foreach(json_object_get(report, "front"), k, c)
    {
        if (rc == 0)
            rc = write_json(folder, json_opt_str(c, "recipe_file", ""),
                            json_object_get(c, "recipe"), e);
    }
    xfree(path);
    return rc;
}

/* What the hub shows of a repository, should the folder become one. */
static int write_card(const char *folder, const json_t *report, struct err *e)
{
    char *card = run_card_markdown(report, NULL);
    int rc = write_text(folder, "README.md", card, e);
    xfree(card);
    return rc;
}

static int write_documents(struct run *r, const struct outcome *o, const char *folder,
                           json_t **report, struct err *e)
{
    *report = report_new(r, o);
    char *markdown = run_report_markdown(*report), *page = run_report_html(*report);
    int rc = write_json(folder, "recipe.json",
                        json_object_get(json_object_get(*report, "best"), "recipe"), e);
    if (rc == 0 && r->imatrix_path) {
        char *to = fs_join(folder, "imatrix.gguf");
        rc = copy_file(r->imatrix_path, to, e);
        xfree(to);
    }
    if (rc == 0)
        rc = write_json(folder, "report.json", *report, e);
    if (rc == 0)
        rc = write_text(folder, "report.md", markdown, e);
    if (rc == 0)
        rc = write_text(folder, "report.html", page, e);
    if (rc == 0)
        rc = write_front(folder, *report, e);
    if (rc == 0)
        rc = write_card(folder, *report, e);
    if (rc == 0)
        rc = write_sums(folder, *report, o, e);
    xfree(markdown);
    xfree(page);
    return rc;
}

/* ---- the move ---- */

static int move_into_place(const char *temporary, const char *out, struct err *e)
{
    if (rename(temporary, out) == 0) /* also over an empty folder */
        return 0;
    if (errno != EEXIST && errno != ENOTEMPTY)
        return err_set_errno(e, errno, NULL, "cannot move the result to %s", out);
    if (check_existing(out, e) != 0)
        return -1;
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, out, RENAME_EXCHANGE) == 0)
        return fs_remove_tree(temporary, e);
    /* A file system that cannot exchange: the old result keeps a name until the new one has its. */
    char *old = xasprintf("%s.old", temporary);
    int rc = rename(out, old) == 0 && rename(temporary, out) == 0
                 ? 0
                 : err_set_errno(e, errno, NULL, "cannot replace the earlier result in %s", out);
    if (rc == 0)
        rc = fs_remove_tree(old, e);
    xfree(old);
    return rc;
}

/* How far the context may grow within the memory that was asked for, up to what the model was
 * trained for. More than this machine has cannot be tried here. */
static void find_longest(struct run *r, struct outcome *o, const char *folder)
{
    const struct trial *t = &r->trials.items[r->finals.items[o->best].trial];
    uint64_t most = r->subject.desc->n_ctx_train, memory = r->set.targets.memory_max;
    struct err e = {0};
    if (memory == 0 || (memory > r->hw.ram_usable && !r->set.mock))
        return;
    if (most < r->limits.context)
        most = 2 * (uint64_t)r->limits.context;
    o->context_most = most < CONTEXT_MOST ? (uint32_t)most : CONTEXT_MOST;
    char *path = fs_join(folder, o->file_name);
    if (r->world->longest(r, t, path, memory, o->context_most, &o->longest_context, &e) != 0)
        run_note(r, "the longest context that fits is not known: %s", e.message);
    xfree(path);
}

int deliver_run(struct run *r, struct outcome *o, json_t **report, struct err *e)
{
    char *temporary = temporary_of(r->set.out_dir, r->id);
    stage_enter(r, STAGE_DELIVERY);
    int rc = fs_remove_tree(temporary, e);
    if (rc == 0)
        rc = fs_mkdirs(temporary, e);
    if (rc == 0)
        rc = place_best(r, o, temporary, e);
    if (rc == 0)
        find_longest(r, o, temporary);
    if (rc == 0)
        rc = write_documents(r, o, temporary, report, e);
    if (rc == 0)
        rc = move_into_place(temporary, r->set.out_dir, e);
    if (rc != 0) {
        fs_remove_tree(temporary, NULL);
        json_decref(*report);
        *report = NULL;
    }
    stage_leave(r);
    xfree(temporary);
    return rc;
}
