/* Requests over libcurl's easy interface: one handle per struct net, reset between requests, which
 * keeps its connections.
 *
 * Invariants: the token is a header of a request to the origin it was given for and of no other;
 * an address that began with https never continues with http; every answer is bounded; a transfer
 * ends when nothing moves for stall_s, or within a second of a stop request. libcurl is initialised
 * by the first net_open, so that commands without the network do not pay for it.
 */
#include "net/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stop.h"
#include "net/url.h"
#include "base/banned.h"

enum {
    HEADERS_MAX = 256,
    HEADER_BYTES_MAX = 1 << 18,
    ANSWER_DEFAULT = 1 << 20,
    HOPS_MAX = 8,
    RECEIVE_BYTES =
        512 * 1024, /* a call per 64 KiB costs a third more, most of it for acknowledging */
    SEND_BYTES = 512 * 1024,
    WAIT_MAX_S = 600,
    DOUBLINGS_MAX = 4
};

struct net_header {
    char *name, *value;
};

struct net {
    CURL *curl;
    struct net_options o;
    bool reached; /* some server has answered: a refused connection may then pass */
};

/* One request under way. */
struct transfer {
    struct net *net;
    const struct net_request *r;
    struct net_answer *a;
    struct err *e;
    uint64_t sent, body_max;
    bool failed;   /* e holds why */
    bool too_long; /* the answer exceeded body_max */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void global_init(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == 0)
        return;
    log_warn("libcurl cannot be initialised");
    abort();
}

struct net *net_open(const struct net_options *o)
{
    struct net *n = xcalloc(1, sizeof(*n));
    pthread_once(&once, global_init);
    if (o)
        n->o = *o;
    n->o.connect_s = n->o.connect_s > 0 ? n->o.connect_s : 10;
    n->o.stall_s = n->o.stall_s > 0 ? n->o.stall_s : 10;
    n->o.backoff_s = n->o.backoff_s > 0 ? n->o.backoff_s : 0.5;
    n->o.attempts = n->o.attempts > 0 ? n->o.attempts : 6;
    n->curl = curl_easy_init();
    if (!n->curl) {
        log_warn("libcurl has no memory for a connection");
        abort();
    }
    return n;
}

void net_close(struct net *n)
{
    if (!n)
        return;
    curl_easy_cleanup(n->curl);
    xfree(n);
}

/* ---- answers ------------------------------------------------------------------------------------
 */

const char *net_header(const struct net_answer *a, const char *name)
{
    for (size_t i = a->n_headers; i > 0; i--)
        if (strcasecmp(a->headers[i - 1].name, name) == 0)
            return a->headers[i - 1].value;
    return NULL;
}

static void forget_headers(struct net_answer *a)
{
    arena_release(&a->memory);
    xfree(a->headers);
    a->headers = NULL;
    a->n_headers = 0;
}

void net_answer_release(struct net_answer *a)
{
    forget_headers(a);
    buf_release(&a->body);
    xfree(a->url);
    xfree(a->location);
    *a = (struct net_answer){0};
}

static void keep_header(struct net_answer *a, const char *line, size_t n)
{
    const char *colon = memchr(line, ':', n);
    if (!colon || a->n_headers == HEADERS_MAX || a->memory.bytes + n > HEADER_BYTES_MAX)
        return;
    const char *value = colon + 1, *end = line + n;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && strchr(" \t\r\n", end[-1]))
        end--;
    if (!a->headers)
        a->headers = xcalloc(HEADERS_MAX, sizeof(*a->headers));
    a->headers[a->n_headers++] = (struct net_header){
        .name = arena_strndup(&a->memory, line, (size_t)(colon - line)),
        .value = arena_strndup(&a->memory, value, (size_t)(end - value)),
    };
}

static size_t on_header(char *line, size_t size, size_t n, void *ud)
{
    struct transfer *t = ud;
    if (size * n >= 5 && strncmp(line, "HTTP/", 5) == 0) {
        forget_headers(t->a); /* of a 100 Continue, or of a proxy */
        t->a->status = 0;
    } else {
        keep_header(t->a, line, size * n);
    }
    return size * n;
}

static size_t on_body(char *data, size_t size, size_t n, void *ud)
{
    struct transfer *t = ud;
    struct net_answer *a = t->a;
    n *= size;
    if (a->status == 0)
        curl_easy_getinfo(t->net->curl, CURLINFO_RESPONSE_CODE, &a->status);
    if (t->r->sink && a->status >= 200 && a->status < 300) {
        if (t->r->sink(t->r->ud, a, data, n, t->e) == 0)
            return n;
        t->failed = true;
        return 0;
    }
    if (n > t->body_max - a->body.len) {
        t->too_long = true;
        return 0;
    }
    buf_add(&a->body, data, n);
    return n;
}

static size_t on_read(char *data, size_t size, size_t n, void *ud)
{
    struct transfer *t = ud;
    uint64_t left = t->r->body_bytes - t->sent;
    n = n * size < left ? n * size : (size_t)left;
    ssize_t got;
    do {
        got = pread(t->r->body_fd, data, n, (off_t)(t->r->body_offset + t->sent));
    } while (got < 0 && errno == EINTR);
    if (got < 0 || (got == 0 && n > 0)) {
        t->failed = true;
        if (got < 0)
            err_set_errno(t->e, errno, NULL, "cannot read the file that is being sent");
        else
            err_set(t->e, ERR_INPUT, "let whatever writes the file finish, then start again",
                    "the file became shorter while it was being sent");
        return CURL_READFUNC_ABORT;
    }
    t->sent += (uint64_t)got;
    if (t->r->moved)
        t->r->moved(t->r->ud, t->sent);
    return (size_t)got;
}

static int on_progress(void *ud, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal,
                       curl_off_t ulnow)
{
    (void)ud, (void)dltotal, (void)dlnow, (void)ultotal, (void)ulnow;
    return stop_requested();
}

/* ---- one attempt --------------------------------------------------------------------------------
 */

static const char *ca_bundle(void)
{
    static const char *const names[] = {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *path = getenv(names[i]);
        if (path && path[0])
            return path;
    }
    return NULL;
}

static void set_common(struct transfer *t, const char *url)
{
    CURL *c = t->net->curl;
    curl_easy_reset(c);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)(t->net->o.connect_s * 1000));
    /* libcurl counts whole seconds. */
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)(t->net->o.stall_s + 0.999));
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, (long)RECEIVE_BYTES);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    if (ca_bundle())
        curl_easy_setopt(c, CURLOPT_CAINFO, ca_bundle());
}

static void set_method(struct transfer *t)
{
    CURL *c = t->net->curl;
    const struct net_request *r = t->r;
    bool post = strcmp(r->method, "POST") == 0;
    if (strcmp(r->method, "HEAD") == 0) {
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else if (r->body_is_file) {
        curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(c, CURLOPT_READDATA, t);
        curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body_bytes);
        curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BYTES);
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
    } else if (post || r->body) {
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_bytes);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->body ? r->body : "");
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
    }
}

static void add_header(struct curl_slist **list, const char *line)
{
    struct curl_slist *more = curl_slist_append(*list, line);
    if (more)
        *list = more;
}

static struct curl_slist *headers_make(const struct net_request *r, bool with_token)
{
    struct curl_slist *list = NULL;
    add_header(&list, "User-Agent: sintra/0.1; libcurl");
    add_header(&list, "Accept-Encoding: identity");
    add_header(&list, "Expect:");
    for (const char *const *h = r->headers; h && *h; h++)
        add_header(&list, *h);
    if (r->ranged) {
        char *range = xasprintf("Range: bytes=%llu-%llu", (unsigned long long)r->from,
                                (unsigned long long)r->to - 1);
        add_header(&list, range);
        xfree(range);
    }
    if (with_token) {
        char *line = xasprintf("Authorization: Bearer %s", r->token);
        add_header(&list, line);
        explicit_bzero(line, strlen(line));
        xfree(line);
    }
    return list;
}

/* May pass by itself: a link that was there and broke, a server that is slow. */
static bool is_transient(const struct net *n, CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        return n->reached;
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WEIRD_SERVER_REPLY:
        return true;
    default:
        return false;
    }
}

static int explain_timeout(struct transfer *t, const char *shown)
{
    double connect_s = 0;
    curl_easy_getinfo(t->net->curl, CURLINFO_CONNECT_TIME, &connect_s);
    if (connect_s <= 0)
        return err_set(t->e, ERR_TIMEOUT, "check the network, then run the same command again",
                       "%s: no connection within %.0f s", shown, t->net->o.connect_s);
    return err_set(t->e, ERR_TIMEOUT, "check the network, then run the same command again",
                   "%s: the server sent nothing for %.0f s", shown, t->net->o.stall_s);
}

static int explain(struct transfer *t, CURLcode code, const char *url)
{
    if (t->failed)
        return -1;
    if (stop_requested())
        return stop_check(t->e);
    char *shown = net_url_shown(url);
    static const char network[] = "check the network and the address, then run the same command "
                                  "again";
    int rc;
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        rc = explain_timeout(t, shown);
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        rc = err_set(t->e, ERR_IO, network, "%s: the name of the host cannot be resolved", shown);
        break;
    case CURLE_COULDNT_CONNECT:
        rc = err_set(t->e, ERR_IO, network, "%s: no connection to the host", shown);
        break;
    case CURLE_PARTIAL_FILE:
        rc =
            err_set(t->e, ERR_IO, network, "%s: the answer ended before all of it had come", shown);
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        rc = err_set(t->e, ERR_IO,
                     "if a proxy with its own certificate is in between, name its CA file in "
                     "SSL_CERT_FILE",
                     "%s: the certificate of the server is not trusted", shown);
        break;
    default:
        rc = err_set(t->e, ERR_IO, network, "%s: %s", shown, curl_easy_strerror(code));
    }
    xfree(shown);
    return rc;
}

static int send_once(struct transfer *t, const char *url, bool with_token)
{
    struct net_answer *a = t->a;
    struct curl_slist *headers = headers_make(t->r, with_token);
    forget_headers(a);
    buf_clear(&a->body);
    a->status = 0;
    t->sent = 0;
    set_common(t, url);
    set_method(t);
    curl_easy_setopt(t->net->curl, CURLOPT_HTTPHEADER, headers);
    CURLcode code = curl_easy_perform(t->net->curl);
    curl_easy_getinfo(t->net->curl, CURLINFO_RESPONSE_CODE, &a->status);
    curl_slist_free_all(headers);
    t->net->reached |= a->status != 0;
    a->transient = false;
    if (t->too_long) {
        char *shown = net_url_shown(url);
        err_set(t->e, ERR_LIMIT, NULL, "%s: the answer is longer than %llu bytes", shown,
                (unsigned long long)t->body_max);
        xfree(shown);
        return -1;
    }
    if (code != CURLE_OK) {
        a->transient = !t->failed && !stop_requested() && is_transient(t->net, code);
        return explain(t, code, url);
    }
    long s = a->status;
    a->transient = s == 408 || s == 429 || s == 500 || s == 502 || s == 503 || s == 504;
    return 0;
}

/* ---- redirects ----------------------------------------------------------------------------------
 */

static bool is_redirect(const struct net_request *r, long status)
{
    if (status == 307 || status == 308)
        return true;
    return (status == 301 || status == 302 || status == 303) && !r->body && !r->body_is_file;
}

/* 1: follow to *url; 0: the answer stands (a->location set when it points elsewhere); -1: e. */
static int redirect(struct transfer *t, char **url)
{
    struct net_answer *a = t->a;
    const char *location = net_header(a, "Location");
    if (!is_redirect(t->r, a->status) || !location)
        return 0;
    char *next = net_url_resolve(*url, location);
    bool downgrade = next && strncasecmp(*url, "https:", 6) == 0 && strncasecmp(next, "https:", 6);
    if (!next || downgrade) {
        char *shown = net_url_shown(*url);
        err_set(t->e, ERR_INPUT, NULL, "%s: the server redirects to %s", shown,
                downgrade ? "an address without encryption" : "something that is no web address");
        xfree(shown);
        xfree(next);
        return -1;
    }
    if (net_url_same_origin(*url, next)) {
        xfree(*url);
        *url = next;
        return 1;
    }
    a->location = next;
    return 0;
}

int net_send(struct net *n, const struct net_request *r, struct net_answer *a, struct err *e)
{
    struct err why = {0};
    *a = (struct net_answer){0};
    struct transfer t = {.net = n, .r = r, .a = a, .e = &why};
    t.body_max = r->answer_max ? r->answer_max : ANSWER_DEFAULT;
    buf_init(&a->body, (size_t)t.body_max + 1);
    a->url = xstrdup(r->url);
    int rc = net_url_check(r->url, "the address", &why);
    for (int hops = 0; rc == 0; hops++) {
        if (hops > HOPS_MAX) {
            rc = err_set(&why, ERR_INPUT, NULL, "the server redirects in circles");
            break;
        }
        rc = send_once(&t, a->url, r->token != NULL);
        if (rc)
            break;
        int next = redirect(&t, &a->url);
        if (next <= 0) {
            rc = next;
            break;
        }
    }
    if (rc && e)
        *e = why;
    return rc;
}

/* ---- attempts -----------------------------------------------------------------------------------
 */

/* Seconds that the server asks to wait, or -1. */
static double asked_wait(const struct net_answer *a)
{
    const char *after = net_header(a, "Retry-After"), *limit = net_header(a, "RateLimit");
    if (after) {
        char *end;
        double s = strtod(after, &end);
        if (end != after && s >= 0)
            return s;
        time_t when = curl_getdate(after, NULL);
        if (when != (time_t)-1)
            return difftime(when, time(NULL)) > 0 ? difftime(when, time(NULL)) : 0;
    }
    const char *t = limit ? strstr(limit, ";t=") : NULL;
    return t ? strtod(t + 3, NULL) + 1 : -1;
}

static bool wait_s(double seconds)
{
    const struct timespec slice = {.tv_nsec = 50 * 1000000L};
    for (double end = clock_seconds() + seconds; clock_seconds() < end;) {
        if (stop_requested())
            return false;
        double left = end - clock_seconds();
        struct timespec last = {.tv_nsec = (long)(left * 1e9)};
        nanosleep(left < 0.05 && left > 0 ? &last : &slice, NULL);
    }
    return !stop_requested();
}

bool net_pace_again(struct net *n, struct net_pace *p, const struct net_answer *a)
{
    if (!a->transient || stop_requested() || ++p->failures >= n->o.attempts)
        return false;
    int doublings = p->failures - 1 < DOUBLINGS_MAX ? p->failures - 1 : DOUBLINGS_MAX;
    double wait = n->o.backoff_s * (double)(1 << doublings), asked = asked_wait(a);
    if (asked > WAIT_MAX_S)
        return false;
    if (asked >= 0) {
        wait = asked;
        if (wait >= 2)
            log_warn("the server asks to wait %.0f s (status %ld)", wait, a->status);
    }
    return wait_s(wait);
}

int net_ask(struct net *n, const struct net_request *r, struct net_answer *a, struct err *e)
{
    struct net_pace pace = {0};
    for (;;) {
        struct err why = {0};
        int rc = net_send(n, r, a, &why);
        bool again = net_pace_again(n, &pace, a);
        if (rc == 0 && again && stop_requested())
            again = false;
        if (!again) {
            if (stop_requested())
                return stop_check(e);
            if (rc && e)
                *e = why;
            return rc;
        }
        net_answer_release(a);
    }
}
