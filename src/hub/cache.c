/* The cache that huggingface_hub shares, below $HF_HUB_CACHE:
 *
 *   .locks/models--ORG--NAME/<etag>.lock      flock, held while a blob is fetched
 *   models--ORG--NAME/refs/<revision>         the commit, without a newline
 *   models--ORG--NAME/blobs/<etag>            content, named by its hash
 *   models--ORG--NAME/snapshots/<commit>/<path>   relative link to the blob
 *   models--ORG--NAME/.no_exist/<commit>/<path>   empty: the commit has no such file
 *
 * A name appears only when what it names is complete. What is already there is used even where
 * nothing can be written. File systems without symbolic links get hard links or the file itself.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "hub/hub_int.h"

#include "base/banned.h"

enum { LIST_DEPTH_MAX = 8 };

/* "models--org--name" */
static char *repo_folder(const char *repo)
{
    const char *slash = strchr(repo, '/');
    return xasprintf("models--%.*s--%s", (int)(slash - repo), repo, slash + 1);
}

char *hub_cache_repo(const struct hub *h, const char *repo)
{
    char *folder = repo_folder(repo), *path = fs_join(h->cache, folder);
    xfree(folder);
    return path;
}

static char *below(const struct hub *h, const char *repo, const char *a, const char *b,
                   const char *c)
{
    char *root = hub_cache_repo(h, repo);
    char *path = xasprintf("%s/%s/%s%s%s", root, a, b, c ? "/" : "", c ? c : "");
    xfree(root);
    return path;
}

char *hub_cache_snapshot(const struct hub *h, const char *repo, const char *commit,
                         const char *path)
{
    return below(h, repo, "snapshots", commit, path);
}

char *hub_cache_blob(const struct hub *h, const char *repo, const char *etag)
{
    return below(h, repo, "blobs", etag, NULL);
}

char *hub_cache_lock(const struct hub *h, const char *repo, const char *etag)
{
    char *folder = repo_folder(repo);
    char *path = xasprintf("%s/.locks/%s/%s.lock", h->cache, folder, etag);
    xfree(folder);
    return path;
}

/* The folder that a file lies in. */
static int make_parent(const char *path, struct err *e)
{
    char *folder = xstrdup(path);
    char *slash = strrchr(folder, '/');
    int rc = 0;
    if (slash && slash != folder) {
        *slash = 0;
        rc = fs_mkdirs(folder, e);
    }
    xfree(folder);
    return rc;
}

int hub_cache_make(const struct hub *h, const char *repo, struct err *e)
{
    char *blobs = below(h, repo, "blobs", "", NULL), *lock = hub_cache_lock(h, repo, "x");
    int rc = fs_mkdirs(blobs, e) || make_parent(lock, e) ? -1 : 0;
    if (rc && e && !e->hint[0])
        snprintf(e->hint, sizeof(e->hint), "HF_HUB_CACHE names another folder for the cache");
    xfree(blobs);
    xfree(lock);
    return rc;
}

bool hub_cache_commit(const struct hub *h, const struct hub_ref *ref,
                      char commit[static HUB_COMMIT_MAX])
{
    enum { COMMIT = HUB_COMMIT_MAX - 1, REF_BYTES_MAX = 256 };
    char *text = NULL;
    size_t n = 0;
    commit[0] = 0;
    if (hub_is_hex(ref->revision, COMMIT)) {
        snprintf(commit, HUB_COMMIT_MAX, "%.40s", ref->revision);
        return true;
    }
    char *path = below(h, ref->repo, "refs", ref->revision, NULL);
    if (fs_exists(path) && fs_read_all(path, REF_BYTES_MAX, &text, &n, NULL) == 0) {
        text[strcspn(text, " \r\n")] = 0;
        if (hub_is_hex(text, COMMIT))
            snprintf(commit, HUB_COMMIT_MAX, "%.40s", text);
    }
    xfree(text);
    xfree(path);
    return commit[0] != 0;
}

int hub_cache_write_ref(const struct hub *h, const struct hub_ref *ref, const char *commit,
                        struct err *e)
{
    char now[HUB_COMMIT_MAX];
    if (hub_cache_commit(h, ref, now) && strcmp(now, commit) == 0)
        return 0;
    if (hub_is_hex(ref->revision, HUB_COMMIT_MAX - 1))
        return 0;
    char *path = below(h, ref->repo, "refs", ref->revision, NULL);
    int rc = make_parent(path, e) ? -1 : fs_write_all(path, commit, strlen(commit), e);
    xfree(path);
    return rc;
}

bool hub_cache_has(const struct hub *h, const char *repo, const struct hub_file *f)
{
    uint64_t bytes = 0;
    char *blob = hub_cache_blob(h, repo, f->etag);
    bool has = fs_exists(blob) && fs_size(blob, &bytes, NULL) == 0 && bytes == f->size;
    xfree(blob);
    return has;
}

/* "../../blobs/<etag>", one ".." more for each folder that path is in. */
static char *link_text(const struct hub_file *f)
{
    struct buf b;
    buf_init(&b, 2 * HUB_PATH_MAX);
    buf_adds(&b, "../../");
    for (const char *p = f->path; *p; p++)
        if (*p == '/')
            buf_adds(&b, "../");
    buf_addf(&b, "blobs/%s", f->etag);
    return buf_take(&b);
}

/* Puts a link at `temporary`, of the kind that the file system has. */
static int link_make(const char *target, const char *blob, const char *temporary, struct err *e)
{
    if (symlink(target, temporary) == 0)
        return 0;
    if (errno != EPERM && errno != ENOSYS && errno != EOPNOTSUPP)
        return err_set_errno(e, errno, NULL, "cannot make the link %s", temporary);
    if (link(blob, temporary) == 0 || rename(blob, temporary) == 0)
        return 0;
    return err_set_errno(e, errno, NULL, "cannot make the link %s", temporary);
}

static bool points_to(const char *entry, const char *blob)
{
    struct stat a, b;
    return stat(entry, &a) == 0 && stat(blob, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

int hub_cache_point(const struct hub *h, const char *repo, const char *commit,
                    const struct hub_file *f, struct err *e)
{
    char *entry = hub_cache_snapshot(h, repo, commit, f->path);
    char *blob = hub_cache_blob(h, repo, f->etag), *target = link_text(f);
    char *temporary = xasprintf("%s.sintra-%ld", entry, (long)getpid());
    int rc = 0;
    if (points_to(entry, blob))
        goto out;
    rc = make_parent(entry, e);
    if (rc)
        goto out;
    unlink(temporary);
    rc = link_make(target, blob, temporary, e);
    if (rc == 0 && rename(temporary, entry) < 0)
        rc = err_set_errno(e, errno, NULL, "cannot make the link %s", entry);
out:
    xfree(entry);
    xfree(blob);
    xfree(target);
    xfree(temporary);
    return rc;
}

void hub_cache_absent(const struct hub *h, const char *repo, const char *commit, const char *path)
{
    char *marker = below(h, repo, ".no_exist", commit, path);
    if (!fs_exists(marker) && make_parent(marker, NULL) == 0) {
        int fd = open(marker, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        if (fd >= 0)
            close(fd);
    }
    xfree(marker);
}

/* ---- a snapshot as a listing -------------------------------------------------------------------
 */

static int list_below(const char *root, const char *inside, int depth, struct hub_repo *r,
                      size_t *capacity, struct err *e)
{
    char **names = NULL;
    size_t n = 0;
    char *folder = inside[0] ? fs_join(root, inside) : xstrdup(root);
    int rc = fs_list(folder, &names, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        char *path = inside[0] ? fs_join(inside, names[i]) : xstrdup(names[i]);
        char *whole = fs_join(root, path);
        if (fs_is_dir(whole)) {
            if (depth < LIST_DEPTH_MAX)
                rc = list_below(root, path, depth + 1, r, capacity, e);
        } else if (fs_exists(whole) && hub_path_safe(path) && r->n < HUB_FILES_MAX) {
            r->files = xgrow(r->files, capacity, r->n + 1, sizeof(*r->files));
            r->files[r->n] = (struct hub_file){.path = xstrdup(path)};
            fs_size(whole, &r->files[r->n++].size, NULL);
        }
        xfree(path);
        xfree(whole);
    }
    fs_list_free(names, n);
    xfree(folder);
    return rc;
}

int hub_cache_list(const struct hub *h, const char *repo, const char *commit, struct hub_repo *r,
                   struct err *e)
{
    size_t capacity = 0;
    char *root = hub_cache_snapshot(h, repo, commit, NULL);
    *r = (struct hub_repo){0};
    int rc = fs_is_dir(root) ? list_below(root, "", 0, r, &capacity, e) : 0;
    snprintf(r->commit, sizeof(r->commit), "%s", commit);
    xfree(root);
    return rc;
}
