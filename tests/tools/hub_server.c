/* A hub of our own for the tests: hub_server ROOT PORT_FILE [OPTION...]
 *
 * Speaks the protocol of the Hugging Face hub as far as its clients for models use it: listing,
 * resolve with X-Repo-Commit, X-Linked-Etag and X-Linked-Size and a redirect of large files to
 * another host (the hub is 127.0.0.1, the store of large files localhost, each with a port),
 * ranges, whoami, and the commit interface with uploads. A model is a folder ROOT/ORG/NAME; files
 * named *.safetensors, *.gguf, *.bin and tokenizer.model are large files. ROOT/ORG/NAME.json may
 * say {"gated":true}, {"private":true} or {"moved_to":"ORG/OTHER"}. Revisions are main, v1.0 and
 * the commit, which is a hash over the files. The token "hf_good" is right, "hf_noaccess" is right
 * but opens no gated model, "hf_one" may commit and make no repository. Of uploads, names with
 * "ignored" are to be left out. Below /elsewhere everything is redirected to the other port.
 *
 * PORT_FILE gets "HUB CDN\n" once both listen. Options: log=FILE (a line per request), and faults:
 * busy=N, broken=N (the first N requests for content get 429 or 500), stall=N, truncate=N (stop
 * or end in the middle), wrong=N (one byte differs), expire=N (signed addresses refused), norange,
 * huge (large files are listed as a PiB),
 * noblobs (names only in listings), evil (a listing with "../"), slow=BYTES per second,
 * part=BYTES (uploads in parts). The store refuses every request that carries a token.
 * It ends with its standard input.
 */
#include <fcntl.h>
#include <microhttpd.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "net/url.h"

enum { FILES_MAX = 512, BODY_MAX = 64 << 20, BLOCK = 64 * 1024 };

static struct {
    const char *root;
    int hub_port, cdn_port;
    FILE *log;
    atomic_int busy, broken, stall, truncate, wrong, expire;
    bool norange, noblobs, evil, huge;
    long slow;
    long long part;
    pthread_mutex_t lock;
} S = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct entry {
    char *path;
    uint64_t size;
    bool large;
    char hash[HASH_HEX_MAX];
};
struct listing {
    struct entry files[FILES_MAX];
    size_t n;
    char commit[HASH_GIT_HEX_MAX];
};

/* One request. */
struct call {
    struct MHD_Connection *c;
    const char *method, *url;
    bool cdn;
    struct buf body;
    FILE *upload; /* of a PUT to the store */
};

static bool spend(atomic_int *count)
{
    int n = atomic_load(count);
    while (n > 0)
        if (atomic_compare_exchange_weak(count, &n, n - 1))
            return true;
    return false;
}

/* ---- models ------------------------------------------------------------------------------------
 */

static bool is_large(const char *name)
{
    static const char *const tails[] = {".safetensors", ".gguf", ".bin", "tokenizer.model"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++)
        if (n >= strlen(tails[i]) && strcmp(name + n - strlen(tails[i]), tails[i]) == 0)
            return true;
    return false;
}

/* Hashes once per file and state of it. */
static void file_hash(const char *path, const struct stat *st, bool large, char *hex)
{
    static struct {
        char *path;
        struct stat st;
        char hash[HASH_HEX_MAX];
    } known[FILES_MAX];
    static size_t n;
    pthread_mutex_lock(&S.lock);
    for (size_t i = 0; i < n; i++)
        if (strcmp(known[i].path, path) == 0 && known[i].st.st_size == st->st_size &&
            known[i].st.st_mtim.tv_nsec == st->st_mtim.tv_nsec &&
            known[i].st.st_mtim.tv_sec == st->st_mtim.tv_sec && known[i].st.st_ino == st->st_ino) {
            snprintf(hex, HASH_HEX_MAX, "%s", known[i].hash);
            pthread_mutex_unlock(&S.lock);
            return;
        }
    if (large) {
        hash_sha256_file(path, hex, NULL);
    } else {
        char *data = NULL;
        size_t bytes = 0;
        fs_read_all(path, BODY_MAX, &data, &bytes, NULL);
        struct hash_git *h = hash_git_new(bytes);
        hash_git_add(h, data, bytes);
        hash_git_finish(h, hex);
        xfree(data);
    }
    if (n < FILES_MAX) {
        known[n].path = xstrdup(path);
        known[n].st = *st;
        snprintf(known[n++].hash, HASH_HEX_MAX, "%s", hex);
    }
    pthread_mutex_unlock(&S.lock);
}

static void list_folder(struct listing *l, const char *root, const char *inside)
{
    char **names = NULL;
    size_t n = 0;
    char *folder = fs_join(root, inside);
    if (fs_list(folder, &names, &n, NULL))
        n = 0;
    for (size_t i = 0; i < n && l->n < FILES_MAX; i++) {
        char *path = inside[0] ? fs_join(inside, names[i]) : xstrdup(names[i]);
        char *whole = fs_join(root, path);
        struct stat st;
        if (fs_is_dir(whole)) {
            list_folder(l, root, path);
            xfree(path);
        } else if (stat(whole, &st) == 0) {
            struct entry *f = &l->files[l->n++];
            *f =
                (struct entry){.path = path, .size = (uint64_t)st.st_size, .large = is_large(path)};
            file_hash(whole, &st, f->large, f->hash);
        }
        xfree(whole);
    }
    if (names)
        fs_list_free(names, n);
    xfree(folder);
}

static struct listing *listing_make(const char *repo)
{
    struct listing *l = xcalloc(1, sizeof(*l));
    struct buf text;
    char *root = fs_join(S.root, repo);
    list_folder(l, root, "");
    buf_init(&text, BODY_MAX);
    buf_adds(&text, repo);
    for (size_t i = 0; i < l->n; i++)
        buf_addf(&text, "%s %s\n", l->files[i].hash, l->files[i].path);
    struct hash_git *h = hash_git_new(text.len);
    hash_git_add(h, buf_str(&text), text.len);
    hash_git_finish(h, l->commit);
    buf_release(&text);
    xfree(root);
    return l;
}

static void listing_free(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        xfree(l->files[i].path);
    xfree(l);
}

/* ---- answers -----------------------------------------------------------------------------------
 */

static const char *header(const struct call *q, const char *name)
{
    return MHD_lookup_connection_value(q->c, MHD_HEADER_KIND, name);
}

static const char *token(const struct call *q)
{
    const char *a = header(q, "Authorization");
    return a && strncmp(a, "Bearer ", 7) == 0 ? a + 7 : NULL;
}

static enum MHD_Result finish(const struct call *q, unsigned status, struct MHD_Response *r)
{
    enum MHD_Result ok = MHD_queue_response(q->c, status, r);
    MHD_destroy_response(r);
    return ok;
}

static struct MHD_Response *text_make(const char *text)
{
    return MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text,
                                           MHD_RESPMEM_MUST_COPY);
}

static enum MHD_Result refuse(const struct call *q, unsigned status, const char *code,
                              const char *message)
{
    struct MHD_Response *r = text_make("{\"error\":\"refused\"}");
    if (code)
        MHD_add_response_header(r, "X-Error-Code", code);
    if (message)
        MHD_add_response_header(r, "X-Error-Message", message);
    if (status == 429)
        MHD_add_response_header(r, "Retry-After", "0");
    return finish(q, status, r);
}

static enum MHD_Result answer_json(const struct call *q, json_t *doc)
{
    char *text = json_text(doc, false);
    struct MHD_Response *r = text_make(text);
    MHD_add_response_header(r, "Content-Type", "application/json");
    json_decref(doc);
    xfree(text);
    return finish(q, 200, r);
}

/* ---- content -----------------------------------------------------------------------------------
 */

enum spoil { SPOIL_NONE, SPOIL_STALL, SPOIL_END, SPOIL_BYTE, SPOIL_SLOW };
struct flow {
    int fd;
    uint64_t from, size;
    enum spoil spoil;
};

static ssize_t flow_read(void *ud, uint64_t pos, char *data, size_t max)
{
    struct flow *f = ud;
    uint64_t half = f->size / 2;
    bool stops = f->spoil == SPOIL_STALL || f->spoil == SPOIL_END;
    if (stops && pos >= half) {
        if (f->spoil == SPOIL_STALL)
            sleep(600);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    if (stops && max > half - pos)
        max = (size_t)(half - pos);
    if (f->spoil == SPOIL_SLOW) {
        max = max < 4096 ? max : 4096;
        usleep((useconds_t)(max * 1000000 / (size_t)S.slow));
    }
    ssize_t n = pread(f->fd, data, max, (off_t)(f->from + pos));
    if (f->spoil == SPOIL_BYTE && pos == 0 && n > 0)
        data[0] ^= 1;
    return n > 0 ? n : MHD_CONTENT_READER_END_OF_STREAM;
}

static void flow_free(void *ud)
{
    struct flow *f = ud;
    close(f->fd);
    xfree(f);
}

static enum spoil spoil_choose(void)
{
    if (spend(&S.stall))
        return SPOIL_STALL;
    if (spend(&S.truncate))
        return SPOIL_END;
    if (spend(&S.wrong))
        return SPOIL_BYTE;
    return S.slow > 0 ? SPOIL_SLOW : SPOIL_NONE;
}

/* "bytes=a-b" within size; false: no range, or one that is ignored. */
static bool range_of(const struct call *q, uint64_t size, uint64_t *from, uint64_t *n)
{
    unsigned long long a = 0, b = 0;
    const char *r = header(q, "Range");
    int got = r ? sscanf(r, "bytes=%llu-%llu", &a, &b) : 0;
    if (S.norange || got < 1)
        return false;
    if (got == 1 || b >= size)
        b = size - 1;
    *from = a;
    *n = a <= b ? b - a + 1 : 0;
    return true;
}

static enum MHD_Result send_file(const struct call *q, const char *path, const char *etag)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return refuse(q, 404, "EntryNotFound", "Entry not found");
    uint64_t from = 0, n = (uint64_t)st.st_size;
    bool part = range_of(q, n, &from, &n);
    if (part && n == 0) {
        close(fd);
        return refuse(q, 416, NULL, NULL);
    }
    enum spoil spoil = is_large(path) || q->cdn ? spoil_choose() : SPOIL_NONE;
    struct MHD_Response *r;
    if (spoil == SPOIL_NONE) {
        r = MHD_create_response_from_fd_at_offset64(n, fd, from);
    } else {
        struct flow *f = xcalloc(1, sizeof(*f));
        *f = (struct flow){.fd = fd, .from = from, .size = n, .spoil = spoil};
        r = MHD_create_response_from_callback(n, BLOCK, flow_read, f, flow_free);
    }
    char text[128];
    snprintf(text, sizeof(text), "bytes %llu-%llu/%llu", (unsigned long long)from,
             (unsigned long long)(from + n - 1), (unsigned long long)st.st_size);
    if (part)
        MHD_add_response_header(r, "Content-Range", text);
    if (!S.norange)
        MHD_add_response_header(r, "Accept-Ranges", "bytes");
    snprintf(text, sizeof(text), "\"%s\"", etag);
    MHD_add_response_header(r, "ETag", text);
    return finish(q, part ? 206 : 200, r);
}

/* ---- the hub: access, listing, resolve ---------------------------------------------------------
 */

/* "ORG/NAME" at the beginning of path → repo, and what follows. */
static const char *repo_of(const char *path, char repo[static 256])
{
    const char *slash = strchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) + 1 + strcspn(slash + 1, "/") : strlen(path);
    snprintf(repo, 256, "%.*s", (int)n, path);
    return path + n;
}

static json_t *settings(const char *repo)
{
    char *path = xasprintf("%s/%s.json", S.root, repo);
    json_t *doc = fs_exists(path) ? json_read(path, BODY_MAX, NULL) : NULL;
    xfree(path);
    return doc ? doc : json_object();
}

/* MHD_YES with *answered set when access was refused or redirected. */
static enum MHD_Result guard(const struct call *q, const char *repo, bool *answered)
{
    char *folder = fs_join(S.root, repo);
    json_t *s = settings(repo);
    const char *t = token(q), *moved = json_opt_str(s, "moved_to", NULL);
    bool known = t && strncmp(t, "hf_", 3) == 0 && strcmp(t, "hf_bad") != 0;
    bool access = t && strcmp(t, "hf_good") == 0;
    enum MHD_Result ok = MHD_YES;
    *answered = true;
    if (t && !known) {
        ok = refuse(q, 401, NULL, "Invalid credentials in Authorization header");
    } else if (moved) {
        const char *at = strstr(q->url, repo);
        char *to =
            xasprintf("%.*s%s%s?blobs=true", (int)(at - q->url), q->url, moved, at + strlen(repo));
        struct MHD_Response *r = text_make("moved");
        MHD_add_response_header(r, "Location", to);
        ok = finish(q, 307, r);
        xfree(to);
    } else if (!fs_is_dir(folder) || (json_opt_bool(s, "private", false) && !access)) {
        ok = refuse(q, t ? 404 : 401, "RepoNotFound", "Repository not found");
    } else if (json_opt_bool(s, "gated", false) && !access && !strstr(q->url, "/api/")) {
        ok = refuse(q, t ? 403 : 401, "GatedRepo", "Access to this model is restricted");
    } else {
        *answered = false;
    }
    json_decref(s);
    xfree(folder);
    return ok;
}

static bool revision_known(const struct listing *l, const char *revision)
{
    return strcmp(revision, "main") == 0 || strcmp(revision, "v1.0") == 0 ||
           strcmp(revision, l->commit) == 0;
}

static enum MHD_Result answer_listing(const struct call *q, const char *repo, const char *revision)
{
    struct listing *l = listing_make(repo);
    if (!revision_known(l, revision)) {
        listing_free(l);
        return refuse(q, 404, "RevisionNotFound", "Invalid rev id");
    }
    bool blobs = MHD_lookup_connection_value(q->c, MHD_GET_ARGUMENT_KIND, "blobs") && !S.noblobs;
    json_t *files = json_array();
    for (size_t i = 0; i < l->n; i++) {
        const struct entry *f = &l->files[i];
        json_t *o = json_pack("{s:s}", "rfilename", f->path);
        if (blobs) {
            json_int_t size = S.huge && f->large ? (json_int_t)1 << 50 : (json_int_t)f->size;
            json_object_set_new(o, "size", json_integer(size));
            json_object_set_new(
                o, "blobId",
                json_string(f->large ? "0123456789012345678901234567890123456789" : f->hash));
        }
        if (blobs && f->large)
            json_object_set_new(o, "lfs",
                                json_pack("{s:s,s:I,s:i}", "sha256", f->hash, "size",
                                          (json_int_t)f->size, "pointerSize", 134));
        json_array_append_new(files, o);
    }
    if (S.evil)
        json_array_append_new(files, json_pack("{s:s}", "rfilename", "../../evil.safetensors"));
    json_t *doc = json_pack("{s:s,s:s,s:s,s:b,s:o}", "id", repo, "modelId", repo, "sha", l->commit,
                            "private", 0, "siblings", files);
    listing_free(l);
    return answer_json(q, doc);
}

static enum MHD_Result send_entry(const struct call *q, const char *repo, const struct listing *l,
                                  const struct entry *f)
{
    char text[512];
    char *whole = xasprintf("%s/%s/%s", S.root, repo, f->path);
    bool head = strcmp(q->method, "HEAD") == 0;
    struct MHD_Response *r;
    enum MHD_Result ok;
    if (!head && !f->large) {
        ok = send_file(q, whole, f->hash);
        xfree(whole);
        return ok;
    }
    r = head && !f->large ? MHD_create_response_from_fd(f->size, open(whole, O_RDONLY))
                          : text_make("");
    snprintf(text, sizeof(text), "\"%s\"", f->hash);
    MHD_add_response_header(r, f->large ? "X-Linked-Etag" : "ETag", text);
    MHD_add_response_header(r, "X-Repo-Commit", l->commit);
    snprintf(text, sizeof(text), "%llu", (unsigned long long)f->size);
    if (f->large) {
        MHD_add_response_header(r, "X-Linked-Size", text);
        snprintf(text, sizeof(text), "http://localhost:%d/lfs/%s/%s?sig=secret", S.cdn_port, repo,
                 f->path);
        MHD_add_response_header(r, "Location", text);
    }
    ok = finish(q, f->large ? 302 : 200, r);
    xfree(whole);
    return ok;
}

static enum MHD_Result answer_resolve(const struct call *q, const char *repo, const char *rest)
{
    char revision[128];
    size_t n = strcspn(rest, "/");
    snprintf(revision, sizeof(revision), "%.*s", (int)n, rest);
    if (spend(&S.busy))
        return refuse(q, 429, NULL, NULL);
    if (spend(&S.broken))
        return refuse(q, 500, NULL, NULL);
    struct listing *l = listing_make(repo);
    enum MHD_Result ok;
    const struct entry *f = NULL;
    for (size_t i = 0; i < l->n && rest[n]; i++)
        if (strcmp(l->files[i].path, rest + n + 1) == 0)
            f = &l->files[i];
    if (!revision_known(l, revision))
        ok = refuse(q, 404, "RevisionNotFound", "Invalid rev id");
    else if (!f)
        ok = refuse(q, 404, "EntryNotFound", "Entry not found");
    else
        ok = send_entry(q, repo, l, f);
    listing_free(l);
    return ok;
}

static enum MHD_Result answer_whoami(const struct call *q)
{
    const char *t = token(q);
    if (!t || (strcmp(t, "hf_good") != 0 && strcmp(t, "hf_noaccess") != 0))
        return refuse(q, 401, NULL, "Invalid credentials in Authorization header");
    return answer_json(q, json_pack("{s:s,s:s,s:{s:s,s:{s:s,s:s}}}", "type", "user", "name", "ada",
                                    "auth", "type", "access_token", "accessToken", "displayName",
                                    "laptop", "role", "write"));
}

/* ---- publishing --------------------------------------------------------------------------------
 */

static char *upload_path(const char *oid)
{
    char *folder = xasprintf("%s/.uploads", S.root);
    fs_mkdirs(folder, NULL);
    char *path = xasprintf("%s/%s", folder, oid);
    xfree(folder);
    return path;
}

static enum MHD_Result answer_preupload(const struct call *q)
{
    json_t *in = json_parse(buf_str(&q->body), q->body.len, "preupload", NULL), *f;
    json_t *files = json_array();
    size_t i;
    json_array_foreach(json_object_get(in, "files"), i, f)
    {
        const char *path = json_opt_str(f, "path", "");
        json_array_append_new(files, json_pack("{s:s,s:s,s:b}", "path", path, "uploadMode",
                                               is_large(path) ? "lfs" : "regular", "shouldIgnore",
                                               strstr(path, "ignored") != NULL));
    }
    json_decref(in);
    return answer_json(q, json_pack("{s:o}", "files", files));
}

/* The actions for one object: upload whole or in parts, then verify. */
static json_t *upload_actions(const char *oid, int64_t size, const char *repo)
{
    char text[512];
    json_t *head = json_object();
    snprintf(text, sizeof(text), "http://localhost:%d/put/%s?sig=secret", S.cdn_port, oid);
    json_t *upload = json_pack("{s:s,s:o}", "href", text, "header", head);
    if (S.part > 0 && size > S.part) {
        snprintf(text, sizeof(text), "%lld", S.part);
        json_object_set_new(head, "chunk_size", json_string(text));
        for (int64_t i = 0; i * S.part < size; i++) {
            char number[32];
            snprintf(number, sizeof(number), "%05lld", (long long)i + 1);
            snprintf(text, sizeof(text), "http://localhost:%d/put/%s.%s?sig=secret", S.cdn_port,
                     oid, number);
            json_object_set_new(head, number, json_string(text));
        }
        snprintf(text, sizeof(text), "http://localhost:%d/complete/%s", S.cdn_port, oid);
        json_object_set_new(upload, "href", json_string(text));
    }
    snprintf(text, sizeof(text), "http://127.0.0.1:%d/%s.git/info/lfs/verify", S.hub_port, repo);
    return json_pack("{s:o,s:{s:s}}", "upload", upload, "verify", "href", text);
}

static enum MHD_Result answer_batch(const struct call *q, const char *repo)
{
    json_t *in = json_parse(buf_str(&q->body), q->body.len, "batch", NULL), *f;
    json_t *objects = json_array();
    size_t i;
    json_array_foreach(json_object_get(in, "objects"), i, f)
    {
        const char *oid = json_opt_str(f, "oid", "");
        int64_t size = json_opt_i64(f, "size", 0);
        char *there = upload_path(oid);
        json_t *o = json_pack("{s:s,s:I}", "oid", oid, "size", (json_int_t)size);
        if (!fs_exists(there))
            json_object_set_new(o, "actions", upload_actions(oid, size, repo));
        json_array_append_new(objects, o);
        xfree(there);
    }
    json_decref(in);
    return answer_json(q, json_pack("{s:s,s:o}", "transfer", "multipart", "objects", objects));
}

static enum MHD_Result answer_verify(const struct call *q)
{
    char hex[HASH_HEX_MAX] = "";
    json_t *in = json_parse(buf_str(&q->body), q->body.len, "verify", NULL);
    const char *oid = json_opt_str(in, "oid", "");
    char *path = upload_path(oid);
    hash_sha256_file(path, hex, NULL);
    bool same = strcmp(hex, oid) == 0;
    xfree(path);
    json_decref(in);
    return same ? answer_json(q, json_object()) : refuse(q, 404, NULL, "No such object");
}

/* Puts the parts named in the body together. */
static enum MHD_Result answer_complete(const struct call *q, const char *oid)
{
    json_t *in = json_parse(buf_str(&q->body), q->body.len, "complete", NULL);
    size_t n = json_array_size(json_object_get(in, "parts"));
    char *path = upload_path(oid);
    FILE *out = fopen(path, "wb");
    for (size_t i = 0; i < n; i++) {
        char *part = xasprintf("%s.%05zu", path, i + 1), *data = NULL;
        size_t bytes = 0;
        if (fs_read_all(part, BODY_MAX, &data, &bytes, NULL) == 0)
            fwrite(data, 1, bytes, out);
        xfree(data);
        xfree(part);
    }
    fclose(out);
    xfree(path);
    json_decref(in);
    return answer_json(q, json_object());
}

static void commit_place(const char *repo, const char *path, const void *data, size_t n)
{
    char *whole = xasprintf("%s/%s/%s", S.root, repo, path), *folder = xstrdup(whole);
    *strrchr(folder, '/') = 0;
    fs_mkdirs(folder, NULL);
    fs_write_all(whole, data, n, NULL);
    xfree(folder);
    xfree(whole);
}

static bool commit_line(const char *repo, const json_t *line)
{
    const char *key = json_opt_str(line, "key", "");
    const json_t *v = json_object_get(line, "value");
    const char *path = json_opt_str(v, "path", "");
    if (strcmp(key, "file") == 0) {
        const char *text = json_opt_str(v, "content", "");
        size_t n = strlen(text), padding = n > 0 && text[n - 1] == '=';
        padding += n > 1 && text[n - 2] == '=';
        unsigned char *data = xmalloc(n + 1);
        int got = EVP_DecodeBlock(data, (const unsigned char *)text, (int)n);
        if (got >= 0)
            commit_place(repo, path, data, (size_t)got - padding);
        xfree(data);
        return got >= 0;
    }
    if (strcmp(key, "lfsFile") == 0) {
        char *there = upload_path(json_opt_str(v, "oid", "")), *data = NULL;
        size_t n = 0;
        bool ok = fs_read_all(there, BODY_MAX, &data, &n, NULL) == 0;
        if (ok)
            commit_place(repo, path, data, n);
        xfree(data);
        xfree(there);
        return ok;
    }
    return strcmp(key, "header") == 0 && json_opt_str(v, "summary", NULL);
}

static enum MHD_Result answer_commit(const struct call *q, const char *repo)
{
    bool ok = true;
    for (const char *p = buf_str(&q->body); *p && ok;) {
        size_t n = strcspn(p, "\n");
        json_t *line = json_parse(p, n, "commit", NULL);
        ok = line && commit_line(repo, line);
        json_decref(line);
        p += n + (p[n] == '\n');
    }
    if (!ok)
        return refuse(q, 400, NULL, "The commit cannot be read");
    struct listing *l = listing_make(repo);
    char *url = xasprintf("http://127.0.0.1:%d/%s/commit/%s", S.hub_port, repo, l->commit);
    json_t *doc = json_pack("{s:s,s:s}", "commitUrl", url, "commitOid", l->commit);
    xfree(url);
    listing_free(l);
    return answer_json(q, doc);
}

static enum MHD_Result answer_create(const struct call *q)
{
    json_t *in = json_parse(buf_str(&q->body), q->body.len, "create", NULL);
    char *folder = xasprintf("%s/%s/%s", S.root, json_opt_str(in, "organization", "ada"),
                             json_opt_str(in, "name", "x"));
    bool there = fs_is_dir(folder);
    fs_mkdirs(folder, NULL);
    xfree(folder);
    json_decref(in);
    return there ? refuse(q, 409, NULL, "You already created this model repo")
                 : answer_json(q, json_pack("{s:s}", "url", "created"));
}

static enum MHD_Result answer_post(const struct call *q, const char *repo, const char *rest)
{
    bool create = strcmp(q->url, "/api/repos/create") == 0;
    bool one_only = !create && token(q) && strcmp(token(q), "hf_one") == 0;
    if (!token(q) || (strcmp(token(q), "hf_good") != 0 && !one_only))
        return refuse(q, token(q) ? 403 : 401, NULL, "You need a write token");
    if (create)
        return answer_create(q);
    if (strstr(q->url, ".git/info/lfs/objects/batch"))
        return answer_batch(q, repo);
    if (strstr(q->url, ".git/info/lfs/verify"))
        return answer_verify(q);
    if (strncmp(rest, "/preupload/", 11) == 0)
        return answer_preupload(q);
    if (strncmp(rest, "/commit/", 8) == 0)
        return answer_commit(q, repo);
    return refuse(q, 404, NULL, NULL);
}

/* ---- requests ----------------------------------------------------------------------------------
 */

static enum MHD_Result answer_cdn(struct call *q)
{
    char repo[256];
    if (token(q))
        return refuse(q, 400, NULL, "A token was sent to the store");
    if (strncmp(q->url, "/complete/", 10) == 0)
        return answer_complete(q, q->url + 10);
    if (strncmp(q->url, "/put/", 5) == 0) {
        if (q->upload)
            fclose(q->upload);
        q->upload = NULL;
        struct MHD_Response *r = text_make("");
        MHD_add_response_header(r, "ETag", "\"part\"");
        return finish(q, 200, r);
    }
    if (strncmp(q->url, "/lfs/", 5) != 0)
        return refuse(q, 404, NULL, NULL);
    if (spend(&S.expire))
        return refuse(q, 403, NULL, "Request has expired");
    const char *path = repo_of(q->url + 5, repo);
    char *whole = xasprintf("%s/%s%s", S.root, repo, path);
    enum MHD_Result ok = send_file(q, whole, "store");
    xfree(whole);
    return ok;
}

static enum MHD_Result redirect(const struct call *q, const char *path)
{
    char *to = xasprintf("http://localhost:%d/%s?secret=1", S.cdn_port, path);
    struct MHD_Response *r = text_make("");
    MHD_add_response_header(r, "Location", to);
    xfree(to);
    return finish(q, 307, r);
}

static enum MHD_Result answer_hub(const struct call *q)
{
    char repo[256], revision[128];
    bool answered, api = strncmp(q->url, "/api/models/", 12) == 0;
    if (strncmp(q->url, "/elsewhere/", 11) == 0)
        return redirect(q, q->url + 11);
    if (strcmp(q->url, "/api/whoami-v2") == 0)
        return answer_whoami(q);
    const char *rest = repo_of(q->url + (api ? 12 : 1), repo);
    char *git = strstr(repo, ".git");
    if (git)
        *git = 0;
    if (strcmp(q->method, "POST") == 0)
        return answer_post(q, repo, rest);
    enum MHD_Result ok = guard(q, repo, &answered);
    if (answered)
        return ok;
    if (api) {
        bool named = strncmp(rest, "/revision/", 10) == 0;
        snprintf(revision, sizeof(revision), "%s", named ? rest + 10 : "main");
        return answer_listing(q, repo, revision);
    }
    if (strncmp(rest, "/resolve/", 9) == 0)
        return answer_resolve(q, repo, rest + 9);
    return refuse(q, 404, "EntryNotFound", NULL);
}

static void log_request(const struct call *q)
{
    const char *range = header(q, "Range");
    if (!S.log)
        return;
    pthread_mutex_lock(&S.lock);
    fprintf(S.log, "%s %s %s token=%s%s%s\n", q->cdn ? "cdn" : "hub", q->method, q->url,
            header(q, "Authorization") ? "yes" : "no", range ? " " : "", range ? range : "");
    fflush(S.log);
    pthread_mutex_unlock(&S.lock);
}

static void call_end(void *ud, struct MHD_Connection *c, void **state,
                     enum MHD_RequestTerminationCode why)
{
    (void)ud, (void)c, (void)why;
    struct call *q = *state;
    if (!q)
        return;
    if (q->upload)
        fclose(q->upload);
    buf_release(&q->body);
    xfree(q);
    *state = NULL;
}

static enum MHD_Result on_request(void *ud, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *n, void **state)
{
    (void)version;
    struct call *q = *state;
    if (!q) {
        q = *state = xcalloc(1, sizeof(*q));
        buf_init(&q->body, BODY_MAX);
        *q =
            (struct call){.c = c, .method = method, .url = url, .cdn = ud != NULL, .body = q->body};
        if (q->cdn && strcmp(method, "PUT") == 0 && strncmp(url, "/put/", 5) == 0) {
            char *path = upload_path(url + 5);
            q->upload = fopen(path, "wb");
            xfree(path);
        }
        return MHD_YES;
    }
    q->url = url;
    q->method = method;
    if (*n > 0) {
        if (q->upload)
            fwrite(data, 1, *n, q->upload);
        else
            buf_add(&q->body, data, *n);
        *n = 0;
        return MHD_YES;
    }
    log_request(q);
    return q->cdn ? answer_cdn(q) : answer_hub(q);
}

static int option(const char *text)
{
    const char *eq = strchr(text, '=');
    size_t n = eq ? (size_t)(eq - text) : strlen(text);
    const char *v = eq ? eq + 1 : "1";
    struct {
        const char *name;
        atomic_int *count;
    } counts[] = {{"busy", &S.busy},         {"broken", &S.broken}, {"stall", &S.stall},
                  {"truncate", &S.truncate}, {"wrong", &S.wrong},   {"expire", &S.expire}};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        if (strlen(counts[i].name) == n && strncmp(text, counts[i].name, n) == 0) {
            atomic_store(counts[i].count, (int)strtol(v, NULL, 10));
            return 0;
        }
    if (strncmp(text, "log=", 4) == 0)
        return (S.log = fopen(v, "a")) ? 0 : -1;
    if (strncmp(text, "slow=", 5) == 0)
        return (S.slow = strtol(v, NULL, 10)) > 0 ? 0 : -1;
    if (strncmp(text, "part=", 5) == 0)
        return (S.part = strtoll(v, NULL, 10)) > 0 ? 0 : -1;
    S.norange |= strcmp(text, "norange") == 0;
    S.noblobs |= strcmp(text, "noblobs") == 0;
    S.evil |= strcmp(text, "evil") == 0;
    S.huge |= strcmp(text, "huge") == 0;
    return S.norange || S.noblobs || S.evil || S.huge ? 0 : -1;
}

static struct MHD_Daemon *serve(bool cdn, int *port)
{
    static int cdn_mark;
    struct MHD_Daemon *d = MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, on_request,
        cdn ? &cdn_mark : NULL, MHD_OPTION_NOTIFY_COMPLETED, call_end, NULL, MHD_OPTION_END);
    const union MHD_DaemonInfo *info = d ? MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    *port = info ? info->port : 0;
    return d;
}

int main(int argc, char **argv)
{
    char ports[64], c;
    if (argc < 3) {
        fputs("usage: hub_server ROOT PORT_FILE [OPTION...]\n", stderr);
        return 2;
    }
    S.root = argv[1];
    for (int i = 3; i < argc; i++) {
        if (option(argv[i])) {
            fprintf(stderr, "hub_server: %s?\n", argv[i]);
            return 2;
        }
    }
    struct MHD_Daemon *hub = serve(false, &S.hub_port), *cdn = serve(true, &S.cdn_port);
    int n = snprintf(ports, sizeof(ports), "%d %d\n", S.hub_port, S.cdn_port);
    if (!hub || !cdn || fs_write_all(argv[2], ports, (size_t)n, NULL)) {
        fputs("hub_server: cannot listen\n", stderr);
        return 1;
    }
    while (read(STDIN_FILENO, &c, 1) > 0)
        continue;
    _exit(0); /* with requests that stall on purpose still open */
}
