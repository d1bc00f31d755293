/* Where the hub is, where its cache is, which token: from the environment, as huggingface_hub reads
 * it. Owns struct hub. Refuses an endpoint that is no web address, and tokens with characters that
 * no header can carry.
 */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/num.h"
#include "hub/hub_int.h"
#include "net/url.h"

#include "base/banned.h"

static const char endpoint_default[] = "https://huggingface.co";
static const char log_in[] = "log in again with 'sintra hf login'";
enum { TIMEOUT_DEFAULT_S = 10, TIMEOUT_MAX_S = 3600 };

static const char *env(const char *name)
{
    const char *v = getenv(name);
    return v && v[0] ? v : NULL;
}

static bool env_true(const char *name)
{
    static const char *const yes[] = {"1", "on", "yes", "true"};
    const char *v = env(name);
    for (size_t i = 0; v && i < sizeof(yes) / sizeof(yes[0]); i++)
        if (strcasecmp(v, yes[i]) == 0)
            return true;
    return false;
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* $HOME, else what the system has for the user; NULL: neither is known. */
static const char *user_home(void)
{
    const struct passwd *p = env("HOME") ? NULL : getpwuid(getuid());
    return p ? p->pw_dir : env("HOME");
}

/* "~" at the beginning and $VAR, ${VAR} anywhere; an unknown variable stays as it is. xfree. */
static char *expand(const char *path)
{
    struct buf b;
    buf_init(&b, 1 << 16);
    const char *home = path[0] == '~' && (path[1] == '/' || !path[1]) ? user_home() : NULL;
    if (home) {
        buf_adds(&b, home);
        path++;
    }
    while (*path) {
        bool brace = path[0] == '$' && path[1] == '{';
        const char *name = path + 1 + brace;
        size_t n = 0;
        while (path[0] == '$' && is_name(name[n]))
            n++;
        char *key = xstrndup(name, n);
        const char *value = n > 0 && (!brace || name[n] == '}') ? getenv(key) : NULL;
        if (value) {
            buf_adds(&b, value);
            path = name + n + brace;
        } else {
            buf_addc(&b, *path++);
        }
        xfree(key);
    }
    return buf_take(&b);
}

static char *home_dir(void)
{
    if (env("HF_HOME"))
        return expand(env("HF_HOME"));
    if (env("XDG_CACHE_HOME")) {
        char *base = expand(env("XDG_CACHE_HOME"));
        char *path = fs_join(base, "huggingface");
        xfree(base);
        return path;
    }
    return expand("~/.cache/huggingface");
}

static char *env_path(const char *name, const char *older, const char *home, const char *below)
{
    if (env(name))
        return expand(env(name));
    if (older && env(older))
        return expand(env(older));
    return fs_join(home, below);
}

/* Without CR, LF and the spaces around it; NULL when nothing is left. xfree. */
static char *token_clean(const char *text)
{
    while (*text == ' ' || *text == '\t' || *text == '\r' || *text == '\n')
        text++;
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]))
        n--;
    return n > 0 ? xstrndup(text, n) : NULL;
}

static int token_check(const struct hub *h, struct err *e)
{
    const char *source = h->token_source;
    const char *hint =
        strcmp(source, h->token_path) == 0 ? log_in : "correct that variable, or unset it";
    if (strlen(h->token) >= HUB_TOKEN_MAX)
        return err_set(e, ERR_INPUT, hint, "the token in %s is longer than %d characters", source,
                       HUB_TOKEN_MAX - 1);
    for (const char *p = h->token; *p; p++)
        if (*p <= ' ' || *p > '~')
            return err_set(e, ERR_INPUT, hint,
                           "the token in %s has a space or a character that no token has", source);
    return 0;
}

/* A "~" that is still there would become a folder of that name. */
static int paths_check(const struct hub *h, struct err *e)
{
    const char *bad = h->cache[0] == '~' ? h->cache : h->token_path;
    return bad[0] == '~' ? err_set(e, ERR_MISSING, "set HOME, or HF_HOME to a folder",
                                   "%s: whose home folder \"~\" is, is not known", bad)
                         : 0;
}

static int token_find(struct hub *h, struct err *e)
{
    static const char *const names[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN"};
    char *text = NULL;
    size_t n = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !h->token; i++) {
        h->token = env(names[i]) ? token_clean(env(names[i])) : NULL;
        if (h->token)
            h->token_source = xstrdup(names[i]);
    }
    if (!h->token && fs_exists(h->token_path)) {
        if (fs_read_all(h->token_path, HUB_TOKEN_MAX, &text, &n, e)) {
            if (e && !e->hint[0])
                snprintf(e->hint, sizeof(e->hint), "%s", log_in);
            return err_context(e, "the stored token");
        }
        h->token = token_clean(text);
        explicit_bzero(text, n);
        xfree(text);
        if (h->token)
            h->token_source = xstrdup(h->token_path);
    }
    return h->token ? token_check(h, e) : 0;
}

static int timeout_find(struct hub *h, struct err *e)
{
    const char *text = env("HF_HUB_DOWNLOAD_TIMEOUT");
    h->timeout_s = TIMEOUT_DEFAULT_S;
    return text
               ? num_parse_real(text, "HF_HUB_DOWNLOAD_TIMEOUT", 1, TIMEOUT_MAX_S, &h->timeout_s, e)
               : 0;
}

static int endpoint_find(struct hub *h, struct err *e)
{
    h->endpoint = xstrdup(env("HF_ENDPOINT") ? env("HF_ENDPOINT") : endpoint_default);
    for (size_t n = strlen(h->endpoint); n > 0 && h->endpoint[n - 1] == '/'; n--)
        h->endpoint[n - 1] = 0;
    return net_url_check(h->endpoint, "HF_ENDPOINT", e);
}

static void token_forget(struct hub *h)
{
    if (h->token)
        explicit_bzero(h->token, strlen(h->token));
    xfree(h->token);
    h->token = NULL;
}

static int open_from(struct hub **out, bool any_token, struct err *e)
{
    struct hub *h = xcalloc(1, sizeof(*h));
    char *home = home_dir();
    h->cache = env_path("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", home, "hub");
    h->token_path = env_path("HF_TOKEN_PATH", NULL, home, "token");
    h->offline = env_true("HF_HUB_OFFLINE") || env_true("TRANSFORMERS_OFFLINE");
    h->token_is_explicit_only = env_true("HF_HUB_DISABLE_IMPLICIT_TOKEN");
    xfree(home);
    int rc = endpoint_find(h, e) || timeout_find(h, e) || paths_check(h, e) ? -1 : 0;
    if (rc == 0 && token_find(h, any_token ? NULL : e)) {
        token_forget(h);
        rc = any_token ? 0 : -1;
    }
    if (rc)
        hub_close(h);
    else
        *out = h;
    return rc;
}

int hub_open(struct hub **out, struct err *e)
{
    return open_from(out, false, e);
}

int hub_open_any_token(struct hub **out, struct err *e)
{
    return open_from(out, true, e);
}

void hub_close(struct hub *h)
{
    if (!h)
        return;
    token_forget(h);
    xfree(h->token_source);
    xfree(h->token_path);
    xfree(h->endpoint);
    xfree(h->cache);
    xfree(h);
}

const char *hub_endpoint(const struct hub *h)
{
    return h->endpoint;
}

const char *hub_cache_dir(const struct hub *h)
{
    return h->cache;
}

const char *hub_token_path(const struct hub *h)
{
    return h->token_path;
}

const char *hub_token_source(const struct hub *h)
{
    return h->token_source;
}

const char *hub_token(const struct hub *h)
{
    return h->token;
}

bool hub_offline(const struct hub *h)
{
    return h->offline;
}

const char *hub_bearer(const struct hub *h)
{
    return h->token_is_explicit_only ? NULL : h->token;
}

void hub_net_options(const struct hub *h, struct net_options *o)
{
    *o = (struct net_options){.stall_s = h->timeout_s, .connect_s = h->timeout_s};
}

bool hub_is_hex(const char *text, size_t digits)
{
    size_t n = strspn(text, "0123456789abcdef");
    return n == digits && !text[n];
}
