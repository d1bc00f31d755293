/* Text for a person: styled, wrapped, in tables, into a buffer.
 *
 * Nothing here prints; a paper is filled and its text written once. Control characters in what is
 * added with paper_say and table_cell become '?', so that a name from a file cannot drive the
 * terminal. */
#ifndef FACE_PAPER_H
#define FACE_PAPER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

enum style { STYLE_PLAIN, STYLE_BOLD, STYLE_DIM, STYLE_GOOD, STYLE_BAD, STYLE_NAME };

struct paper {
    struct buf text;
    bool colour;
    bool utf8; /* may use characters outside ASCII */
    int width; /* columns of the terminal; 0 = not a terminal, lines are never cut */
};
void paper_init(struct paper *p, bool colour, bool utf8, int width);
void paper_release(struct paper *p);

void paper_say(struct paper *p, enum style style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void paper_end(struct paper *p); /* new line */
/* Words of the text wrapped to the width (or 80), every line indented; "\n\n" separates paragraphs,
 * a line that begins with two spaces is kept as it is. */
void paper_wrap(struct paper *p, int indent, const char *text);

/* Columns that UTF-8 text takes on a terminal (wide characters 2, combining 0). */
int text_columns(const char *text);

enum table_align { TABLE_LEFT, TABLE_RIGHT };
struct table; /* opaque */
struct table *table_new(void);
void table_free(struct table *t);
void table_column(struct table *t, const char *title, enum table_align align);
/* The next cell; a row is complete when it has a cell for every column. */
void table_cell(struct table *t, enum style style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
size_t table_rows(const struct table *t);
/* Titles (none when all are empty), rows; columns two spaces apart, empty columns left out, the
 * widest left-aligned column shortened when the terminal is too narrow. */
void table_print(const struct table *t, struct paper *p, int indent);

#endif
