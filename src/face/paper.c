/* Text for a person, into a buffer: styles, wrapping, tables.
 *
 * Owns the bytes of the paper and of the cells. Widths are counted in terminal columns and not in
 * bytes; the ranges of wide and of combining characters are the blocks of Unicode 15 that matter in
 * names of files and models (East Asian Width W and F, general category Mn), not every one of them:
 * a wrong guess costs alignment, nothing else. Colours are the eight of ECMA-48, so that themes
 * apply.
 */
#include "face/paper.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#include "base/banned.h"

enum { PAPER_BYTES_MAX = 64 << 20, WRAP_DEFAULT = 80, TABLE_COLUMNS_MAX = 16, COLUMN_MIN = 8 };

static const char *const style_codes[] = {
    [STYLE_PLAIN] = "",        [STYLE_BOLD] = "\033[1m", [STYLE_DIM] = "\033[2m",
    [STYLE_GOOD] = "\033[32m", [STYLE_BAD] = "\033[31m", [STYLE_NAME] = "\033[36m",
};

void paper_init(struct paper *p, bool colour, bool utf8, int width)
{
    buf_init(&p->text, PAPER_BYTES_MAX);
    p->colour = colour;
    p->utf8 = utf8;
    p->width = width;
}

void paper_release(struct paper *p)
{
    buf_release(&p->text);
}

/* Control characters, also C1 ones in UTF-8 (C2 80..9F), never reach a terminal. */
static void add_clean(struct buf *b, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        bool c1 = c == 0xC2 && i + 1 < n && (unsigned char)text[i + 1] < 0xA0;
        if (c1)
            i++;
        buf_addc(b, c1 || c < 0x20 || c == 0x7F ? '?' : (char)c);
    }
}

static void add_styled(struct paper *p, enum style style, const char *text, size_t n)
{
    bool colour = p->colour && style != STYLE_PLAIN && n > 0;
    if (colour)
        buf_adds(&p->text, style_codes[style]);
    add_clean(&p->text, text, n);
    if (colour)
        buf_adds(&p->text, "\033[0m");
}

void paper_say(struct paper *p, enum style style, const char *format, ...)
{
    struct buf b;
    buf_init(&b, PAPER_BYTES_MAX);
    va_list ap;
    va_start(ap, format);
    buf_addv(&b, format, ap);
    va_end(ap);
    add_styled(p, style, buf_str(&b), b.len);
    buf_release(&b);
}

void paper_end(struct paper *p)
{
    buf_addc(&p->text, '\n');
}

/* Decodes one character; malformed bytes count as one character each. */
static uint32_t utf8_next(const char **text)
{
    const unsigned char *s = (const unsigned char *)*text;
    int more = s[0] < 0xC0 ? 0 : s[0] < 0xE0 ? 1 : s[0] < 0xF0 ? 2 : 3;
    uint32_t c = more == 0 ? s[0] : s[0] & (0x3Fu >> more);
    for (int i = 1; i <= more; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            (*text)++;
            return s[0];
        }
        c = c << 6 | (s[i] & 0x3Fu);
    }
    *text += more + 1;
    return c;
}

static int char_columns(uint32_t c)
{
    static const uint32_t zero[][2] = {{0x300, 0x36F},   {0x200B, 0x200F}, {0x20D0, 0x20FF},
                                       {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}, {0xE0100, 0xE01EF}};
    static const uint32_t wide[][2] = {{0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0xA4CF},
                                       {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},
                                       {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},   {0x1F300, 0x1F64F},
                                       {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF}, {0x20000, 0x3FFFD}};
    for (size_t i = 0; i < sizeof(zero) / sizeof(zero[0]); i++)
        if (c >= zero[i][0] && c <= zero[i][1])
            return 0;
    for (size_t i = 0; i < sizeof(wide) / sizeof(wide[0]); i++)
        if (c >= wide[i][0] && c <= wide[i][1])
            return 2;
    return 1;
}

int text_columns(const char *text)
{
    int n = 0;
    while (*text)
        n += char_columns(utf8_next(&text));
    return n;
}

static void pad(struct buf *b, int n)
{
    while (n-- > 0)
        buf_addc(b, ' ');
}

/* One paragraph: words up to the width. Returns the end of it. */
static const char *wrap_paragraph(struct paper *p, int indent, int width, const char *text)
{
    int column = 0;
    while (*text && strncmp(text, "\n\n", 2) != 0 && strncmp(text, "\n  ", 3) != 0) {
        size_t gap = strspn(text, " \n");
        if (gap && (strncmp(text, "\n\n", 2) == 0 || text[gap] == 0))
            break;
        text += gap;
        size_t n = strcspn(text, " \n");
        char *word = xstrndup(text, n);
        int columns = text_columns(word);
        if (column > 0 && column + 1 + columns > width) {
            paper_end(p);
            column = 0;
        }
        if (column == 0)
            pad(&p->text, indent);
        else
            buf_addc(&p->text, ' ');
        column += columns + (column > 0);
        add_clean(&p->text, word, n);
        xfree(word);
        text += n;
    }
    if (column > 0)
        paper_end(p);
    return text;
}

void paper_wrap(struct paper *p, int indent, const char *text)
{
    int width = (p->width > 0 && p->width < 100 ? p->width : WRAP_DEFAULT) - indent - 1;
    while (*text) {
        if (strncmp(text, "\n\n", 2) == 0) {
            paper_end(p);
            text += 2;
        } else if (*text == '\n') {
            text++;
        } else if (strncmp(text, "  ", 2) == 0) {
            size_t n = strcspn(text, "\n");
            pad(&p->text, indent);
            add_clean(&p->text, text, n);
            paper_end(p);
            text += n;
        } else {
            text = wrap_paragraph(p, indent, width, text);
        }
    }
}

/* ---- tables -------------------------------------------------------------------------------------
 */

struct table_cell {
    const char *text; /* in the arena, clean */
    enum style style;
};

struct table {
    struct arena arena;
    const char *titles[TABLE_COLUMNS_MAX];
    enum table_align aligns[TABLE_COLUMNS_MAX];
    size_t n_columns;
    struct table_cell *cells; /* row after row */
    size_t n_cells, capacity;
};

struct table *table_new(void)
{
    return xcalloc(1, sizeof(struct table));
}

void table_free(struct table *t)
{
    if (!t)
        return;
    arena_release(&t->arena);
    xfree(t->cells);
    xfree(t);
}

void table_column(struct table *t, const char *title, enum table_align align)
{
    if (t->n_columns == TABLE_COLUMNS_MAX)
        return;
    t->titles[t->n_columns] = arena_strdup(&t->arena, title);
    t->aligns[t->n_columns++] = align;
}

void table_cell(struct table *t, enum style style, const char *format, ...)
{
    struct buf raw, clean;
    buf_init(&raw, PAPER_BYTES_MAX);
    buf_init(&clean, PAPER_BYTES_MAX);
    va_list ap;
    va_start(ap, format);
    buf_addv(&raw, format, ap);
    va_end(ap);
    add_clean(&clean, buf_str(&raw), raw.len);
    t->cells = xgrow(t->cells, &t->capacity, t->n_cells + 1, sizeof(*t->cells));
    t->cells[t->n_cells].text = arena_strdup(&t->arena, buf_str(&clean));
    t->cells[t->n_cells++].style = style;
    buf_release(&raw);
    buf_release(&clean);
}

size_t table_rows(const struct table *t)
{
    return t->n_columns ? t->n_cells / t->n_columns : 0;
}

/* Width of every column; 0 for one whose cells are all empty. */
static void measure_columns(const struct table *t, int *widths)
{
    for (size_t c = 0; c < t->n_columns; c++) {
        widths[c] = 0;
        for (size_t i = c; i < t->n_cells; i += t->n_columns) {
            int n = text_columns(t->cells[i].text);
            if (n > widths[c])
                widths[c] = n;
        }
        int n = text_columns(t->titles[c]);
        if (widths[c] > 0 && n > widths[c])
            widths[c] = n;
    }
}

static void fit_columns(const struct table *t, int *widths, int room)
{
    int total = 0;
    for (size_t c = 0; c < t->n_columns; c++)
        total += widths[c] ? widths[c] + 2 : 0;
    while (total - 2 > room) {
        size_t widest = t->n_columns;
        for (size_t c = 0; c < t->n_columns; c++)
            if (t->aligns[c] == TABLE_LEFT && widths[c] > COLUMN_MIN &&
                (widest == t->n_columns || widths[c] > widths[widest]))
                widest = c;
        if (widest == t->n_columns)
            return;
        widths[widest]--;
        total--;
    }
}

/* Bytes of text that fit into `columns`. */
static size_t cut_at(const char *text, int columns)
{
    const char *p = text;
    int n = 0;
    while (*p) {
        const char *next = p;
        n += char_columns(utf8_next(&next));
        if (n > columns)
            break;
        p = next;
    }
    return (size_t)(p - text);
}

static void print_cell(struct paper *p, const struct table_cell *cell, enum table_align align,
                       int width, bool last)
{
    int columns = text_columns(cell->text);
    if (columns > width) {
        const char *mark = p->utf8 ? "\u2026" : "~";
        char *cut = xstrndup(cell->text, cut_at(cell->text, width - 1));
        char *shown = xasprintf("%s%s", cut, mark);
        add_styled(p, cell->style, shown, strlen(shown));
        xfree(cut);
        xfree(shown);
        return;
    }
    if (align == TABLE_RIGHT)
        pad(&p->text, width - columns);
    add_styled(p, cell->style, cell->text, strlen(cell->text));
    if (align == TABLE_LEFT && !last)
        pad(&p->text, width - columns);
}

static void print_row(const struct table *t, const struct table_cell *cells, struct paper *p,
                      const int *widths, int indent)
{
    size_t last = 0;
    for (size_t c = 0; c < t->n_columns; c++)
        if (widths[c] > 0 && cells[c].text[0])
            last = c;
    pad(&p->text, indent);
    bool first = true;
    for (size_t c = 0; c <= last; c++) {
        if (widths[c] == 0)
            continue;
        if (!first)
            buf_adds(&p->text, "  ");
        print_cell(p, &cells[c], t->aligns[c], widths[c], c == last);
        first = false;
    }
    paper_end(p);
}

void table_print(const struct table *t, struct paper *p, int indent)
{
    int widths[TABLE_COLUMNS_MAX];
    if (table_rows(t) == 0)
        return;
    measure_columns(t, widths);
    if (p->width > 0)
        fit_columns(t, widths, p->width - indent);
    struct table_cell titles[TABLE_COLUMNS_MAX];
    bool titled = false;
    for (size_t c = 0; c < t->n_columns; c++) {
        titles[c] = (struct table_cell){t->titles[c], STYLE_DIM};
        titled = titled || t->titles[c][0];
    }
    if (titled)
        print_row(t, titles, p, widths, indent);
    for (size_t i = 0; i + t->n_columns <= t->n_cells; i += t->n_columns)
        print_row(t, &t->cells[i], p, widths, indent);
}
