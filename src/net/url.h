/* URLs as values: escape, resolve, compare, and show without what may be secret. */
#ifndef NET_URL_H
#define NET_URL_H

#include <stdbool.h>

#include "base/err.h"

/* Percent-encodes all but letters, digits, "-._~" and the characters of `keep` ("/" for a path).
 * xfree. */
char *net_url_escape(const char *text, const char *keep);
/* `location` as seen from `base`; absolute. NULL when it is no http or https URL. xfree. */
char *net_url_resolve(const char *base, const char *location);
/* Same scheme, host and port: what a credential may be sent to. */
bool net_url_same_origin(const char *a, const char *b);
/* 0 when it is an absolute http(s) URL without user name and password; `what` names it in errors.
 */
int net_url_check(const char *url, const char *what, struct err *e);
/* Scheme, host, port and path: queries of signed addresses are as good as passwords. xfree. */
char *net_url_shown(const char *url);

#endif
