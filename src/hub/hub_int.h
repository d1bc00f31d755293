/* What the files of hub/ share. Private to hub/. */
#ifndef HUB_HUB_INT_H
#define HUB_HUB_INT_H

#include "base/json.h"
#include "hub/hub.h"
#include "net/http.h"

enum { HUB_ETAG_MAX = 65, HUB_PATH_MAX = 1024, HUB_FILES_MAX = 100000 };
enum { HUB_LISTING_BYTES_MAX = 64 << 20, HUB_INDEX_BYTES_MAX = 64 << 20 };

struct hub {
    char *endpoint, *cache, *token_path, *token;
    char *token_source;
    bool offline, token_is_explicit_only;
    double timeout_s;
};

/* A file as the hub lists it. */
struct hub_file {
    char *path;              /* safe: relative, no "..", no "\" */
    uint64_t size;           /* known when etag is */
    char etag[HUB_ETAG_MAX]; /* 64 digits: SHA-256; 40: git's hash; "": not listed */
    bool wanted;
};
struct hub_repo {
    char commit[HUB_COMMIT_MAX];
    char *moved_to;
    struct hub_file *files; /* sorted by path */
    size_t n;
};

/* env.c: the bearer token for requests, NULL when none is to be sent. */
const char *hub_bearer(const struct hub *h);
void hub_net_options(const struct hub *h, struct net_options *o);
bool hub_is_hex(const char *text, size_t digits);

/* answers.c: the sentence for an answer that is not what was asked for. `path` may be NULL. */
int hub_refuse(const struct hub *h, const struct hub_ref *ref, const char *path,
               const struct net_answer *a, struct err *e);
/* The sentence for a redirect to another origin, where the token does not go. */
int hub_redirected(const struct hub *h, const struct net_answer *a, struct err *e);

/* list.c */
int hub_list(struct hub *h, struct net *net, const struct hub_ref *ref, struct hub_repo *r,
             struct err *e);
void hub_repo_release(struct hub_repo *r);
struct hub_file *hub_repo_find(const struct hub_repo *r, const char *path);
bool hub_path_safe(const char *path);
/* {endpoint}/{repo}/resolve/{revision}/{path}; xfree. */
char *hub_resolve_url(const struct hub *h, const char *repo, const char *revision,
                      const char *path);
/* Size and etag of a file by HEAD, where the listing lacks them. */
int hub_head(struct hub *h, struct net *net, const struct hub_ref *ref, const char *commit,
             struct hub_file *f, struct err *e);

/* choose.c: which files a model needs. The first step marks all but shards named by an index;
 * the second marks those. *gguf is set to the file to open when the model is GGUF (points into r).
 */
int hub_choose(const struct hub_ref *ref, struct hub_repo *r, const char **gguf, struct err *e);
int hub_choose_shards(const struct hub_ref *ref, struct hub_repo *r, const json_t *index,
                      struct err *e);
bool hub_has_tokenizer(const struct hub_repo *r);
/* Optional files that programs look for; ended by NULL. */
extern const char *const hub_optional_names[];
extern const char hub_index_name[];

/* cache.c: paths are xfree'd by the caller. */
char *hub_cache_repo(const struct hub *h, const char *repo);
char *hub_cache_snapshot(const struct hub *h, const char *repo, const char *commit,
                         const char *path);
char *hub_cache_blob(const struct hub *h, const char *repo, const char *etag);
char *hub_cache_lock(const struct hub *h, const char *repo, const char *etag);
/* The commit that the cache has for the revision; false when none. */
bool hub_cache_commit(const struct hub *h, const struct hub_ref *ref,
                      char commit[static HUB_COMMIT_MAX]);
int hub_cache_write_ref(const struct hub *h, const struct hub_ref *ref, const char *commit,
                        struct err *e);
/* The entry snapshots/<commit>/<path> for a blob that is there. */
int hub_cache_point(const struct hub *h, const char *repo, const char *commit,
                    const struct hub_file *f, struct err *e);
bool hub_cache_has(const struct hub *h, const char *repo, const struct hub_file *f);
/* Remembers that the commit has no such file. Failure is of no importance. */
void hub_cache_absent(const struct hub *h, const char *repo, const char *commit, const char *path);
/* The folder of the repository with what belongs to it. */
int hub_cache_make(const struct hub *h, const char *repo, struct err *e);
/* The files of a snapshot as a listing without hashes. */
int hub_cache_list(const struct hub *h, const char *repo, const char *commit, struct hub_repo *r,
                   struct err *e);

/* fetch.c: fetches the wanted files that are not in the cache, and points to all of them. */
struct hub_fetch {
    struct hub *hub;
    const struct hub_ref *ref;
    const struct hub_repo *repo;
    int connections;
    const struct progress *progress;
};
int hub_fetch(const struct hub_fetch *f, struct hub_pulled *sum, struct err *e);

/* journal.c: how far each chunk of a partial file has come; survives kill -9. */
struct journal {
    uint32_t *done; /* bytes of each chunk; n of them */
    uint32_t n;
    uint64_t chunk_bytes;
    char *path;
    void *map;
    size_t map_bytes;
    int fd; /* of the partial file */
};
int journal_open(struct journal *j, const char *partial, uint64_t size, uint64_t chunk_bytes,
                 struct err *e);
/* Forgets all progress. */
void journal_reset(struct journal *j);
void journal_close(struct journal *j, bool remove);

#endif
