/* Which of libllama's pre-tokenizers splits text as tokenizer.json says.
 *
 * llama.cpp's converter recognises tokenizers by a hash over the tokens of a test text, so it knows
 * only vocabularies that it has met. We compare the pre-tokenizer itself, step by step, with the
 * regular expressions behind libllama's names (llm_tokenizer_bpe in src/llama-vocab.cpp of
 * llama.cpp 0.5.0, comments "original regex from tokenizer.json"): the same steps split any text
 * the same, whatever the vocabulary. A structure that is not in the table is refused, because a
 * wrong split costs quality without any other sign.
 *
 * To add one: write its steps as describe_step() prints them, the name, and whether the tokenizer
 * takes a whole word that is in the vocabulary without merging (ignore_merges); then a case in
 * tests/interop. */
#include "model/vocab_int.h"

#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/banned.h"

#define LLAMA3_REGEX                                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"                      \
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN2_REGEX                                                                                \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"                           \
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define TEKKEN_REGEX                                                                               \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"   \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"   \
    "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

enum merges_rule { MERGES_ALWAYS, MERGES_IGNORED, MERGES_ANY };

struct pre_row {
    const char *steps; /* joined by " > " */
    enum merges_rule merges;
    const char *name;
};

static const struct pre_row pre_rows[] = {
    {"bytes by gpt2", MERGES_ALWAYS, "gpt-2"},
    {"split " LLAMA3_REGEX " > bytes", MERGES_IGNORED, "llama-bpe"},
    {"split " LLAMA3_REGEX " > bytes", MERGES_ALWAYS, "smaug-bpe"},
    {"split " QWEN2_REGEX " > bytes", MERGES_ALWAYS, "qwen2"},
    {"split " TEKKEN_REGEX " > bytes", MERGES_ANY, "tekken"},
    {"digits one by one > bytes by gpt2", MERGES_ALWAYS, "smollm"},
};

static void describe_split(const json_t *step, struct buf *b)
{
    const json_t *pattern = json_object_get(step, "pattern");
    const char *behavior = json_opt_str(step, "behavior", "none");
    bool invert = json_opt_bool(step, "invert", false);
    const char *regex = json_opt_str(pattern, "Regex", NULL);
    /* Two ways to say that the matches are the pieces. */
    bool pieces = (strcmp(behavior, "Isolated") == 0 && !invert) ||
                  (strcmp(behavior, "Removed") == 0 && invert);
    buf_adds(b, "split ");
    if (!pieces)
        buf_addf(b, "(%s%s) ", behavior, invert ? ", inverted" : "");
    buf_adds(b, regex ? regex : json_opt_str(pattern, "String", "by no pattern"));
}

static void describe_step(const json_t *step, struct buf *b, int depth)
{
    const char *type = json_opt_str(step, "type", "step without type");
    const json_t *list = json_object_get(step, "pretokenizers");
    if (strcmp(type, "Sequence") == 0 && depth < 4) {
        for (size_t i = 0; i < json_array_size(list); i++)
            describe_step(json_array_get(list, i), b, depth + 1);
        return;
    }
    if (b->len)
        buf_adds(b, " > ");
    if (strcmp(type, "ByteLevel") == 0) {
        buf_adds(b,
                 json_opt_bool(step, "add_prefix_space", true) ? "bytes after a space" : "bytes");
        if (json_opt_bool(step, "use_regex", true))
            buf_adds(b, " by gpt2");
    } else if (strcmp(type, "Split") == 0) {
        describe_split(step, b);
    } else if (strcmp(type, "Digits") == 0) {
        bool single = json_opt_bool(step, "individual_digits", false);
        buf_adds(b, single ? "digits one by one" : "digits in runs");
    } else {
        buf_adds(b, type);
    }
}

/* Normalization that libllama does not have would change tokens; NFC it lacks too, but text is NFC
 * almost always and Qwen's models are converted so everywhere. */
static int check_normalizer(const struct vocab *v, const json_t *normalizer, struct err *e)
{
    const char *type = json_opt_str(normalizer, "type", "none");
    const json_t *list = json_object_get(normalizer, "normalizers");
    if (!json_is_object(normalizer) || strcmp(type, "NFC") == 0)
        return 0;
    if (strcmp(type, "Sequence") != 0)
        return err_set(e, ERR_UNSUPPORTED, "a byte-level tokenizer may have no normalizer, or NFC",
                       "%s: libllama has no normalizer like \"%.60s\"", v->where, type);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (check_normalizer(v, json_array_get(list, i), e))
            return -1;
    return 0;
}

const char *vocab_pre_find(const struct vocab *v, struct err *e)
{
    if (check_normalizer(v, json_object_get(v->doc, "normalizer"), e))
        return NULL;
    bool ignored = json_opt_bool(v->bpe, "ignore_merges", false);
    const char *name = NULL;
    struct buf steps;
    buf_init(&steps, 65536);
    describe_step(json_object_get(v->doc, "pre_tokenizer"), &steps, 0);
    for (size_t i = 0; i < sizeof pre_rows / sizeof *pre_rows && !name; i++) {
        const struct pre_row *r = &pre_rows[i];
        bool merges = r->merges == MERGES_ANY || (r->merges == MERGES_IGNORED) == ignored;
        if (merges && strcmp(r->steps, buf_str(&steps)) == 0)
            name = r->name;
    }
    if (!name)
        err_set(
            e, ERR_UNSUPPORTED,
            "convert the folder to GGUF with llama.cpp's converter, if it knows this tokenizer, "
            "and "
            "give that file",
            "%s: no pre-tokenizer of libllama splits text like this one (%.600s%s)", v->where,
            buf_str(&steps), ignored ? "; whole words ignore merges" : "");
    buf_release(&steps);
    return name;
}

/* ---- SentencePiece style
 * ------------------------------------------------------------------------ */

#define SPACE_MARK "\xe2\x96\x81"

static bool is_prepend(const json_t *n)
{
    return strcmp(json_opt_str(n, "type", ""), "Prepend") == 0 &&
           strcmp(json_opt_str(n, "prepend", ""), SPACE_MARK) == 0;
}

static bool is_replace(const json_t *n)
{
    return strcmp(json_opt_str(n, "type", ""), "Replace") == 0 &&
           strcmp(json_opt_str(n, "content", ""), SPACE_MARK) == 0 &&
           strcmp(json_opt_str(json_object_get(n, "pattern"), "String", ""), " ") == 0;
}

/* The older layout: normalizers Prepend ▁ (optional) and Replace " " → ▁, no pre-tokenizer. */
static bool by_normalizer(const json_t *normalizer, bool *prefix)
{
    const json_t *list = json_object_get(normalizer, "normalizers");
    size_t n = json_array_size(list);
    *prefix = n == 2 && is_prepend(json_array_get(list, 0));
    if (is_replace(normalizer))
        return true;
    return n > 0 && n - *prefix == 1 && is_replace(json_array_get(list, n - 1));
}

/* The newer one: pre-tokenizer Metaspace that does not split, no normalizer. */
static bool by_metaspace(const json_t *pre, bool *prefix)
{
    const char *scheme = json_opt_str(pre, "prepend_scheme", "always");
    *prefix = strcmp(scheme, "never") != 0 && json_opt_bool(pre, "add_prefix_space", true);
    return strcmp(json_opt_str(pre, "type", ""), "Metaspace") == 0 &&
           strcmp(json_opt_str(pre, "replacement", ""), SPACE_MARK) == 0 &&
           !json_opt_bool(pre, "split", true);
}

int vocab_space_prefix(const struct vocab *v, bool *prefix, struct err *e)
{
    const json_t *normalizer = json_object_get(v->doc, "normalizer");
    const json_t *pre = json_object_get(v->doc, "pre_tokenizer");
    if (!json_is_object(pre) && by_normalizer(normalizer, prefix))
        return 0;
    if (!json_is_object(normalizer) && by_metaspace(pre, prefix))
        return 0;
    return err_set(
        e, ERR_UNSUPPORTED,
        "supported: normalizers Prepend and Replace, or the Metaspace pre-tokenizer without "
        "splitting, as Llama 2 and Mistral have them",
        "%s: normalizer \"%.40s\" with pre-tokenizer \"%.40s\" is not how libllama's "
        "SentencePiece tokenizer treats spaces",
        v->where, json_opt_str(normalizer, "type", "none"), json_opt_str(pre, "type", "none"));
}
