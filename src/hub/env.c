/* Where the hub is, where its cache is, which token: from the environment, as huggingface_hub reads
 * it. Owns struct hub. Refuses an endpoint that is no web address, and tokens with characters that
 * no header can carry.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/num.h"
#include "hub/hub_int.h"
#include "net/url.h"

#include "base/banned.h"

static const char endpoint_default[] = "https://huggingface.co";
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

/* "~" at the beginning and $VAR, ${VAR} anywhere; an unknown variable stays as it is. xfree. */
static char *expand(const char *path)
{
    struct buf b;
    buf_init(&b, 1 << 16);
    if (path[0] == '~' && (path[1] == '/' || !path[1]) && env("HOME")) {
        buf_adds(&b, env("HOME"));
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

static int token_check(const char *token, const char *source, struct err *e)
{
    if (strlen(token) >= HUB_TOKEN_MAX)
        return err_set(e, ERR_INPUT, "log in again with 'sintra hf login'",
                       "the token in %s is longer than %d characters", source, HUB_TOKEN_MAX - 1);
    for (const char *p = token; *p; p++)
        if (*p <= ' ' || *p > '~')
            return err_set(e, ERR_INPUT, "log in again with 'sintra hf login'",
                           "the token in %s has a space or a character that no token has", source);
    return 0;
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
        if (fs_read_all(h->token_path, HUB_TOKEN_MAX, &text, &n, e))
            return err_context(e, "the stored token");
        h->token = token_clean(text);
        explicit_bzero(text, n);
        xfree(text);
        if (h->token)
            h->token_source = xstrdup(h->token_path);
    }
    return h->token ? token_check(h->token, h->token_source, e) : 0;
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

int hub_open(struct hub **out, struct err *e)
{
    struct hub *h = xcalloc(1, sizeof(*h));
    char *home = home_dir();
    h->cache = env_path("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", home, "hub");
    h->token_path = env_path("HF_TOKEN_PATH", NULL, home, "token");
    h->offline = env_true("HF_HUB_OFFLINE") || env_true("TRANSFORMERS_OFFLINE");
    h->token_is_explicit_only = env_true("HF_HUB_DISABLE_IMPLICIT_TOKEN");
    xfree(home);
    if (endpoint_find(h, e) || timeout_find(h, e) || token_find(h, e)) {
        hub_close(h);
        return -1;
    }
    *out = h;
    return 0;
}

void hub_close(struct hub *h)
{
    if (!h)
        return;
    if (h->token)
        explicit_bzero(h->token, strlen(h->token));
    xfree(h->token);
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
