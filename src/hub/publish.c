/* A folder to the hub, as one commit: what is in it, where each file goes, upload, commit.
 *
 * The hub says which files go to its large-file store; those are sent to the addresses it signs,
 * without the token, whole or in parts, and verified; what the store has already is not sent again.
 * The commit itself is one request of JSON lines and the only one that is not repeated: a commit
 * whose answer was lost may have been made. Until it is answered the repository has not changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"
#include "hub/hub_int.h"
#include "net/url.h"

#include "base/banned.h"

enum {
    FILES_MAX = 256,
    DEPTH_MAX = 8,
    SAMPLE_BYTES = 512,
    SMALL_BYTES_MAX = 10 << 20,
    COMMIT_BYTES_MAX = 256 << 20,
    UPLOAD_STALL_S = 120,
    PARTS_MAX = 10000
};

/* ---- what is sent ------------------------------------------------------------------------------
 */

static void add_upload(struct hub_plan *p, const char *path, char *source, const char *text,
                       uint64_t bytes)
{
    size_t n = strlen(path);
    bool gguf = n > 5 && strcmp(path + n - 5, ".gguf") == 0;
    p->files = xgrow(p->files, &p->capacity, p->n + 1, sizeof(*p->files));
    p->files[p->n++] = (struct hub_upload){.path = xstrdup(path),
                                           .source = source,
                                           .text = text,
                                           .bytes = bytes,
                                           .large = gguf || bytes > SMALL_BYTES_MAX};
    p->bytes += bytes;
}

/* Others, as pipes and devices, have no size and may never end. */
static bool is_regular(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int add_folder(struct hub_plan *p, const char *root, const char *inside, int depth,
                      struct err *e);

static int add_entry(struct hub_plan *p, const char *root, const char *path, int depth,
                     struct err *e)
{
    uint64_t bytes = 0;
    char *whole = fs_join(root, path);
    int rc = 0;
    if (fs_is_dir(whole)) {
        rc = depth < DEPTH_MAX ? add_folder(p, root, path, depth + 1, e)
                               : err_set(e, ERR_LIMIT, NULL, "%s: folders are too deep", whole);
    } else if (!hub_path_safe(path)) {
        rc = err_set(e, ERR_INPUT, "rename the file", "%s: the hub takes no such name", whole);
    } else if (fs_exists(whole) && !is_regular(whole)) {
        rc = err_set(e, ERR_INPUT, "take it out of the folder",
                     "%s: only files and folders can be published, and it is neither", whole);
    } else if (p->n == FILES_MAX) {
        rc = err_set(e, ERR_LIMIT, "publish a folder with the model alone",
                     "%s has more than %d files", root, FILES_MAX);
    } else {
        rc = fs_size(whole, &bytes, e);
        if (rc == 0) {
            add_upload(p, path, whole, NULL, bytes);
            return 0;
        }
    }
    xfree(whole);
    return rc;
}

static int add_folder(struct hub_plan *p, const char *root, const char *inside, int depth,
                      struct err *e)
{
    char **names = NULL;
    size_t n = 0;
    char *folder = inside[0] ? fs_join(root, inside) : xstrdup(root);
    int rc = fs_list(folder, &names, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        char *path = inside[0] ? fs_join(inside, names[i]) : xstrdup(names[i]);
        if (names[i][0] != '.')
            rc = add_entry(p, root, path, depth, e);
        xfree(path);
    }
    fs_list_free(names, n);
    xfree(folder);
    return rc;
}

static void drop_upload(struct hub_plan *p, size_t i)
{
    struct hub_upload *f = &p->files[i];
    p->bytes -= f->bytes;
    xfree(f->path);
    xfree(f->source);
    memmove(f, f + 1, (p->n - i - 1) * sizeof(*f));
    p->n--;
}

/* Its text takes the place of the folder's file, if that has one of the name. */
static void add_made(struct hub_plan *p, const struct hub_made *made)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->files[i].path, made->path) == 0) {
            drop_upload(p, i);
            break;
        }
    add_upload(p, made->path, NULL, made->text, strlen(made->text));
}

int hub_plan_make(struct hub_plan *p, const char *folder, const struct hub_made *made,
                  size_t n_made, struct err *e)
{
    *p = (struct hub_plan){0};
    int rc = fs_is_dir(folder) ? add_folder(p, folder, "", 0, e)
                               : err_set(e, ERR_MISSING, "give the folder that optimize wrote",
                                         "%s is no folder", folder);
    for (size_t i = 0; rc == 0 && i < n_made; i++)
        add_made(p, &made[i]);
    if (rc == 0 && p->n == 0)
        rc = err_set(e, ERR_INPUT, NULL, "%s is empty", folder);
    if (rc)
        hub_plan_release(p);
    return rc;
}

void hub_plan_release(struct hub_plan *p)
{
    for (size_t i = 0; i < p->n; i++) {
        xfree(p->files[i].path);
        xfree(p->files[i].source);
    }
    xfree(p->files);
    *p = (struct hub_plan){0};
}

/* ---- requests ----------------------------------------------------------------------------------
 */

struct sender {
    struct hub *hub;
    const struct hub_publish *o;
    struct hub_plan *plan;
    struct net *net;
    uint64_t total, sent, now; /* bytes of large files; `now` of the one under way */
    long status;               /* of the last answer to a document */
};

/* POSTs a document to the hub, with the token. *answer: new reference, or NULL where `also` was the
 * status. Consumes doc. */
static int post(struct sender *s, const char *url, json_t *doc, const char *const *headers,
                long also, json_t **answer, struct err *e)
{
    struct net_answer a;
    char *text = json_text(doc, false);
    struct net_request q = {.method = "POST",
                            .url = url,
                            .token = s->hub->token,
                            .headers = headers,
                            .body = text,
                            .body_bytes = strlen(text),
                            .answer_max = HUB_LISTING_BYTES_MAX};
    *answer = NULL;
    int rc = net_ask(s->net, &q, &a, e);
    s->status = a.status;
    if (rc == 0 && a.status != also) {
        if (a.status < 200 || a.status > 299)
            rc = hub_refuse(s->hub, s->o->ref, NULL, &a, e);
        else if (!(*answer = json_parse(a.body.len ? buf_str(&a.body) : "{}",
                                        a.body.len ? a.body.len : 2, "answer of the hub", e)))
            rc = -1;
    }
    net_answer_release(&a);
    json_decref(doc);
    xfree(text);
    return rc;
}

static const char *const json_headers[] = {"Content-Type: application/json", NULL};
static const char *const lfs_headers[] = {"Content-Type: application/vnd.git-lfs+json",
                                          "Accept: application/vnd.git-lfs+json", NULL};

static bool repo_there(struct sender *s)
{
    struct net_answer a;
    char *url = xasprintf("%s/api/models/%s", s->hub->endpoint, s->o->ref->repo);
    struct net_request q = {
        .method = "GET", .url = url, .token = s->hub->token, .answer_max = HUB_LISTING_BYTES_MAX};
    bool there = net_ask(s->net, &q, &a, NULL) == 0 && a.status == 200;
    net_answer_release(&a);
    xfree(url);
    return there;
}

/* A token for one repository may not make any, not even the one that is there. */
static int create_repo(struct sender *s, struct err *e)
{
    struct err why = {0};
    const char *repo = s->o->ref->repo, *slash = strchr(repo, '/');
    char *url = xasprintf("%s/api/repos/create", s->hub->endpoint);
    char *org = xstrndup(repo, (size_t)(slash - repo));
    json_t *answer = NULL;
    int rc = post(s, url,
                  json_pack("{s:s,s:s,s:s,s:b}", "type", "model", "name", slash + 1, "organization",
                            org, "private", s->o->is_private),
                  json_headers, 409, &answer, &why);
    if (rc && s->status == 403 && repo_there(s))
        rc = 0;
    else if (rc && e)
        *e = why;
    json_decref(answer);
    xfree(org);
    xfree(url);
    return rc;
}

/* n bytes as base64; xfree. */
static char *base64(const void *data, size_t n)
{
    char *text = xcalloc(1, (n + 2) / 3 * 4 + 1);
    EVP_EncodeBlock((unsigned char *)text, data, (int)n);
    return text;
}

/* The content of a small file; xfree. */
static int content(const struct hub_upload *f, size_t bytes_max, char **data, size_t *n,
                   struct err *e)
{
    if (f->source)
        return fs_read_all(f->source, bytes_max, data, n, e);
    *data = xstrdup(f->text);
    *n = strlen(f->text);
    return 0;
}

static char *sample(const struct hub_upload *f)
{
    char head[SAMPLE_BYTES];
    ssize_t n = 0;
    if (f->text)
        return base64(f->text, f->bytes < SAMPLE_BYTES ? (size_t)f->bytes : SAMPLE_BYTES);
    int fd = open(f->source, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, head, sizeof(head));
        close(fd);
    }
    return base64(head, n > 0 ? (size_t)n : 0);
}

static void take_modes(struct hub_plan *p, const json_t *files)
{
    size_t i;
    const json_t *o;
    json_array_foreach((json_t *)(uintptr_t)files, i, o)
    {
        const char *path = json_opt_str(o, "path", ""), *mode = json_opt_str(o, "uploadMode", "");
        for (size_t k = 0; k < p->n; k++) {
            struct hub_upload *f = &p->files[k];
            if (strcmp(f->path, path) != 0)
                continue;
            f->large = strcmp(mode, "lfs") == 0 && f->bytes > 0 && f->source;
            f->mode_set = true;
            f->ignored = json_opt_bool(o, "shouldIgnore", false);
        }
    }
}

/* Asks the hub which way each file goes; what it ignores leaves the plan. */
static int ask_modes(struct sender *s, struct err *e)
{
    char *revision = net_url_escape(s->o->ref->revision, "");
    char *url =
        xasprintf("%s/api/models/%s/preupload/%s", s->hub->endpoint, s->o->ref->repo, revision);
    json_t *list = json_array(), *answer = NULL;
    for (size_t i = 0; i < s->plan->n; i++) {
        const struct hub_upload *f = &s->plan->files[i];
        char *head = sample(f);
        json_array_append_new(list, json_pack("{s:s,s:s,s:I}", "path", f->path, "sample", head,
                                              "size", (json_int_t)f->bytes));
        xfree(head);
    }
    int rc = post(s, url, json_pack("{s:o}", "files", list), json_headers, 0, &answer, e);
    take_modes(s->plan, json_object_get(answer, "files"));
    for (size_t k = s->plan->n; rc == 0 && k-- > 0;) {
        struct hub_upload *f = &s->plan->files[k];
        if (f->ignored) {
            log_warn("%s is not published: the repository's .gitignore leaves it out", f->path);
            drop_upload(s->plan, k);
        } else if (!f->mode_set) {
            rc = err_set(e, ERR_INPUT, NULL, "the hub does not say how it takes %s", f->path);
        }
    }
    if (rc == 0 && s->plan->n == 0)
        rc = err_set(e, ERR_INPUT, "change the .gitignore of the repository",
                     "%s: the repository's .gitignore leaves out every file", s->o->ref->repo);
    json_decref(answer);
    xfree(revision);
    xfree(url);
    return rc;
}

/* ---- large files -------------------------------------------------------------------------------
 */

static void on_sent(void *ud, uint64_t bytes)
{
    struct sender *s = ud;
    char phase[64], size[NUM_TEXT_MAX];
    s->now = bytes;
    snprintf(phase, sizeof(phase), "publish %.50s", s->o->ref->repo);
    progress_report(s->o->progress, phase, (double)(s->sent + bytes), (double)s->total,
                    num_format_size(s->total, size));
}

/* PUTs a part of the file to a signed address. *etag (may be NULL): what the store calls it. */
static int put(struct sender *s, const struct hub_upload *f, int fd, uint64_t from, uint64_t bytes,
               const char *url, char **etag, struct err *e)
{
    struct net_answer a;
    struct net_request q = {.method = "PUT",
                            .url = url,
                            .body_is_file = true,
                            .body_fd = fd,
                            .body_offset = from,
                            .body_bytes = bytes,
                            .moved = on_sent,
                            .ud = s};
    int rc = net_ask(s->net, &q, &a, e);
    if (rc == 0 && (a.status < 200 || a.status > 299))
        rc = err_set(e, ERR_IO, "run the same command again; what has arrived is not sent again",
                     "%s: the store does not take it (status %ld)", f->path, a.status);
    if (rc == 0) {
        const char *tag = net_header(&a, "ETag");
        s->sent += bytes;
        if (etag)
            *etag = xstrdup(tag ? tag : "");
    }
    net_answer_release(&a);
    return rc;
}

/* Tells the store, without the token, that all parts have come. */
static int put_complete(struct sender *s, const struct hub_upload *f, const char *url,
                        json_t *parts, struct err *e)
{
    struct net_answer a;
    json_t *doc = json_pack("{s:s,s:O}", "oid", f->sha256, "parts", parts);
    char *text = json_text(doc, false);
    struct net_request q = {.method = "POST",
                            .url = url,
                            .headers = lfs_headers,
                            .body = text,
                            .body_bytes = strlen(text)};
    int rc = net_ask(s->net, &q, &a, e);
    if (rc == 0 && (a.status < 200 || a.status > 299))
        rc = err_set(e, ERR_IO, "run the same command again",
                     "%s: the store cannot put the parts together (status %ld)", f->path, a.status);
    net_answer_release(&a);
    json_decref(doc);
    xfree(text);
    return rc;
}

/* The addresses of the parts are the header's entries named by their numbers. */
static int put_parts(struct sender *s, const struct hub_upload *f, int fd, const json_t *upload,
                     uint64_t part_bytes, struct err *e)
{
    const json_t *head = json_object_get(upload, "header"), *url;
    uint64_t n = f->bytes / part_bytes + (f->bytes % part_bytes != 0);
    json_t *done = json_array();
    int rc = n > PARTS_MAX ? err_set(e, ERR_LIMIT, NULL, "%s: the hub wants it in %llu parts",
                                     f->path, (unsigned long long)n)
                           : 0;
    for (uint64_t i = 0; rc == 0 && i < n; i++) {
        const char *key, *address = NULL;
        char *etag = NULL;
        json_object_foreach((json_t *)(uintptr_t)head, key, url)
        {
            char *end;
            if (strtoull(key, &end, 10) == i + 1 && !*end && end != key)
                address = json_string_value(url);
        }
        uint64_t from = i * part_bytes, rest = f->bytes - from;
        rc = address ? put(s, f, fd, from, rest < part_bytes ? rest : part_bytes, address, &etag, e)
                     : err_set(e, ERR_INPUT, NULL, "%s: the hub gives no address for part %llu",
                               f->path, (unsigned long long)i + 1);
        if (rc == 0)
            json_array_append_new(
                done, json_pack("{s:I,s:s}", "partNumber", (json_int_t)i + 1, "etag", etag));
        xfree(etag);
    }
    if (rc == 0)
        rc = put_complete(s, f, json_opt_str(upload, "href", ""), done, e);
    json_decref(done);
    return rc;
}

static int put_file(struct sender *s, const struct hub_upload *f, const json_t *upload,
                    struct err *e)
{
    const json_t *size = json_object_get(json_object_get(upload, "header"), "chunk_size");
    int64_t part = json_is_integer(size) ? json_integer_value(size) : 0;
    if (json_is_string(size) &&
        num_parse_i64(json_string_value(size), "chunk_size", 1, INT64_MAX, &part, e))
        return -1;
    int fd = open(f->source, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(e, errno, NULL, "cannot open %s", f->source);
    int rc = part > 0 ? put_parts(s, f, fd, upload, (uint64_t)part, e)
                      : put(s, f, fd, 0, f->bytes, json_opt_str(upload, "href", ""), NULL, e);
    close(fd);
    return rc;
}

/* Only the hub's own address gets the token. */
static int verify(struct sender *s, const struct hub_upload *f, const json_t *action, struct err *e)
{
    const char *url = json_opt_str(action, "href", NULL);
    json_t *answer = NULL;
    if (!url)
        return 0;
    if (!net_url_same_origin(url, s->hub->endpoint))
        return err_set(e, ERR_INPUT, NULL, "%s: the hub wants it verified by another host",
                       f->path);
    int rc = post(s, url, json_pack("{s:s,s:I}", "oid", f->sha256, "size", (json_int_t)f->bytes),
                  lfs_headers, 0, &answer, e);
    json_decref(answer);
    return rc ? err_context(e, "%s after its upload", f->path) : 0;
}

static int upload_objects(struct sender *s, const json_t *objects, struct err *e)
{
    size_t i;
    const json_t *o;
    json_array_foreach((json_t *)(uintptr_t)objects, i, o)
    {
        const char *oid = json_opt_str(o, "oid", "");
        const json_t *actions = json_object_get(o, "actions");
        const json_t *refused = json_object_get(o, "error");
        struct hub_upload *f = NULL;
        for (size_t k = 0; k < s->plan->n && !f; k++)
            if (s->plan->files[k].large && strcmp(s->plan->files[k].sha256, oid) == 0)
                f = &s->plan->files[k];
        if (!f)
            continue;
        if (refused)
            return err_set(e, ERR_INPUT, NULL, "%s: the store refuses it: %.200s", f->path,
                           json_opt_str(refused, "message", "no reason given"));
        if (!actions) {
            s->sent += f->bytes; /* it is there already */
            continue;
        }
        if (put_file(s, f, json_object_get(actions, "upload"), e) ||
            verify(s, f, json_object_get(actions, "verify"), e))
            return -1;
    }
    return 0;
}

static int send_large(struct sender *s, struct err *e)
{
    json_t *objects = json_array(), *answer = NULL;
    for (size_t i = 0; i < s->plan->n; i++) {
        struct hub_upload *f = &s->plan->files[i];
        if (!f->large)
            continue;
        if (f->text || hash_sha256_file(f->source, f->sha256, e)) {
            json_decref(objects);
            return f->text ? err_set(e, ERR_INPUT, NULL, "the hub takes no card of that size") : -1;
        }
        s->total += f->bytes;
        json_array_append_new(
            objects, json_pack("{s:s,s:I}", "oid", f->sha256, "size", (json_int_t)f->bytes));
    }
    if (json_array_size(objects) == 0) {
        json_decref(objects);
        return 0;
    }
    char *url = xasprintf("%s/%s.git/info/lfs/objects/batch", s->hub->endpoint, s->o->ref->repo);
    int rc = post(s, url,
                  json_pack("{s:s,s:[s,s],s:o,s:s,s:{s:s}}", "operation", "upload", "transfers",
                            "basic", "multipart", "objects", objects, "hash_algo", "sha256", "ref",
                            "name", s->o->ref->revision),
                  lfs_headers, 0, &answer, e);
    if (rc == 0)
        rc = upload_objects(s, json_object_get(answer, "objects"), e);
    json_decref(answer);
    xfree(url);
    return rc;
}

/* ---- the commit --------------------------------------------------------------------------------
 */

static void add_line(struct buf *b, const char *key, json_t *value)
{
    json_t *line = json_pack("{s:s,s:o}", "key", key, "value", value);
    char *text = json_text(line, false);
    buf_adds(b, text);
    buf_addc(b, '\n');
    xfree(text);
    json_decref(line);
}

static int commit_lines(const struct sender *s, struct buf *b, struct err *e)
{
    add_line(b, "header", json_pack("{s:s,s:s}", "summary", s->o->message, "description", ""));
    for (size_t i = 0; i < s->plan->n; i++) {
        const struct hub_upload *f = &s->plan->files[i];
        char *data = NULL;
        size_t n = 0;
        if (f->large) {
            add_line(b, "lfsFile",
                     json_pack("{s:s,s:s,s:s,s:I}", "path", f->path, "algo", "sha256", "oid",
                               f->sha256, "size", (json_int_t)f->bytes));
            continue;
        }
        if (content(f, SMALL_BYTES_MAX, &data, &n, e))
            return -1;
        char *text = base64(data, n);
        add_line(
            b, "file",
            json_pack("{s:s,s:s,s:s}", "path", f->path, "content", text, "encoding", "base64"));
        xfree(text);
        xfree(data);
    }
    if (b->overflow)
        return err_set(e, ERR_LIMIT, NULL, "the small files are larger than a commit may be");
    return 0;
}

static int commit(struct sender *s, char url[static 512], char oid[static HUB_COMMIT_MAX],
                  struct err *e)
{
    static const char *const headers[] = {"Content-Type: application/x-ndjson", NULL};
    struct buf b;
    struct net_answer a = {0};
    char *revision = net_url_escape(s->o->ref->revision, "");
    char *address =
        xasprintf("%s/api/models/%s/commit/%s", s->hub->endpoint, s->o->ref->repo, revision);
    buf_init(&b, COMMIT_BYTES_MAX);
    int rc = commit_lines(s, &b, e);
    if (rc == 0) {
        struct net_request q = {.method = "POST",
                                .url = address,
                                .token = s->hub->token,
                                .headers = headers,
                                .body = buf_str(&b),
                                .body_bytes = b.len};
        rc = net_send(s->net, &q, &a, e);
        if (rc)
            err_context(e, "the answer to the commit was lost (look whether it was made)");
        else if (a.status < 200 || a.status > 299)
            rc = hub_refuse(s->hub, s->o->ref, NULL, &a, e);
    }
    if (rc == 0) {
        json_t *doc = json_parse(buf_str(&a.body), a.body.len, "answer of the hub", e);
        snprintf(url, 512, "%s", json_opt_str(doc, "commitUrl", ""));
        snprintf(oid, HUB_COMMIT_MAX, "%.40s", json_opt_str(doc, "commitOid", ""));
        rc = doc ? 0 : -1;
        json_decref(doc);
    }
    net_answer_release(&a);
    buf_release(&b);
    xfree(revision);
    xfree(address);
    return rc;
}

int hub_publish(struct hub *h, const struct hub_publish *o, struct hub_plan *p,
                char url[static 512], char oid[static HUB_COMMIT_MAX], struct err *e)
{
    if (h->offline)
        return err_set(e, ERR_MISSING, "unset HF_HUB_OFFLINE", "nothing can be published offline");
    if (!h->token)
        return err_set(e, ERR_MISSING, "'sintra hf login' with a token that may write",
                       "publishing needs a token, and none is known");
    struct net_options options = {.connect_s = h->timeout_s, .stall_s = UPLOAD_STALL_S};
    struct sender s = {.hub = h, .o = o, .plan = p, .net = net_open(&options)};
    int rc = create_repo(&s, e) || ask_modes(&s, e) || send_large(&s, e) || commit(&s, url, oid, e)
                 ? -1
                 : 0;
    net_close(s.net);
    return rc;
}
