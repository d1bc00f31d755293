/* The Hugging Face hub: models by name, fetched into the cache that huggingface_hub shares.
 *
 * What either program downloads the other finds without a request: the folders, names, links and
 * locks below $HF_HUB_CACHE are those of the Python package.
 * The environment is read as it reads it: HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE,
 * HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HUGGINGFACE_TOKEN, HF_TOKEN_PATH, HF_HUB_DOWNLOAD_TIMEOUT,
 * HF_HUB_DISABLE_IMPLICIT_TOKEN. Every file that is fetched is verified against the hash that the
 * hub lists before it gets its name.
 */
#ifndef HUB_HUB_H
#define HUB_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"

enum {
    HUB_REPO_MAX = 256,
    HUB_REVISION_MAX = 256,
    HUB_PICK_MAX = 256,
    HUB_COMMIT_MAX = 41, /* 40 hexadecimal digits */
    HUB_TOKEN_MAX = 4096
};

/* A model as its users name it: org/name[:file][@revision], or the address of its page. */
struct hub_ref {
    char repo[HUB_REPO_MAX];         /* "org/name" */
    char revision[HUB_REVISION_MAX]; /* branch, tag, "refs/pr/1" or commit; "main" by default */
    char pick[HUB_PICK_MAX]; /* which of several GGUF files: a part of its name; "" = none */
};
/* Could `text` be a reference (one slash, no leading dot; or an address)? Says nothing about
 * whether it exists. */
bool hub_ref_looks(const char *text);
int hub_ref_parse(struct hub_ref *ref, const char *text, struct err *e);

/* Where the hub and its cache are, and the token, as the environment says. */
struct hub;
int hub_open(struct hub **h, struct err *e);
/* As hub_open, but a token that cannot be used is none, so that it can be replaced or removed. */
int hub_open_any_token(struct hub **h, struct err *e);
void hub_close(struct hub *h);
const char *hub_endpoint(const struct hub *h);
const char *hub_cache_dir(const struct hub *h);
const char *hub_token_path(const struct hub *h);
/* "HF_TOKEN", the path of a file, or NULL without a token. */
const char *hub_token_source(const struct hub *h);
bool hub_offline(const struct hub *h);

struct hub_pull {
    const struct hub_ref *ref;
    int connections; /* 0: 8 */
    const struct progress *progress;
};
struct hub_pulled {
    char *path;     /* the snapshot folder, or the GGUF file in it; owned */
    char *moved_to; /* the repository's new name when it was renamed, or NULL; owned */
    char commit[HUB_COMMIT_MAX];
    size_t files, files_fetched;
    uint64_t bytes, bytes_fetched; /* bytes_fetched: over the network, this time */
    double seconds;
    bool offline; /* found in the cache without asking the hub */
};
/* Fetches what is needed of a model and is not in the cache. Only needed files, never pickle.
 * Interrupted at any point, even by kill -9, the next call goes on where this one was. */
int hub_pull(struct hub *h, const struct hub_pull *p, struct hub_pulled *out, struct err *e);
void hub_pulled_release(struct hub_pulled *out);

/* A folder as a model of the hub: what would be sent, then sending it as one commit. */
struct hub_upload {
    char *path, *source; /* in the repository; the file, NULL for `text` */
    const char *text;
    uint64_t bytes;
    bool large;      /* by the hub's large-file store */
    char sha256[65]; /* of large files, once sent */
    bool mode_set;   /* the hub has said which way it goes */
    bool ignored;    /* by the repository's .gitignore, says the hub */
};
struct hub_plan {
    struct hub_upload *files;
    size_t n, capacity;
    uint64_t bytes;
};
/* A file that only the repository gets, in place of one of the folder with its name. */
struct hub_made {
    const char *path, *text; /* outlive the plan */
};
/* The files of a folder, hidden ones left out, and those that were made. */
int hub_plan_make(struct hub_plan *p, const char *folder, const struct hub_made *made,
                  size_t n_made, struct err *e);
void hub_plan_release(struct hub_plan *p);
struct hub_publish {
    const struct hub_ref *ref; /* the branch is its revision */
    const char *message;       /* of the commit */
    bool is_private;           /* when the repository is new */
    const struct progress *progress;
};
/* Makes the repository if there is none, uploads, commits. url and commit name the result. */
int hub_publish(struct hub *h, const struct hub_publish *o, struct hub_plan *p,
                char url[static 512], char commit[static HUB_COMMIT_MAX], struct err *e);

/* Who a token belongs to. */
struct hub_user {
    char name[128], token_name[128], role[64]; /* role: "read", "write", "fineGrained", "" */
};
int hub_whoami(struct hub *h, const char *token, struct hub_user *u, struct err *e);
/* Verifies the token, then keeps it where huggingface_hub does, mode 0600. */
int hub_login(struct hub *h, const char *token, struct hub_user *u, struct err *e);
/* The token in use by hub_pull; NULL when there is none. */
const char *hub_token(const struct hub *h);
/* Removes the stored token; *had tells whether there was one. */
int hub_logout(struct hub *h, bool *had, struct err *e);

#endif
