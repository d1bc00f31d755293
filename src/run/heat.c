/* Two maps of a model, layers down and parts of a layer across: how much KL divergence each tensor
 * group costs when it alone has the probe's type, and which type it has in the delivered file.
 *
 * The page shades sensitivities by their logarithm, types by their bits; every cell has its number
 * too, so nothing depends on seeing colours. Groups outside the layers (embedding, head) come
 * first, as a line.
 */
#include "run/page_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/banned.h"

enum { PARTS_MAX = 48, LAYERS_MAX = 4096, SHADES = 9, CELL_TEXT = 32 };

struct grid {
    const json_t *groups;
    const char *parts[PARTS_MAX];
    size_t n_parts;
    int64_t layers;       /* the highest + 1 */
    const json_t **cells; /* (layers, n_parts), NULL = none */
    double low, high;     /* of the sensitivities above 0 */
    double unit;          /* of the numbers shown, nats */
    const char *unit_words;
};

static double kld_of(const json_t *g)
{
    return json_opt_real(g, "probe_kld", NAN);
}

/* The order in which a layer computes; other parts follow in the order of the file. */
static const char *const usual[] = {"attn_qkv",    "attn_q",   "attn_k", "attn_v",
                                    "attn_output", "ffn_gate", "ffn_up", "ffn_down"};

static void order_parts(struct grid *m)
{
    size_t next = 0;
    for (size_t u = 0; u < sizeof(usual) / sizeof(usual[0]); u++)
        for (size_t i = next; i < m->n_parts; i++) {
            if (strcmp(m->parts[i], usual[u]) != 0)
                continue;
            const char *part = m->parts[i];
            memmove(&m->parts[next + 1], &m->parts[next], (i - next) * sizeof(m->parts[0]));
            m->parts[next++] = part;
        }
}

static size_t part_index(struct grid *m, const char *part)
{
    size_t i = 0;
    while (i < m->n_parts && strcmp(m->parts[i], part) != 0)
        i++;
    if (i == m->n_parts && i < PARTS_MAX)
        m->parts[m->n_parts++] = part;
    return i;
}

static int64_t layer_of(const json_t *g)
{
    int64_t layer = json_opt_i64(g, "layer", -1);
    return layer < LAYERS_MAX ? layer : -1;
}

static bool grid_make(struct grid *m, const json_t *report)
{
    const json_t *g;
    size_t i;
    *m = (struct grid){.groups = json_object_get(report, "groups"), .low = INFINITY};
    json_array_foreach(m->groups, i, g)
    {
        double kld = kld_of(g);
        if (layer_of(g) >= 0)
            part_index(m, json_opt_str(g, "part", "?"));
        m->layers = layer_of(g) >= m->layers ? layer_of(g) + 1 : m->layers;
        if (kld > 0) {
            m->low = fmin(m->low, kld);
            m->high = fmax(m->high, kld);
        }
    }
    order_parts(m);
    m->unit = m->high < 1e-2 ? 1e-6 : m->high < 2 ? 1e-3 : 1;
    m->unit_words = m->high < 1e-2 ? "millionths of a nat"
                    : m->high < 2  ? "thousandths of a nat"
                                   : "nats";
    m->cells = xcalloc((size_t)m->layers * m->n_parts + 1, sizeof(*m->cells));
    json_array_foreach(m->groups, i, g)
    {
        int64_t layer = layer_of(g);
        size_t part = layer >= 0 ? part_index(m, json_opt_str(g, "part", "?")) : PARTS_MAX;
        if (part < m->n_parts)
            m->cells[(size_t)layer * m->n_parts + part] = g;
    }
    return json_array_size(m->groups) > 0;
}

static char *value_text(const struct grid *m, const json_t *g, char text[static CELL_TEXT])
{
    double v = kld_of(g) / m->unit;
    if (!isfinite(v))
        snprintf(text, CELL_TEXT, "-");
    else
        snprintf(text, CELL_TEXT, "%.*f", v >= 10 || v <= 0 ? 0 : v >= 1 ? 1 : 2, v);
    return text;
}

static int kld_shade(const struct grid *m, const json_t *g)
{
    double v = kld_of(g), span = log(m->high) - log(m->low);
    if (!(v > 0) || !(span > 1e-9))
        return 0;
    int shade = (int)((log(v) - log(m->low)) / span * (SHADES - 1) + 0.5);
    return shade < 0 ? 0 : shade > SHADES - 1 ? SHADES - 1 : shade;
}

static const double shade_bits[SHADES - 1] = {2.2, 2.8, 3.2, 3.6, 4.3, 4.6, 5.6, 6.7};

static int type_shade(const json_t *g)
{
    double bits = json_opt_real(g, "bits", 0);
    int shade = 0;
    while (shade < SHADES - 1 && bits > shade_bits[shade])
        shade++;
    return shade;
}

/* ---- the page ---- */

static void html_cell(struct buf *b, const struct grid *m, const json_t *g, bool types)
{
    char value[CELL_TEXT];
    if (!g) {
        buf_adds(b, "<td class=\"none\"></td>");
        return;
    }
    buf_addf(b, "<td class=\"%c%d\" title=\"", types ? 't' : 's',
             types ? type_shade(g) : kld_shade(m, g));
    page_text(b, json_opt_str(g, "name", ""));
    buf_addf(b, ": KL %.3g as ", kld_of(g));
    page_text(b, json_opt_str(g, "probe", "?"));
    buf_adds(b, ", has ");
    page_text(b, json_opt_str(g, "type", "?"));
    buf_adds(b, "\">");
    page_text(b, types ? json_opt_str(g, "type", "-") : value_text(m, g, value));
    buf_adds(b, "</td>");
}

/* "attn_q": broken where it may be, so that columns stay narrow. */
static void html_head(struct buf *b, const struct grid *m)
{
    buf_adds(b, "<thead><tr><th scope=\"col\">layer</th>");
    for (size_t i = 0; i < m->n_parts; i++) {
        const char *cut = strchr(m->parts[i], '_');
        char first[CELL_TEXT];
        size_t n = cut ? (size_t)(cut - m->parts[i]) + 1 : 0;
        buf_adds(b, "<th scope=\"col\">");
        if (n > 0 && n < sizeof(first)) {
            memcpy(first, m->parts[i], n);
            first[n] = 0;
            page_text(b, first);
            buf_adds(b, "<wbr/>");
        }
        page_text(b, m->parts[i] + (n < sizeof(first) ? n : 0));
        buf_adds(b, "</th>");
    }
    buf_adds(b, "</tr></thead>\n");
}

static void html_outside(struct buf *b, const struct grid *m, bool types)
{
    const json_t *g;
    size_t i;
    bool any = false;
    json_array_foreach(m->groups, i, g)
    {
        if (layer_of(g) >= 0)
            continue;
        buf_adds(b, any ? "" : "<table class=\"heat outside\"><tbody><tr>");
        any = true;
        buf_adds(b, "<th scope=\"row\">");
        page_text(b, json_opt_str(g, "part", "?"));
        buf_adds(b, "</th>");
        html_cell(b, m, g, types);
    }
    buf_adds(b, any ? "</tr></tbody></table>\n" : "");
}

static void html_map(struct buf *b, const struct grid *m, bool types)
{
    buf_adds(b, "<div class=\"scroll\">");
    html_outside(b, m, types);
    buf_addf(b, "<table class=\"heat\"><caption class=\"hidden\">%s by layer and part</caption>\n",
             types ? "Type" : "Sensitivity");
    html_head(b, m);
    buf_adds(b, "<tbody>\n");
    for (int64_t l = 0; l < m->layers; l++) {
        buf_addf(b, "<tr><th scope=\"row\">%lld</th>", (long long)l);
        for (size_t i = 0; i < m->n_parts; i++)
            html_cell(b, m, m->cells[(size_t)l * m->n_parts + i], types);
        buf_adds(b, "</tr>\n");
    }
    buf_adds(b, "</tbody></table></div>\n");
}

static void html_scale(struct buf *b, char kind, const char *low, const char *high)
{
    buf_addf(b, "<p class=\"scale\">%s ", low);
    for (int i = 0; i < SHADES; i++)
        buf_addf(b, "<i class=\"%c%d\"></i>", kind, i);
    buf_addf(b, " %s</p>\n", high);
}

bool page_heat(struct buf *b, const json_t *report)
{
    struct grid m;
    bool any = grid_make(&m, report);
    const char *probe = json_opt_str(json_array_get(m.groups, 0), "probe", "?");
    if (any) {
        buf_adds(b, "<section><h2>Where the model is sensitive</h2><p>KL divergence that each "
                    "tensor costs when it alone is stored as ");
        page_text(b, probe);
        buf_addf(b,
                 ", in %s per token. Bits belong where the numbers are large for the tensor's "
                 "size.</p>\n",
                 m.unit_words);
        html_scale(b, 's', "less", "more");
        html_map(b, &m, false);
        buf_adds(b, "</section><section><h2>What each tensor got</h2><p>Its type in the delivered "
                    "file.</p>\n");
        html_scale(b, 't', "fewer bits", "more");
        html_map(b, &m, true);
        buf_adds(b, "</section>\n");
    }
    xfree(m.cells);
    return any;
}

/* ---- Markdown ---- */

static void markdown_cell(struct buf *b, const struct grid *m, const json_t *g)
{
    char value[CELL_TEXT];
    if (g) {
        buf_addf(b, " %s ", value_text(m, g, value));
        markdown_text(b, json_opt_str(g, "type", "-"));
    }
    buf_adds(b, " |");
}

void markdown_heat(struct buf *b, const json_t *report)
{
    struct grid m;
    const json_t *g;
    size_t i;
    if (grid_make(&m, report)) {
        buf_adds(b, "\n## Sensitivity and type of each tensor\n\nKL divergence that a tensor costs "
                    "when it alone is stored as ");
        markdown_text(b, json_opt_str(json_array_get(m.groups, 0), "probe", "?"));
        buf_addf(b, ", in %s per token, and the type it has in the delivered file.\n\n| layer |",
                 m.unit_words);
        for (i = 0; i < m.n_parts; i++) {
            buf_adds(b, " ");
            markdown_text(b, m.parts[i]);
            buf_adds(b, " |");
        }
        buf_adds(b, "\n|---|");
        for (i = 0; i < m.n_parts; i++)
            buf_adds(b, "---|");
        for (int64_t l = 0; l < m.layers; l++) {
            buf_addf(b, "\n| %lld |", (long long)l);
            for (i = 0; i < m.n_parts; i++)
                markdown_cell(b, &m, m.cells[(size_t)l * m.n_parts + i]);
        }
        buf_adds(b, "\n");
        json_array_foreach(m.groups, i, g)
        {
            char value[CELL_TEXT];
            if (layer_of(g) >= 0)
                continue;
            buf_adds(b, "\n- ");
            markdown_text(b, json_opt_str(g, "part", "?"));
            buf_addf(b, ": %s ", value_text(&m, g, value));
            markdown_text(b, json_opt_str(g, "type", "-"));
        }
        buf_adds(b, "\n");
    }
    xfree(m.cells);
}
