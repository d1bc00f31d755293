/* A model by name → a path in the cache: list, choose, fetch, point, remember.
 *
 * The ref is written last: until all is there, a revision that was complete before stays what an
 * offline program finds. A commit whose files are all in the cache needs no request, if a tokenizer
 * is among them: other programs may have fetched only a part. A hub that cannot be reached is no
 * failure while the cache has the revision.
 */
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "hub/hub_int.h"

#include "base/banned.h"

/* The second step of the choice: shards that the index of the snapshot names. */
static int choose_shards(struct hub *h, const struct hub_ref *ref, struct hub_repo *r,
                         struct err *e)
{
    const struct hub_file *f = hub_repo_find(r, hub_index_name);
    if (!f || !f->wanted)
        return 0;
    char *path = hub_cache_snapshot(h, ref->repo, r->commit, hub_index_name);
    json_t *index = json_read(path, HUB_INDEX_BYTES_MAX, e);
    int rc = index ? hub_choose_shards(ref, r, index, e) : -1;
    json_decref(index);
    xfree(path);
    return rc;
}

static char *result_path(const struct hub *h, const struct hub_ref *ref, const char *commit,
                         const char *gguf)
{
    return hub_cache_snapshot(h, ref->repo, commit, gguf);
}

/* ---- from the cache alone ----------------------------------------------------------------------
 */

static int incomplete(const struct hub_ref *ref, const char *what, struct err *e)
{
    return err_set(e, ERR_MISSING,
                   "unset HF_HUB_OFFLINE, or 'sintra pull' it on a machine with the "
                   "network",
                   "%s@%s is not in the cache as a whole%s%.300s", ref->repo, ref->revision,
                   what[0] ? ": " : "", what);
}

/* A safetensors model without a tokenizer: left by a program that fetched only what it needed, or
 * its repository has none. */
static bool lacks_tokenizer(const struct hub_ref *ref, const struct hub_repo *r, const char *gguf,
                            struct err *e)
{
    if (gguf || hub_has_tokenizer(r))
        return false;
    incomplete(ref, "it has no tokenizer", e);
    return true;
}

/* 0: *out is the model in the cache. Strict: a tokenizer belongs to it. */
static int from_cache(struct hub *h, const struct hub_ref *ref, bool strict, struct hub_pulled *out,
                      struct err *e)
{
    struct hub_repo r = {0};
    const char *gguf = NULL;
    char commit[HUB_COMMIT_MAX];
    struct err why = {0};
    if (!hub_cache_commit(h, ref, commit))
        return incomplete(ref, "no commit is known for that revision", e);
    if (hub_cache_list(h, ref->repo, commit, &r, e))
        return -1;
    int rc = hub_choose(ref, &r, &gguf, &why) || choose_shards(h, ref, &r, &why)
                 ? incomplete(ref, r.n ? why.message : "", e)
                 : 0;
    if (rc == 0 && lacks_tokenizer(ref, &r, gguf, &why)) {
        if (!strict)
            log_warn("%s", why.message);
        else
            rc = -1;
    }
    for (size_t i = 0; rc == 0 && i < r.n; i++) {
        out->files += r.files[i].wanted;
        out->bytes += r.files[i].wanted ? r.files[i].size : 0;
    }
    if (rc == 0) {
        out->path = result_path(h, ref, commit, gguf);
        snprintf(out->commit, sizeof(out->commit), "%s", commit);
        out->offline = true;
    }
    hub_repo_release(&r);
    return rc;
}

/* ---- with the hub ------------------------------------------------------------------------------
 */

/* Where the listing has no size and hash, ask for them. */
static int complete_listing(struct hub *h, struct net *net, const struct hub_ref *ref,
                            struct hub_repo *r, struct err *e)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->files[i].wanted && !r->files[i].etag[0] &&
            hub_head(h, net, ref, r->commit, &r->files[i], e))
            return -1;
    return 0;
}

static void remember_absent(struct hub *h, const struct hub_ref *ref, const struct hub_repo *r)
{
    for (const char *const *name = hub_optional_names; *name; name++)
        if (!hub_repo_find(r, *name))
            hub_cache_absent(h, ref->repo, r->commit, *name);
}

static int fetch_all(struct hub *h, struct net *net, const struct hub_pull *p, struct hub_repo *r,
                     struct hub_pulled *out, struct err *e)
{
    const char *gguf = NULL;
    struct hub_fetch f = {
        .hub = h, .ref = p->ref, .repo = r, .connections = p->connections, .progress = p->progress};
    if (hub_choose(p->ref, r, &gguf, e) || complete_listing(h, net, p->ref, r, e) ||
        hub_fetch(&f, out, e))
        return -1;
    if (!gguf && hub_repo_find(r, hub_index_name)) {
        out->files = 0;
        out->bytes = 0;
        if (choose_shards(h, p->ref, r, e) || complete_listing(h, net, p->ref, r, e) ||
            hub_fetch(&f, out, e))
            return -1;
    }
    struct err why = {0};
    if (!gguf)
        remember_absent(h, p->ref, r);
    if (hub_cache_write_ref(h, p->ref, r->commit, &why))
        log_info("%s", why.message); /* a cache that can only be read */
    out->path = result_path(h, p->ref, r->commit, gguf);
    snprintf(out->commit, sizeof(out->commit), "%s", r->commit);
    return 0;
}

static int from_hub(struct hub *h, const struct hub_pull *p, struct hub_pulled *out, struct err *e)
{
    struct net_options o;
    struct hub_repo r = {0};
    struct err why = {0};
    hub_net_options(h, &o);
    struct net *net = net_open(&o);
    int rc = hub_list(h, net, p->ref, &r, &why);
    if (rc && (why.code == ERR_IO || why.code == ERR_TIMEOUT) &&
        from_cache(h, p->ref, false, out, NULL) == 0) {
        log_warn("%s; using what the cache has of %s", why.message, p->ref->repo);
        rc = 0;
    } else if (rc) {
        if (e)
            *e = why;
    } else {
        if (r.moved_to)
            log_warn("%s has been renamed to %s", p->ref->repo, r.moved_to);
        rc = fetch_all(h, net, p, &r, out, e);
        out->moved_to = r.moved_to ? xstrdup(r.moved_to) : NULL;
    }
    hub_repo_release(&r);
    net_close(net);
    return rc;
}

int hub_pull(struct hub *h, const struct hub_pull *p, struct hub_pulled *out, struct err *e)
{
    double began = clock_seconds();
    bool pinned = hub_is_hex(p->ref->revision, HUB_COMMIT_MAX - 1);
    *out = (struct hub_pulled){0};
    int rc;
    if (h->offline)
        rc = from_cache(h, p->ref, false, out, e);
    else if (pinned && from_cache(h, p->ref, true, out, NULL) == 0)
        rc = 0;
    else
        rc = from_hub(h, p, out, e);
    out->seconds = clock_seconds() - began;
    if (rc)
        hub_pulled_release(out);
    return rc;
}

void hub_pulled_release(struct hub_pulled *out)
{
    xfree(out->path);
    xfree(out->moved_to);
    *out = (struct hub_pulled){0};
}
