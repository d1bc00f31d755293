/* URLs over libcurl's parser, which is the one that will also be connected with.
 *
 * Owns nothing. Two parsers that disagree about what the host of a URL is are how tokens leak;
 * therefore no URL is taken apart by hand here.
 */
#include "net/url.h"

#include <curl/curl.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/banned.h"

enum { URL_BYTES_MAX = 1 << 16 };

char *net_url_escape(const char *text, const char *keep)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                "-._~";
    struct buf b;
    buf_init(&b, URL_BYTES_MAX);
    buf_adds(&b, "");
    for (; *text; text++) {
        if (strchr(plain, *text) || strchr(keep, *text))
            buf_addc(&b, *text);
        else
            buf_addf(&b, "%%%02X", (unsigned)(unsigned char)*text);
    }
    return buf_take(&b);
}

static bool is_web(CURLU *u)
{
    char *scheme = NULL;
    bool web = curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
               (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    curl_free(scheme);
    return web;
}

char *net_url_resolve(const char *base, const char *location)
{
    CURLU *u = curl_url();
    char *whole = NULL, *copy = NULL;
    if (u && strlen(location) < URL_BYTES_MAX &&
        curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
        curl_url_set(u, CURLUPART_URL, location, 0) == CURLUE_OK && is_web(u) &&
        curl_url_get(u, CURLUPART_URL, &whole, 0) == CURLUE_OK)
        copy = xstrdup(whole);
    curl_free(whole);
    curl_url_cleanup(u);
    return copy;
}

/* "https://host:443" in lower case, or NULL. xfree. */
static char *origin(const char *url)
{
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL, *text = NULL;
    if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK && is_web(u) &&
        curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
        text = xasprintf("%s://%s:%s", scheme, host, port);
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return text;
}

bool net_url_same_origin(const char *a, const char *b)
{
    char *x = origin(a), *y = origin(b);
    bool same = x && y && strcasecmp(x, y) == 0;
    xfree(x);
    xfree(y);
    return same;
}

int net_url_check(const char *url, const char *what, struct err *e)
{
    CURLU *u = curl_url();
    char *user = NULL;
    int rc = 0;
    if (!u || curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK || !is_web(u))
        rc = err_set(e, ERR_INPUT, "an address begins with https:// (or http://) and a host",
                     "%s is not a web address: %.200s", what, url);
    else if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK)
        rc = err_set(e, ERR_INPUT, "leave user name and password out; a token is sent as a header",
                     "%s holds a user name", what);
    curl_free(user);
    curl_url_cleanup(u);
    return rc;
}

char *net_url_shown(const char *url)
{
    CURLU *u = curl_url();
    char *whole = NULL, *copy = NULL;
    if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK) {
        curl_url_set(u, CURLUPART_USER, NULL, 0);
        curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
        curl_url_set(u, CURLUPART_QUERY, NULL, 0);
        curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
        if (curl_url_get(u, CURLUPART_URL, &whole, 0) == CURLUE_OK)
            copy = xstrdup(whole);
    }
    curl_free(whole);
    curl_url_cleanup(u);
    return copy ? copy : xstrdup("(an address that cannot be read)");
}
