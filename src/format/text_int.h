/* Judging text that comes from a file: is it UTF-8, is it printable, and how to show it in an
 * error. */
#ifndef FORMAT_TEXT_INT_H
#define FORMAT_TEXT_INT_H

#include <stdbool.h>
#include <stddef.h>

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. NUL is a character like
 * others. */
bool text_is_utf8(const char *text, size_t n);
/* Bytes below 0x20 and 0x7f, so also NUL. */
bool text_has_control(const char *text, size_t n);

enum { TEXT_SHOWN_MAX = 84 };
/* For messages: the first bytes with everything unprintable as '?', "..." when cut. Returns shown.
 */
char *text_show(const char *text, size_t n, char shown[static TEXT_SHOWN_MAX]);

#endif
