/* The token: whose it is, keeping it, forgetting it.
 *
 * It is kept in the file that huggingface_hub reads ($HF_TOKEN_PATH, default $HF_HOME/token), mode
 * 0600 in a folder of mode 0700, written whole or not at all. It never appears in a message.
 */
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

static int token_refused(const struct hub *h, const struct net_answer *a, struct err *e)
{
    if (a->location)
        return hub_redirected(h, a, e);
    if (a->status == 401 || a->status == 403)
        return err_set(e, ERR_INPUT,
                       "copy it again from the settings of your account, under access tokens",
                       "the hub does not accept this token (status %ld)", a->status);
    return err_set(e, ERR_IO, "try again later", "the hub cannot verify the token (status %ld)",
                   a->status);
}

static int user_read(const struct net_answer *a, struct hub_user *u, struct err *e)
{
    json_t *doc = json_parse(buf_str(&a->body), a->body.len, "answer of the hub", e);
    const char *name = json_opt_str(doc, "name", "");
    const json_t *token = json_object_get(json_object_get(doc, "auth"), "accessToken");
    int rc = doc ? 0 : -1;
    if (doc && !name[0])
        rc = err_set(e, ERR_INPUT, "is HF_ENDPOINT the address of a hub?",
                     "the answer of the hub names no user");
    snprintf(u->name, sizeof(u->name), "%s", name);
    snprintf(u->token_name, sizeof(u->token_name), "%s", json_opt_str(token, "displayName", ""));
    snprintf(u->role, sizeof(u->role), "%s", json_opt_str(token, "role", ""));
    json_decref(doc);
    return rc;
}

int hub_whoami(struct hub *h, const char *token, struct hub_user *u, struct err *e)
{
    struct net_options o;
    struct net_answer a;
    *u = (struct hub_user){0};
    if (h->offline)
        return err_set(e, ERR_MISSING, "unset HF_HUB_OFFLINE",
                       "a token can be verified only with the hub, and this is offline");
    hub_net_options(h, &o);
    struct net *net = net_open(&o);
    char *url = xasprintf("%s/api/whoami-v2", h->endpoint);
    struct net_request q = {.method = "GET", .url = url, .token = token};
    int rc = net_ask(net, &q, &a, e);
    if (rc == 0)
        rc = a.status == 200 ? user_read(&a, u, e) : token_refused(h, &a, e);
    net_answer_release(&a);
    net_close(net);
    xfree(url);
    return rc;
}

static int token_write(const char *path, const char *token, struct err *e)
{
    char *folder = xstrdup(path), *temporary = xasprintf("%s.sintra-%ld", path, (long)getpid());
    char *slash = strrchr(folder, '/');
    size_t n = strlen(token);
    int fd = -1, rc = 0;
    if (slash && slash != folder) {
        *slash = 0;
        bool made = !fs_exists(folder);
        rc = fs_mkdirs(folder, e);
        if (rc == 0 && made)
            chmod(folder, 0700);
    }
    if (rc == 0) {
        unlink(temporary);
        fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 || write(fd, token, n) != (ssize_t)n || fsync(fd) < 0 ||
            rename(temporary, path) < 0)
            rc = err_set_errno(e, errno, NULL, "cannot write %s", path);
        if (rc)
            unlink(temporary);
    }
    if (fd >= 0)
        close(fd);
    xfree(folder);
    xfree(temporary);
    return rc;
}

int hub_login(struct hub *h, const char *token, struct hub_user *u, struct err *e)
{
    return hub_whoami(h, token, u, e) || token_write(h->token_path, token, e) ? -1 : 0;
}

int hub_logout(struct hub *h, bool *had, struct err *e)
{
    *had = fs_exists(h->token_path);
    return fs_remove(h->token_path, e);
}
