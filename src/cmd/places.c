/* Where things lie: the home directory, the store, models, profiles.
 *
 * Owns nothing. The home is made only when a command needs it, so that looking at a model or asking
 * for help leaves no trace. Data that comes with the program (the sample model, profiles) is
 * searched in the folders that the face found beside the program.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cmd/cmd_int.h"
#include "hub/hub.h"

#include "base/banned.h"

int cmd_home(const struct cmd_context *c, struct err *e)
{
    if (fs_mkdirs(c->home, e) == 0)
        return 0;
    if (e)
        snprintf(e->hint, sizeof(e->hint), "choose another place with --home DIR");
    return err_context(e, "home directory");
}

char *cmd_home_path(const struct cmd_context *c, const char *name)
{
    return fs_join(c->home, name);
}

int cmd_store_open(const struct cmd_context *c, struct store **s, struct err *e)
{
    if (cmd_home(c, e))
        return -1;
    char *path = cmd_home_path(c, "sintra.db");
    int rc = store_open(s, path, e);
    xfree(path);
    return rc;
}

/* Calls fn with every folder of a ":"-separated list until it returns non-NULL. */
static char *search_dirs(const char *dirs, char *(*fn)(const char *dir, const char *what),
                         const char *what)
{
    char *found = NULL;
    for (const char *p = dirs; p && *p && !found;) {
        size_t n = strcspn(p, ":");
        char *dir = xstrndup(p, n);
        if (n > 0)
            found = fn(dir, what);
        xfree(dir);
        p += n + (p[n] == ':');
    }
    return found;
}

/* Without links and "..", as it is shown to people and kept in runs. */
static char *existing(const char *dir, const char *what)
{
    char real[PATH_MAX];
    char *path = fs_join(dir, what);
    char *found = realpath(path, real) ? xstrdup(real) : NULL;
    xfree(path);
    return found;
}

char *cmd_data_path(const struct cmd_context *c, const char *what)
{
    return search_dirs(c->data_dirs, existing, what);
}

char *cmd_profile_dirs(const struct cmd_context *c)
{
    char *own = cmd_home_path(c, "profiles");
    char *shipped = cmd_data_path(c, "profiles");
    char *dirs = xasprintf("%s%s%s", own, shipped ? ":" : "", shipped ? shipped : "");
    xfree(own);
    xfree(shipped);
    return dirs;
}

static int sample_path(const struct cmd_context *c, char **path, struct err *e)
{
    *path = cmd_data_path(c, "models/sample");
    if (*path)
        return 0;
    return err_set(e, ERR_MISSING, "name a model with --model, or install the program whole",
                   "the built-in sample model is not beside the program (looked for models/sample "
                   "in %s)",
                   c->data_dirs);
}

/* Not here, so of the hub: fetched unless the cache has it. */
static int hub_path(const struct cmd_context *c, const char *name, char **path, struct err *e)
{
    struct hub *h = NULL;
    struct hub_ref ref;
    struct hub_pulled got = {0};
    struct hub_pull p = {.ref = &ref, .progress = c->progress};
    int rc = -1;
    if (hub_ref_parse(&ref, name, e) == 0 && hub_open(&h, e) == 0)
        rc = hub_pull(h, &p, &got, e);
    if (rc == 0) {
        *path = got.path;
        got.path = NULL;
    } else {
        err_context(e, "model %.200s: there is no such folder or file here", name);
    }
    hub_pulled_release(&got);
    hub_close(h);
    return rc;
}

int cmd_model_path(const struct cmd_context *c, const char *name, char **path, struct err *e)
{
    if (!name || (strcmp(name, "sample") == 0 && !fs_exists(name)))
        return sample_path(c, path, e);
    if (fs_exists(name)) {
        *path = xstrdup(name);
        return 0;
    }
    if (hub_ref_looks(name))
        return hub_path(c, name, path, e);
    return err_set(e, ERR_MISSING,
                   "give a folder with config.json and *.safetensors, a .gguf file, or org/name of "
                   "the hub",
                   "model %.200s: there is no such folder or file", name);
}
