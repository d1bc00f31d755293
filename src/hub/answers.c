/* Answers of the hub that are refusals, as sentences: what happened, and what to do.
 *
 * The hub says more in its headers (X-Error-Code, X-Error-Message) than by the status: it answers
 * 401 for a repository that does not exist when no token is sent, so as not to tell private from
 * missing. Owns nothing.
 */
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "hub/hub_int.h"
#include "net/url.h"

#include "base/banned.h"

static bool is(const char *a, const char *b)
{
    return a && strcasecmp(a, b) == 0;
}

static int gated(const struct hub *h, const struct hub_ref *ref, long status, struct err *e)
{
    char hint[ERR_HINT_MAX];
    snprintf(hint, sizeof(hint), "open %s/%s in a browser and accept its conditions, then %s",
             h->endpoint, ref->repo,
             h->token ? "run the same command again" : "'sintra hf login' with a read token");
    return err_set(e, ERR_MISSING, hint, "%s is gated: %s (status %ld)", ref->repo,
                   h->token ? "the account of this token has not been given access"
                            : "it can be read only with the token of an account that has access",
                   status);
}

static int missing(const struct hub *h, const struct hub_ref *ref, long status, struct err *e)
{
    return err_set(e, ERR_MISSING,
                   h->token ? "check the spelling; if it is private, log in as somebody who can "
                              "read it: 'sintra hf login'"
                            : "check the spelling; if it is private, 'sintra hf login' first",
                   "%s: the hub has no such model, or it is private (status %ld)", ref->repo,
                   status);
}

static int limited(const struct hub *h, const struct net_answer *a, struct err *e)
{
    const char *after = net_header(a, "Retry-After");
    char hint[ERR_HINT_MAX];
    snprintf(hint, sizeof(hint), "wait%s%.20s%s, then run the same command again; it goes on%s",
             after ? " " : "", after ? after : "", after ? " s" : " some minutes",
             h->token ? "" : ". With a token ('sintra hf login') the limits are higher");
    return err_set(e, ERR_BUSY, hint, "%s: too many requests (status 429)", h->endpoint);
}

int hub_redirected(const struct hub *h, const struct net_answer *a, struct err *e)
{
    char hint[ERR_HINT_MAX] = "set HF_ENDPOINT to the address of the hub there, or log in to this "
                              "network if that is what it asks for";
    char *from = net_url_shown(a->url), *to = net_url_shown(a->location);
    size_t skip = strlen(h->endpoint), n = strlen(from), m = strlen(to);
    /* The same path there shows what stands in the endpoint's place. */
    size_t tail = n > skip ? n - skip : 0;
    if (tail > 0 && m > tail && strcmp(to + m - tail, from + skip) == 0)
        snprintf(hint, sizeof(hint), "set HF_ENDPOINT to %.*s", (int)(m - tail), to);
    err_set(e, ERR_IO, hint, "%.200s redirects to %.200s (status %ld); requests are not sent on",
            h->endpoint, to, a->status);
    xfree(from);
    xfree(to);
    return -1;
}

int hub_refuse(const struct hub *h, const struct hub_ref *ref, const char *path,
               const struct net_answer *a, struct err *e)
{
    const char *code = net_header(a, "X-Error-Code"), *text = net_header(a, "X-Error-Message");
    long s = a->status;
    if (s == 429)
        return limited(h, a, e);
    if (a->location)
        return hub_redirected(h, a, e);
    if (is(code, "GatedRepo"))
        return gated(h, ref, s, e);
    if (is(code, "RevisionNotFound"))
        return err_set(e, ERR_MISSING, "the page of the model lists its branches and tags",
                       "%s has no revision \"%s\"", ref->repo, ref->revision);
    if (is(code, "EntryNotFound") || (s == 404 && path && !is(code, "RepoNotFound")))
        return err_set(e, ERR_MISSING, NULL, "%s has no file %s at revision \"%s\"", ref->repo,
                       path ? path : "of that name", ref->revision);
    if (is(text, "Access to this resource is disabled."))
        return err_set(e, ERR_MISSING, NULL, "%s was disabled by the hub", ref->repo);
    if (s == 401 && text && strstr(text, "Invalid credentials"))
        return err_set(e, ERR_INPUT,
                       "make a new token in the settings of your account, then 'sintra hf login'",
                       "the hub does not accept the token of %s",
                       h->token_source ? h->token_source : "this command");
    if (is(code, "RepoNotFound") || s == 401 || s == 404)
        return missing(h, ref, s, e);
    if (s == 403)
        return err_set(e, ERR_MISSING,
                       "give the token that permission in the settings of your account",
                       "%s: the token lacks a permission%s%.200s (status 403)", ref->repo,
                       text ? ": " : "", text ? text : "");
    char *shown = net_url_shown(a->url);
    err_set(e, ERR_IO, s >= 500 ? "the hub has a problem; try again later" : NULL,
            "%.400s: unexpected answer (status %ld)%s%.200s", shown, s, text ? ": " : "",
            text ? text : "");
    xfree(shown);
    return -1;
}
