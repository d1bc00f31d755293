/* What a document says of the KV cache, for people: labels of candidates, how to run the file, and
 * what other types would have cost. Reads the document alone.
 */
#include "run/page_int.h"
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

const char *cache_label(const json_t *candidate, const char *name,
                        char text[static CACHE_LABEL_MAX])
{
    struct cache_types t = {0};
    char types[CACHE_TEXT_MAX];
    const json_t *kv = json_object_get(json_object_get(candidate, "recipe"), "kv");
    if (cache_from_json(&t, kv) && !cache_is_default(t))
        snprintf(text, CACHE_LABEL_MAX, "%.64s, %s KV", name, cache_text(t, types));
    else
        snprintf(text, CACHE_LABEL_MAX, "%.64s", name);
    return text;
}

/* " -ctk q8_0 -ctv q8_0 -fa on", or "". */
const char *cache_options(const json_t *recipe, char text[static CACHE_LABEL_MAX])
{
    struct cache_types t = {0};
    char flags[CACHE_TEXT_MAX];
    cache_from_json(&t, json_object_get(recipe, "kv"));
    cache_flags(t, flags);
    snprintf(text, CACHE_LABEL_MAX, "%s%s", flags[0] ? " " : "", flags);
    return text;
}

const char *cache_ollama_text(const json_t *recipe, char text[static CACHE_SENTENCE_MAX])
{
    struct cache_types t = {0};
    char variables[CACHE_TEXT_MAX];
    cache_from_json(&t, json_object_get(recipe, "kv"));
    const char *known = cache_ollama(t, variables);
    text[0] = 0;
    if (!known)
        snprintf(text, CACHE_SENTENCE_MAX,
                 "Ollama has no KV cache of these types; with its own, memory and quality differ "
                 "from what is said here.");
    else if (known[0])
        snprintf(text, CACHE_SENTENCE_MAX,
                 "Ollama takes the types of the KV cache from its server: start it with "
                 "%s ollama serve.",
                 known);
    return text;
}

/* ---- what was chosen ---- */

static const char *types_text(const json_t *o, char text[static CACHE_TEXT_MAX])
{
    struct cache_types t = {0};
    cache_from_json(&t, o);
    return cache_text(t, text);
}

/* How far the context may grow. "" where it is not known. */
static void longest_text(const json_t *cache, char text[static CACHE_SENTENCE_MAX])
{
    long long longest = (long long)json_opt_i64(cache, "longest_context", 0);
    bool all = longest >= (long long)json_opt_i64(cache, "context_most", 0);
    text[0] = 0;
    if (longest > 0)
        snprintf(text, CACHE_SENTENCE_MAX,
                 all ? " Contexts of up to %lld tokens fit into the memory that was asked for; "
                       "longer ones were not looked at."
                     : " Contexts of up to %lld tokens fit into the memory that was asked for.",
                 longest);
}

void cache_sentence(const json_t *report, char text[static CACHE_SENTENCE_MAX])
{
    const json_t *cache = json_object_get(report, "cache");
    char types[CACHE_TEXT_MAX], per[NUM_TEXT_MAX], longest[CACHE_SENTENCE_MAX];
    longest_text(cache, longest);
    snprintf(text, CACHE_SENTENCE_MAX,
             "The file was measured with a KV cache of %s%s: %s per token of context.%s",
             types_text(cache, types), json_opt_bool(cache, "fixed", false) ? ", as asked" : "",
             num_format_size((uint64_t)json_opt_i64(cache, "bytes_per_token", 0), per), longest);
}

bool cache_is_told(const json_t *report)
{
    const json_t *cache = json_object_get(report, "cache");
    return json_array_size(json_object_get(cache, "choices")) > 1 ||
           json_opt_str(cache, "flags", "")[0] || json_opt_i64(cache, "longest_context", 0) > 0;
}

/* One choice in four cells: its types, bytes, room for the file, KL alone, KL of the best. */
static void row_cells(const json_t *c, char cells[static 5][NUM_TEXT_MAX])
{
    char types[CACHE_TEXT_MAX];
    double kld = json_opt_real(c, "kld", NAN), whole = json_opt_real(c, "kld_predicted", NAN);
    int64_t room = json_opt_i64(c, "bytes_max", 0);
    snprintf(cells[0], NUM_TEXT_MAX, "%.31s", types_text(c, types));
    num_format_size((uint64_t)json_opt_i64(c, "kv_bytes", 0), cells[1]);
    snprintf(cells[2], NUM_TEXT_MAX, "too little");
    if (room > 0)
        num_format_size((uint64_t)room, cells[2]);
    page_kld(kld, cells[3]);
    page_kld(whole, cells[4]);
}

static bool has_rows(const json_t *report)
{
    const json_t *cache = json_object_get(report, "cache");
    return json_array_size(json_object_get(cache, "choices")) > 1;
}

void markdown_cache(struct buf *b, const json_t *report)
{
    const json_t *cache = json_object_get(report, "cache"), *c;
    char text[CACHE_SENTENCE_MAX], cells[5][NUM_TEXT_MAX];
    size_t i;
    if (!cache_is_told(report))
        return;
    cache_sentence(report, text);
    buf_addf(b, "\n## KV cache\n\n%s\n", text);
    if (!has_rows(report))
        return;
    buf_addf(b,
             "\n| types | at %lld tokens | leaves for the file | KL of the types alone | "
             "best KL, predicted |\n|---|---|---|---|---|\n",
             (long long)json_opt_i64(cache, "context", 0));
    json_array_foreach(json_object_get(cache, "choices"), i, c)
    {
        row_cells(c, cells);
        buf_addf(b, "| %s | %s | %s | %s | %s |\n", cells[0], cells[1], cells[2], cells[3],
                 cells[4]);
    }
}

void page_cache(struct buf *b, const json_t *report)
{
    const json_t *cache = json_object_get(report, "cache"), *c;
    char text[CACHE_SENTENCE_MAX], cells[5][NUM_TEXT_MAX];
    size_t i;
    if (!cache_is_told(report))
        return;
    cache_sentence(report, text);
    buf_addf(b, "<section><h2>KV cache</h2><p>%s</p>", text);
    if (has_rows(report))
        buf_addf(b,
                 "<div class=\"scroll\"><table class=\"list\"><thead><tr><th "
                 "scope=\"col\">types</th><th scope=\"col\">at %lld tokens</th><th "
                 "scope=\"col\">leaves for the file</th><th scope=\"col\">KL of the types "
                 "alone</th><th scope=\"col\">best KL, predicted</th></tr></thead><tbody>\n",
                 (long long)json_opt_i64(cache, "context", 0));
    json_array_foreach(json_object_get(cache, "choices"), i, c)
    {
        bool best = strcmp(json_opt_str(c, "k", ""), json_opt_str(cache, "k", "")) == 0 &&
                    strcmp(json_opt_str(c, "v", ""), json_opt_str(cache, "v", "")) == 0;
        if (!has_rows(report))
            break;
        row_cells(c, cells);
        buf_addf(b, "<tr%s><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n",
                 best ? " class=\"best\"" : "", cells[0], cells[1], cells[2], cells[3], cells[4]);
    }
    buf_adds(b, has_rows(report) ? "</tbody></table></div></section>\n" : "</section>\n");
}
