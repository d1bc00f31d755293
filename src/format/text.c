/* Text from files: UTF-8 validity, control characters, a printable excerpt.
 *
 * Names and keys of hostile files end up in messages, on terminals and in JSON, so the readers
 * accept only valid UTF-8 without control characters there, and show what they refuse only through
 * text_show. UTF-8 is judged by the table of RFC 3629, section 4: the second byte's range depends
 * on the first. */
#include "format/text_int.h"

#include <stdint.h>
#include <string.h>

#include "base/banned.h"

/* Length of the sequence that starts at p, or 0 when it is not one. left is at least 1. */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    uint8_t low = 0x80, high = 0xbf;
    size_t n;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;
        low = p[0] == 0xe0 ? 0xa0 : 0x80;
        high = p[0] == 0xed ? 0x9f : 0xbf;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;
        low = p[0] == 0xf0 ? 0x90 : 0x80;
        high = p[0] == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (n > left || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    }
    return n;
}

bool text_is_utf8(const char *text, size_t n)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t i = 0;
    while (i < n) {
        size_t step = utf8_sequence(p + i, n - i);
        if (step == 0)
            return false;
        i += step;
    }
    return true;
}

bool text_has_control(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f)
            return true;
    }
    return false;
}

char *text_show(const char *text, size_t n, char shown[static TEXT_SHOWN_MAX])
{
    size_t keep = n < TEXT_SHOWN_MAX - 4 ? n : TEXT_SHOWN_MAX - 4;
    bool utf8 = text_is_utf8(text, n);
    /* never cut inside a sequence */
    while (utf8 && keep < n && keep > 0 && ((unsigned char)text[keep] & 0xc0) == 0x80)
        keep--;
    for (size_t i = 0; i < keep; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = c >= 0x20 && c != 0x7f && (c < 0x80 || utf8);
        shown[i] = plain ? text[i] : '?';
    }
    memcpy(shown + keep, "...", 4);
    if (keep == n)
        shown[keep] = '\0';
    return shown;
}
