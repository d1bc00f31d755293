/* What a repository holds at a revision: one request for names, sizes and hashes.
 *
 * Everything that the hub says is checked before it becomes a path, a size or a name of a blob. A
 * mirror that lists names only is asked file by file (HEAD), as huggingface_hub does.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/num.h"
#include "hub/hub_int.h"
#include "net/url.h"

#include "base/banned.h"

bool hub_path_safe(const char *path)
{
    if (!path[0] || strlen(path) >= HUB_PATH_MAX || path[0] == '/' ||
        (isalpha((unsigned char)path[0]) && path[1] == ':'))
        return false;
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        for (size_t i = 0; i < n; i++)
            if (p[i] == '\\' || (unsigned char)p[i] < ' ' || p[i] == 0x7f)
                return false;
        p += n;
        if (*p == '/' && !*++p)
            return false;
    }
    return true;
}

char *hub_resolve_url(const struct hub *h, const char *repo, const char *revision, const char *path)
{
    char *r = net_url_escape(revision, ""), *p = net_url_escape(path, "/");
    char *url = xasprintf("%s/%s/resolve/%s/%s", h->endpoint, repo, r, p);
    xfree(r);
    xfree(p);
    return url;
}

void hub_repo_release(struct hub_repo *r)
{
    for (size_t i = 0; i < r->n; i++)
        xfree(r->files[i].path);
    xfree(r->files);
    xfree(r->moved_to);
    *r = (struct hub_repo){0};
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct hub_file *)a)->path, ((const struct hub_file *)b)->path);
}

struct hub_file *hub_repo_find(const struct hub_repo *r, const char *path)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->files[i].path, path) == 0)
            return &r->files[i];
    return NULL;
}

/* Size and hash of a sibling where both are there and sound. */
static void take_identity(struct hub_file *f, const json_t *o)
{
    const json_t *lfs = json_object_get(o, "lfs");
    const char *hash = json_is_object(lfs)
                           ? json_opt_str(lfs, "sha256", json_opt_str(lfs, "oid", ""))
                           : json_opt_str(o, "blobId", json_opt_str(o, "oid", ""));
    int64_t size =
        json_opt_i64(o, "size", json_is_object(lfs) ? json_opt_i64(lfs, "size", -1) : -1);
    if (size < 0 || !hub_is_hex(hash, json_is_object(lfs) ? 64 : 40))
        return;
    f->size = (uint64_t)size;
    snprintf(f->etag, sizeof(f->etag), "%s", hash);
}

static int take_files(const struct hub_ref *ref, const json_t *list, struct hub_repo *r,
                      struct err *e)
{
    size_t n = json_array_size(list), i;
    const json_t *o;
    if (n > HUB_FILES_MAX)
        return err_set(e, ERR_LIMIT, NULL, "%s has %zu files; the limit is %d", ref->repo, n,
                       HUB_FILES_MAX);
    r->files = xcalloc(n ? n : 1, sizeof(*r->files));
    json_array_foreach((json_t *)(uintptr_t)list, i, o)
    {
        const char *path = json_opt_str(o, "rfilename", "");
        if (!hub_path_safe(path))
            return err_set(e, ERR_INPUT, "do not use this repository",
                           "%s: the hub lists a file whose name would leave its folder", ref->repo);
        struct hub_file *f = &r->files[r->n++];
        f->path = xstrdup(path);
        take_identity(f, o);
    }
    qsort(r->files, r->n, sizeof(*r->files), by_path);
    for (size_t k = 1; k < r->n; k++)
        if (strcmp(r->files[k - 1].path, r->files[k].path) == 0)
            return err_set(e, ERR_INPUT, NULL, "%s: the hub lists %s twice", ref->repo,
                           r->files[k].path);
    return 0;
}

static int take_listing(const struct hub_ref *ref, const struct net_answer *a, struct hub_repo *r,
                        struct err *e)
{
    char *shown = net_url_shown(a->url);
    json_t *doc = json_parse(buf_str(&a->body), a->body.len, shown, e);
    const char *commit = json_opt_str(doc, "sha", ""), *id = json_opt_str(doc, "id", ref->repo);
    const json_t *files = json_object_get(doc, "siblings");
    int rc = -1;
    if (!doc)
        goto out;
    if (!hub_is_hex(commit, HUB_COMMIT_MAX - 1) || !json_is_array(files)) {
        err_set(
            e, ERR_INPUT, "is HF_ENDPOINT the address of a hub?",
            "%s: the answer is no listing of a model (no commit in \"sha\", or no \"siblings\")",
            shown);
        goto out;
    }
    snprintf(r->commit, sizeof(r->commit), "%s", commit);
    if (strcasecmp(id, ref->repo) != 0 && hub_ref_looks(id))
        r->moved_to = xstrdup(id);
    rc = take_files(ref, files, r, e);
out:
    json_decref(doc);
    xfree(shown);
    return rc;
}

int hub_list(struct hub *h, struct net *net, const struct hub_ref *ref, struct hub_repo *r,
             struct err *e)
{
    char *revision = net_url_escape(ref->revision, "");
    char *url =
        xasprintf("%s/api/models/%s/revision/%s?blobs=true", h->endpoint, ref->repo, revision);
    struct net_request q = {
        .method = "GET", .url = url, .token = hub_bearer(h), .answer_max = HUB_LISTING_BYTES_MAX};
    struct net_answer a;
    *r = (struct hub_repo){0};
    int rc = net_ask(net, &q, &a, e);
    if (rc == 0 && a.status != 200)
        rc = hub_refuse(h, ref, NULL, &a, e);
    else if (rc == 0)
        rc = take_listing(ref, &a, r, e);
    if (rc)
        hub_repo_release(r);
    net_answer_release(&a);
    xfree(url);
    xfree(revision);
    return rc;
}

/* W/"abc" → abc; "" when it is no hash. */
static void etag_take(char etag[static HUB_ETAG_MAX], const char *text)
{
    size_t n;
    if (strncmp(text, "W/", 2) == 0)
        text += 2;
    text += *text == '"';
    n = strcspn(text, "\"");
    snprintf(etag, HUB_ETAG_MAX, "%.*s", n < HUB_ETAG_MAX ? (int)n : 0, text);
    if (!hub_is_hex(etag, 64) && !hub_is_hex(etag, 40))
        etag[0] = 0;
}

int hub_head(struct hub *h, struct net *net, const struct hub_ref *ref, const char *commit,
             struct hub_file *f, struct err *e)
{
    char *url = hub_resolve_url(h, ref->repo, commit, f->path);
    struct net_request q = {.method = "HEAD", .url = url, .token = hub_bearer(h)};
    struct net_answer a;
    int64_t size = -1;
    int rc = net_ask(net, &q, &a, e);
    if (rc == 0 && (a.status >= 400 || a.status < 200)) {
        rc = hub_refuse(h, ref, f->path, &a, e);
    } else if (rc == 0) {
        const char *etag = net_header(&a, "X-Linked-Etag"), *n = net_header(&a, "X-Linked-Size");
        bool elsewhere = a.status >= 300;
        etag = etag ? etag : net_header(&a, "ETag");
        n = n || elsewhere ? n : net_header(&a, "Content-Length");
        etag_take(f->etag, etag ? etag : "");
        if (!f->etag[0] || !n || num_parse_i64(n, "size", 0, INT64_MAX, &size, NULL))
            rc = err_set(e, ERR_INPUT, "is HF_ENDPOINT the address of a hub?",
                         "%s/%s: the hub does not say the size and the hash of the file", ref->repo,
                         f->path);
        f->size = rc ? 0 : (uint64_t)size;
    }
    net_answer_release(&a);
    xfree(url);
    return rc;
}
