/* The Pareto plot as SVG: KL divergence on a logarithmic axis over the size of the file.
 *
 * All points are scores on the windows of the search, so that they can be compared: squares are
 * stock mixes, dots are composed candidates, the line is the front, the star is what was delivered.
 * Limits that targets set on the size are upright lines. Colours come from the page's style sheet;
 * shapes differ too. Every point carries its numbers as <title>, which browsers show and readers
 * speak.
 */
#include "run/page_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/banned.h"

enum { POINTS_MAX = 4096, TICKS_MAX = 16, LADDER_MAX = 12, BOXES_MAX = 64, LIMITS = 3 };
/* Units of the drawing. */
static const double width = 720, height = 430, left = 74, right = 704, top = 40, bottom = 364;
static const double letter = 7.4, line = 15; /* of the labels, rather too much than too little */

struct point {
    double bytes, kld, bpw;
    const char *label;
    bool stock, front, delivered;
};
struct box {
    double x0, y0, x1, y1;
};
struct plot {
    struct point *points;
    size_t n;
    double x_low, x_high; /* bytes */
    double y_low, y_high; /* log10 of KL */
    double unit;          /* bytes */
    const char *unit_name;
    double parameters;
    struct box boxes[BOXES_MAX]; /* taken by labels and marks */
    size_t n_boxes;
};

static double number(const json_t *o, const char *key)
{
    return json_opt_real(o, key, NAN);
}

/* ---- what there is to show ---- */

static size_t collect(struct point *out, const json_t *report)
{
    const json_t *row;
    size_t i, n = 0;
    json_array_foreach(json_object_get(report, "tried"), i, row)
    {
        struct point p = {.bytes = number(row, "bytes"),
                          .kld = number(row, "kld_mean"),
                          .bpw = number(row, "bpw"),
                          .label = json_opt_str(row, "label", ""),
                          .stock = json_opt_bool(row, "stock", false),
                          .front = json_opt_bool(row, "front", false)};
        p.delivered = strcmp(json_opt_str(row, "outcome", ""), "delivered") == 0;
        if (n < POINTS_MAX && p.bytes > 0 && p.kld > 0)
            out[n++] = p;
    }
    return n;
}

static const struct {
    const char *key, *words;
} limits[LIMITS] = {
    {"by_size", "target size"}, {"by_memory", "target memory"}, {"by_speed", "target speed"}};

/* A limit far from all candidates would squeeze them into a corner. */
static bool limit_shown(const struct plot *p, double bytes, double low, double high)
{
    (void)p;
    return bytes > 0.6 * low && bytes < 1.6 * high;
}

static void set_ranges(struct plot *p, const json_t *report)
{
    const json_t *set = json_object_get(report, "limits");
    double low = INFINITY, high = 0, y0 = INFINITY, y1 = -INFINITY;
    for (size_t i = 0; i < p->n; i++) {
        low = fmin(low, p->points[i].bytes);
        high = fmax(high, p->points[i].bytes);
        y0 = fmin(y0, log10(p->points[i].kld));
        y1 = fmax(y1, log10(p->points[i].kld));
    }
    p->x_low = low;
    p->x_high = high;
    for (int i = 0; i < LIMITS; i++) {
        double v = number(set, limits[i].key);
        if (!isfinite(v) || !limit_shown(p, v, low, high))
            continue;
        p->x_low = fmin(p->x_low, v);
        p->x_high = fmax(p->x_high, v);
    }
    double pad = fmax(0.06 * (p->x_high - p->x_low), 0.01 * p->x_high);
    p->x_low = fmax(0, p->x_low - pad);
    p->x_high += pad;
    pad = fmax(0.09 * (y1 - y0), 0.05);
    p->y_low = y0 - pad;
    p->y_high = y1 + pad;
    p->unit = p->x_high >= 1e9 ? 1073741824.0 : p->x_high >= 1e6 ? 1048576.0 : 1024.0;
    p->unit_name = p->x_high >= 1e9 ? "GiB" : p->x_high >= 1e6 ? "MiB" : "KiB";
}

static double x_of(const struct plot *p, double bytes)
{
    return left + (bytes - p->x_low) / (p->x_high - p->x_low) * (right - left);
}

static double y_of(const struct plot *p, double kld)
{
    return bottom - (log10(kld) - p->y_low) / (p->y_high - p->y_low) * (bottom - top);
}

/* ---- axes ---- */

/* Steps of 1, 2, 2.5 or 5 times a power of ten that give four to seven ticks. */
static double x_step(double span)
{
    static const double steps[] = {1, 2, 2.5, 5, 10};
    double power = pow(10, floor(log10(span / 5)));
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (span / (steps[i] * power) <= 7)
            return steps[i] * power;
    return 10 * power;
}

static void draw_x_axis(struct buf *b, const struct plot *p)
{
    double low = p->x_low / p->unit, high = p->x_high / p->unit, step = x_step(high - low);
    int digits = 0;
    for (double s = step; digits < 6 && fabs(s - round(s)) > 1e-9; s *= 10)
        digits++;
    for (double v = ceil(low / step) * step; v <= high; v += step) {
        double x = x_of(p, v * p->unit);
        buf_addf(b, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>", x, top, bottom);
        buf_addf(b,
                 "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.*f %s</text>",
                 x, bottom + 20, digits, v, p->unit_name);
        if (p->parameters > 0)
            buf_addf(b,
                     "<text class=\"tick soft\" x=\"%.1f\" y=\"%.1f\" "
                     "text-anchor=\"middle\">%.2f bpw</text>\n",
                     x, bottom + 37, v * p->unit * 8 / p->parameters);
    }
    buf_addf(b,
             "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">size of the file%s"
             "</text>\n",
             (left + right) / 2, height - 6, p->parameters > 0 ? ", and bits per weight" : "");
}

/* Decades, or as fine a ladder within them as gives at least four ticks and at most nine. */
static size_t y_ticks(const struct plot *p, double out[static TICKS_MAX])
{
    static const double ladders[][LADDER_MAX + 1] = {{1},
                                                     {1, 3},
                                                     {1, 2, 5},
                                                     {1, 1.5, 2, 3, 4, 6, 8},
                                                     {1, 1.2, 1.5, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8}};
    size_t best = 0;
    for (size_t l = 0; l < sizeof(ladders) / sizeof(ladders[0]) && best < 4; l++) {
        double found[TICKS_MAX];
        size_t n = 0;
        for (double e = floor(p->y_low); e <= p->y_high; e++)
            for (int k = 0; k < LADDER_MAX && ladders[l][k] > 0; k++) {
                double v = ladders[l][k] * pow(10, e), y = log10(v);
                if (y >= p->y_low && y <= p->y_high && n < TICKS_MAX)
                    found[n++] = v;
            }
        if (n > best && n <= 9) {
            memcpy(out, found, sizeof(found));
            best = n;
        }
    }
    return best;
}

static void draw_y_axis(struct buf *b, const struct plot *p)
{
    double ticks[TICKS_MAX];
    size_t n = y_ticks(p, ticks);
    for (size_t i = 0; i < n; i++) {
        double y = y_of(p, ticks[i]);
        buf_addf(b, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>", left, y, right);
        buf_addf(b, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.12g</text>\n",
                 left - 8, y + 4.5, ticks[i]);
    }
    buf_addf(b,
             "<text class=\"axis\" x=\"%.1f\" y=\"18\">KL divergence from the original, nats per "
             "token (logarithmic; lower is better)</text>\n",
             left - 62);
}

/* ---- marks ---- */

static void take_box(struct plot *p, struct box x)
{
    if (p->n_boxes < BOXES_MAX)
        p->boxes[p->n_boxes++] = x;
}

static bool box_free(const struct plot *p, const struct box *x)
{
    if (x->x0 < left || x->x1 > right || x->y0 < top || x->y1 > bottom)
        return false;
    for (size_t i = 0; i < p->n_boxes; i++) {
        const struct box *o = &p->boxes[i];
        if (x->x0 < o->x1 && o->x0 < x->x1 && x->y0 < o->y1 && o->y0 < x->y1)
            return false;
    }
    return true;
}

/* Beside the point where there is room; crowded labels are left to the tooltip and the table. */
static void draw_label(struct buf *b, struct plot *p, const struct point *t, const char *text)
{
    double w = (double)strlen(text) * letter, x = x_of(p, t->bytes), y = y_of(p, t->kld);
    const struct {
        struct box box;
        double x;
        const char *anchor;
    } places[] = {{{x + 8, y - line, x + 11 + w, y + 3}, x + 11, "start"},
                  {{x - w / 2, y - 11 - line, x + w / 2, y - 10}, x, "middle"},
                  {{x - 11 - w, y, x - 8, y + line + 3}, x - 11, "end"},
                  {{x + 8, y, x + 11 + w, y + line + 3}, x + 11, "start"},
                  {{x - 11 - w, y - line, x - 8, y + 3}, x - 11, "end"},
                  {{x - w / 2, y + 10, x + w / 2, y + 11 + line}, x, "middle"}};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (!box_free(p, &places[i].box))
            continue;
        take_box(p, places[i].box);
        buf_addf(b, "<text class=\"name%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">",
                 t->delivered ? " best" : "", places[i].x, places[i].box.y1 - 4, places[i].anchor);
        page_text(b, text);
        buf_adds(b, "</text>\n");
        return;
    }
}

static void draw_mark(struct buf *b, const struct plot *p, const struct point *t)
{
    double x = x_of(p, t->bytes), y = y_of(p, t->kld);
    char size[NUM_TEXT_MAX], kld[NUM_TEXT_MAX];
    if (t->delivered)
        buf_addf(b,
                 "<path class=\"pt best\" d=\"M%.1f %.1fl2.7 6.3 6.8 .6-5.2 4.5 1.6 6.7-5.9-3.6"
                 "-5.9 3.6 1.6-6.7-5.2-4.5 6.8-.6z\">",
                 x, y - 10.6);
    else if (t->stock)
        buf_addf(b, "<rect class=\"pt stock\" x=\"%.1f\" y=\"%.1f\" width=\"9\" height=\"9\">",
                 x - 4.5, y - 4.5);
    else
        buf_addf(b, "<circle class=\"pt ours\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.6\">", x, y);
    buf_adds(b, "<title>");
    page_text(b, t->label);
    buf_addf(b, "%s: %s, %.2f bits per weight, KL %s</title></%s>\n",
             t->delivered ? ", delivered" : "", num_format_size((uint64_t)t->bytes, size), t->bpw,
             page_kld(t->kld, kld),
             t->delivered ? "path"
             : t->stock   ? "rect"
                          : "circle");
}

/* The front's members by ascending size. */
static void draw_front(struct buf *b, const struct plot *p)
{
    double last = 0;
    char command = 'M';
    buf_adds(b, "<path class=\"front\" d=\"");
    for (;;) {
        const struct point *next = NULL;
        for (size_t i = 0; i < p->n; i++)
            if (p->points[i].front && p->points[i].bytes > last &&
                (!next || p->points[i].bytes < next->bytes))
                next = &p->points[i];
        if (!next)
            break;
        last = next->bytes;
        buf_addf(b, "%c%.1f %.1f", command, x_of(p, next->bytes), y_of(p, next->kld));
        command = 'L';
    }
    buf_adds(b, command == 'M' ? "M0 0\"/>\n" : "\"/>\n");
}

static void draw_limits(struct buf *b, const struct plot *p, const json_t *report)
{
    const json_t *set = json_object_get(report, "limits");
    int shown = 0;
    for (int i = 0; i < LIMITS; i++) {
        double v = number(set, limits[i].key);
        char size[NUM_TEXT_MAX];
        if (!isfinite(v) || v < p->x_low || v > p->x_high)
            continue;
        double x = x_of(p, v);
        bool late = x > (left + right) / 2;
        buf_addf(b, "<path class=\"limit\" d=\"M%.1f %.1fV%.1f\"/>", x, top, bottom);
        buf_addf(b,
                 "<text class=\"name limit-text\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s: %s"
                 "</text>\n",
                 late ? x - 6 : x + 6, top + 13 + line * shown, late ? "end" : "start",
                 limits[i].words, num_format_size((uint64_t)v, size));
        shown++;
    }
}

static void draw_marks(struct buf *b, struct plot *p)
{
    const struct point *best = NULL;
    for (size_t i = 0; i < p->n; i++) {
        double x = x_of(p, p->points[i].bytes), y = y_of(p, p->points[i].kld);
        take_box(p, (struct box){x - 5, y - 5, x + 5, y + 5});
        best = p->points[i].delivered ? &p->points[i] : best;
    }
    for (size_t i = 0; i < p->n; i++)
        if (!p->points[i].delivered)
            draw_mark(b, p, &p->points[i]);
    if (best) {
        draw_mark(b, p, best);
        draw_label(b, p, best, best->stock ? best->label : "delivered");
    }
    for (size_t i = 0; i < p->n; i++)
        if (p->points[i].stock && !p->points[i].delivered)
            draw_label(b, p, &p->points[i], p->points[i].label);
}

static void legend(struct buf *b)
{
    buf_adds(
        b,
        "<figcaption><ul class=\"legend\">"
        "<li><svg class=\"key\" viewBox=\"0 0 20 20\" aria-hidden=\"true\"><path class=\"k-best\" "
        "d=\"M10 .6l2.7 6.3 6.8.6-5.2 4.5 1.6 6.7-5.9-3.6-5.9 3.6 1.6-6.7-5.2-4.5 6.8-.6z\"/></svg>"
        "delivered</li>"
        "<li><svg class=\"key\" viewBox=\"0 0 20 20\" aria-hidden=\"true\">"
        "<circle class=\"k-ours\" "
        "cx=\"10\" cy=\"10\" r=\"6\"/></svg>composed by the search</li>"
        "<li><svg class=\"key\" viewBox=\"0 0 20 20\" aria-hidden=\"true\"><rect class=\"k-stock\" "
        "x=\"4\" y=\"4\" width=\"12\" height=\"12\"/></svg>stock mix of llama.cpp</li>"
        "<li><svg class=\"key\" viewBox=\"0 0 20 20\" aria-hidden=\"true\"><path class=\"front\" "
        "d=\"M1 10H19\"/></svg>Pareto front</li></ul>"
        "All points are measured on the text of the search, so that they can be compared; the "
        "table has the scores on held-out text.</figcaption>");
}

bool page_plot(struct buf *b, const json_t *report)
{
    struct plot *p = xcalloc(1, sizeof(*p));
    p->points = xcalloc(POINTS_MAX, sizeof(*p->points));
    p->n = collect(p->points, report);
    bool any = p->n > 0;
    if (any) {
        p->parameters = number(json_object_get(report, "model"), "parameters");
        set_ranges(p, report);
        buf_addf(b,
                 "<section><h2>Quality against size</h2>\n<figure class=\"plot\">"
                 "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
                 "aria-labelledby=\"plot-title plot-desc\"><title id=\"plot-title\">KL divergence "
                 "over file size</title><desc id=\"plot-desc\">%zu candidates: stock mixes, "
                 "candidates composed by the search, the front of the best at every size, and the "
                 "delivered one.</desc>\n",
                 width, height, p->n);
        draw_x_axis(b, p);
        draw_y_axis(b, p);
        draw_limits(b, p, report);
        draw_front(b, p);
        draw_marks(b, p);
        buf_adds(b, "</svg>");
        legend(b);
        buf_adds(b, "</figure></section>\n");
    }
    xfree(p->points);
    xfree(p);
    return any;
}
