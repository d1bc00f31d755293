/* HTTP requests over libcurl: bounded answers, bodies streamed to a function or from a file,
 * stall detection instead of a total time, retries with back-off.
 *
 * An answer of any status is an answer: what 401 or 404 mean is the caller's to say. Redirects are
 * followed within one origin only; one that leads elsewhere is handed to the caller, who asks again
 * without the token. So a token cannot reach another host. TLS certificates are always verified.
 * Proxies are taken from the environment as curl does; a CA bundle from SSL_CERT_FILE,
 * REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE.
 */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

struct net_options {
    double connect_s; /* 0: 10 s */
    double stall_s;   /* less than one byte per second for so long is a failure; 0: 10 s */
    double backoff_s; /* before the second attempt, doubled each time up to 16 times; 0: 0.5 s */
    int attempts;     /* 0: 6 */
};

/* Keeps connections open between requests. One thread at a time. */
struct net;
struct net *net_open(const struct net_options *o); /* NULL: all defaults; never NULL */
void net_close(struct net *n);

struct net_answer {
    long status;     /* 0: none came */
    char *url;       /* that answered, after redirects within the origin */
    char *location;  /* absolute: a redirect to another origin; else NULL */
    bool transient;  /* the failure of net_send, or this status, may pass by itself */
    struct buf body; /* of an answer that no sink took */
    struct net_header *headers;
    size_t n_headers;
    struct arena memory; /* of the headers */
};
/* The value of the last header of that name (any case), or NULL. */
const char *net_header(const struct net_answer *a, const char *name);
void net_answer_release(struct net_answer *a);

struct net_request {
    const char *method; /* "GET", "HEAD", "POST", "PUT" */
    const char *url;
    const char *token;          /* sent as a bearer token to the origin of url; may be NULL */
    const char *const *headers; /* "Name: value", ended by NULL; may be NULL */
    bool ranged;                /* Range: bytes=from-(to-1) */
    uint64_t from, to;
    const void *body; /* of body_bytes, or NULL */
    uint64_t body_bytes;
    bool body_is_file; /* the body is body_bytes of body_fd from body_offset on */
    int body_fd;
    uint64_t body_offset;
    size_t answer_max; /* bytes; 0: 1 MiB. More is an error */
    /* Takes the body of a 2xx answer piece by piece; headers are there. Non-zero ends the request
     * with net_send's failure; why is the sink's to remember (e is filled when it does not). */
    int (*sink)(void *ud, const struct net_answer *a, const void *data, size_t n, struct err *e);
    /* Says what was sent or received so far, for progress; may be NULL. */
    void (*moved)(void *ud, uint64_t sent);
    void *ud;
};

/* One attempt. *a is filled in any case and must be released. */
int net_send(struct net *n, const struct net_request *r, struct net_answer *a, struct err *e);

/* The pace of attempts. Zeroed at the start, and again whenever bytes arrived. */
struct net_pace {
    int failures;
};
/* After a failure (rc of net_send non-zero, or a status): true when the request is worth another
 * attempt, after waiting as the back-off or the server (Retry-After, RateLimit) says. False when
 * not, or interrupted. */
bool net_pace_again(struct net *n, struct net_pace *p, const struct net_answer *a);

/* Attempts until an answer that is final or until attempts are exhausted. Not for a request whose
 * repetition does harm, nor with a sink. */
int net_ask(struct net *n, const struct net_request *r, struct net_answer *a, struct err *e);

#endif
