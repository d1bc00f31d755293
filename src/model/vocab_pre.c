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
 * tests/interop/test_tokenizers.py. */
#include "model/vocab_int.h"

#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/banned.h"

/* Pieces that the expressions of many models share. */
#define CONTRACTIONS    "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORD            "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SYMBOLS         " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define SPACES          "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CL100K(numbers) CONTRACTIONS "|" WORD "|" numbers "|" SYMBOLS "|" SPACES
/* Words by case, as in Tekken and GPT-4o: `tail` follows each of the two kinds of word. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(tail, numbers)                                                                       \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" tail "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER    \
    "*" tail "|" numbers "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES
#define O200K CASED(CONTRACTIONS "?", "\\p{N}{1,3}")
/* DeepSeek V3 and those after it. */
#define ASCII_MARKS "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
#define DEEPSEEK_WORDS                                                                             \
    ASCII_MARKS "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+"
#define DEEPSEEK3                                                                                  \
    "split \\p{N}{1,3} > split [一-龥぀-ゟ゠-ヿ]+ > split " DEEPSEEK_WORDS "[\\r\\n]*|" SPACES
#define DEEPSEEK_CJK "[一-龥ࠀ-一가-퟿]+"
#define AFMOE_SCRIPTS                                                                              \
    "[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+"
#define BLOOM     " ?[^(\\s|[.,!?…。，、।۔،])]+"
#define HAN_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
#define HAN_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
#define KIMI                                                                                       \
    "[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?" HAN_UPPER "*" HAN_LOWER "+" CONTRACTIONS                  \
    "?|[^\\r\\n\\p{L}\\p{N}]?" HAN_UPPER "+" HAN_LOWER "*" CONTRACTIONS "?|\\p{N}{1,3}|" SYMBOLS   \
    "|" SPACES
#define RUN(n) "\\s{" n "}(?!\\S)|"

enum merges_rule { MERGES_ALWAYS, MERGES_IGNORED, MERGES_ANY };

/* The first row that fits counts. Rows with architectures come before the one for all others: they
 * split the same and differ in how libllama puts spaces back or which special ids it assumes. */
struct pre_row {
    const char *steps; /* joined by " > "; \1 stands for the rest of a step */
    enum merges_rule merges;
    const char *name;
    const char *archs; /* names in config.json, separated by spaces; NULL: any */
};

#define ROBERTA_ARCHS "RobertaModel RobertaForMaskedLM RobertaForSequenceClassification"
#define GLM_ARCHS     "ChatGLMModel GlmForCausalLM Glm4ForCausalLM Glm4MoeForCausalLM"
#define GRANITE_ARCHS "GraniteForCausalLM GraniteMoeForCausalLM GPTRefactForCausalLM"

/* clang-format off */
static const struct pre_row pre_rows[] = {
    {"bytes by gpt2", MERGES_ALWAYS, "phi-2", "PhiForCausalLM"},
    {"bytes by gpt2", MERGES_ALWAYS, "mpt", "MPTForCausalLM"},
    {"bytes by gpt2", MERGES_ALWAYS, "olmo", "OlmoForCausalLM"},
    {"bytes by gpt2", MERGES_ALWAYS, "jais", "JAISLMHeadModel"},
    {"bytes by gpt2", MERGES_ALWAYS, "exaone4", "Exaone4ForCausalLM"},
    {"bytes by gpt2", MERGES_ALWAYS, "modern-bert", "ModernBertModel"},
    {"bytes by gpt2", MERGES_ALWAYS, "roberta-bpe", ROBERTA_ARCHS},
    {"bytes by gpt2", MERGES_ALWAYS, "gpt-2", NULL},
    {"digits one by one > bytes by gpt2", MERGES_ALWAYS, "starcoder",
     "Starcoder2ForCausalLM GPTBigCodeForCausalLM"},
    {"digits one by one > bytes by gpt2", MERGES_ALWAYS, "command-r",
     "CohereForCausalLM Cohere2ForCausalLM"},
    {"digits one by one > bytes by gpt2", MERGES_ALWAYS, "refact", GRANITE_ARCHS},
    {"digits one by one > bytes by gpt2", MERGES_ALWAYS, "exaone", "ExaoneForCausalLM"},
    {"digits one by one > bytes by gpt2", MERGES_ALWAYS, "codeshell", "CodeShellForCausalLM"},
    {"digits one by one > bytes by gpt2", MERGES_ALWAYS, "smollm", NULL},
    {"split " CL100K("\\p{N}{1,3}") " > bytes", MERGES_ANY, "glm4", GLM_ARCHS},
    {"split " CL100K("\\p{N}{1,3}") " > bytes", MERGES_IGNORED, "falcon-h1", "FalconH1ForCausalLM"},
    {"split " CL100K("\\p{N}{1,3}") " > bytes", MERGES_IGNORED, "lfm2",
     "Lfm2ForCausalLM Lfm2MoeForCausalLM"},
    {"split " CL100K("\\p{N}{1,3}") " > bytes", MERGES_IGNORED, "llama-bpe", NULL},
    {"split " CL100K("\\p{N}{1,3}") " > bytes", MERGES_ALWAYS, "dbrx", "DbrxForCausalLM"},
    {"split " CL100K("\\p{N}{1,3}") " > bytes", MERGES_ALWAYS, "smaug-bpe", NULL},
    {"split " CL100K("\\p{N}") " > bytes", MERGES_ALWAYS, "stablelm2", "StableLmForCausalLM"},
    {"split " CL100K("\\p{N}") " > bytes", MERGES_ALWAYS, "hunyuan", "HunYuanMoEV1ForCausalLM"},
    {"split " CL100K("\\p{N}") " > bytes", MERGES_ALWAYS, "grok-2", "Grok1ForCausalLM"},
    {"split " CL100K("\\p{N}") " > bytes", MERGES_ALWAYS, "solar-open", "SolarOpenForCausalLM"},
    {"split " CL100K("\\p{N}") " > bytes", MERGES_ALWAYS, "qwen2", NULL},
    {"split " CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|"
     " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES " > bytes", MERGES_ALWAYS, "qwen35", NULL},
    {"split " CASED("", "\\p{N}") " > bytes", MERGES_ANY, "tekken", NULL},
    {"split " O200K " > bytes", MERGES_ANY, "llama4",
     "Llama4ForCausalLM Llama4ForConditionalGeneration"},
    {"split " O200K " > bytes", MERGES_ANY, "minimax-m2", "MiniMaxM2ForCausalLM"},
    {"split " O200K " > bytes", MERGES_IGNORED, "granite-embed-multi-97m", "ModernBertModel"},
    {"split " O200K " > bytes", MERGES_ANY, "gpt-4o", NULL},
    {"split \\d{1,3}(?=(?:\\d{3})*\\b) > split " O200K " > bytes", MERGES_ALWAYS, "tiny_aya", NULL},
    {"Punctuation in runs > bytes by gpt2 > digits in runs > split [0-9][0-9][0-9]", MERGES_ALWAYS,
     "falcon", NULL},
    {"split [\\r\\n] > split \\s?[A-Za-zµÀ-Ö\1 > split \\s?[!-/:-~！-／：-～‘-‟　-。]+ > split \\s+$"
     " > split " DEEPSEEK_CJK " > digits one by one > bytes", MERGES_ALWAYS, "deepseek-llm", NULL},
    {"split [\\r\\n] > split \\s?\\p{L}+ > split \\s?\\p{P}+ > split " DEEPSEEK_CJK
     " > digits one by one > bytes", MERGES_ALWAYS, "deepseek-coder", NULL},
    {DEEPSEEK3 " > bytes", MERGES_ALWAYS, "hunyuan-dense", "HunYuanDenseV1ForCausalLM"},
    {DEEPSEEK3 " > bytes", MERGES_ALWAYS, "deepseek-v3", NULL},
    {"split \\p{N}{1,3} > split [一-龥぀-ゟ゠-ヿ]+ > split " DEEPSEEK_WORDS
     "|[\\r\\n]|\\s+(?!\\S)|\\s+ > split \\p{N} > bytes", MERGES_ALWAYS, "spark2_5", NULL},
    {"split [가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+ > split "
     CASED(CONTRACTIONS "?", "\\p{N}") " > bytes", MERGES_IGNORED, "youtu", NULL},
    {"split " BLOOM " > bytes", MERGES_ALWAYS, "bloom", NULL},
    {"split " BLOOM " > digits one by one > bytes", MERGES_ALWAYS, "viking", NULL},
    {"digits one by one > split " BLOOM " > bytes", MERGES_ALWAYS, "viking", NULL},
    {"split <sentinel:[0-9]+> > split (IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z > split"
     " ([\\t\\n]|    |  ) > digits one by one > Punctuation > bytes by gpt2", MERGES_ALWAYS,
     "chameleon", NULL},
    {"split " KIMI " > bytes", MERGES_ANY, "kimi-k2", NULL},
    {"split \\p{N}+ > split (?=(\\d{3})+(?!\\d)) > bytes", MERGES_ALWAYS, "superbpe", NULL},
    {"split \\p{N}+ > split (?=(\\d{3})+(?!\\d)) > split " AFMOE_SCRIPTS " > split " DEEPSEEK_WORDS
     "[\\r\\n]*|" SPACES " > bytes", MERGES_ALWAYS, "afmoe", NULL},
    {"split '(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++"
     "[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+ > bytes", MERGES_ALWAYS, "bailingmoe", NULL},
    {"split " CONTRACTIONS "|" WORD "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES " > bytes",
     MERGES_ALWAYS, "seed-coder", NULL},
    {"split " WORD "|\\p{N}|" SYMBOLS "|" SPACES " > bytes", MERGES_ALWAYS, "ufakzeka", NULL},
    {"split [^\\n]+|[\\n]+ > split " CL100K("\\p{N}") " > bytes", MERGES_ALWAYS, "laguna", NULL},
    {"split " CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}|"
     " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+ > bytes", MERGES_ALWAYS,
     "exaone-moe", NULL},
    {"split \\p{N}{1,3} > split " CL100K("\\p{N}+") " > bytes", MERGES_IGNORED, "minicpm5", NULL},
    {"split " CONTRACTIONS "|" WORD "|\\p{N}{1,3}|" SYMBOLS "|\\s*[\\r\\n]+|" RUN("512") RUN("256")
     RUN("128") RUN("64") RUN("32") RUN("16") RUN("8") RUN("4") RUN("1,2") "\\s{1} > bytes",
     MERGES_ALWAYS, "jais-2", NULL},
    /* No bytes: merges of characters inside words, of which none cross punctuation either way. */
    {"Whitespace", MERGES_ALWAYS, VOCAB_WHITESPACE, NULL},
    {"WhitespaceSplit", MERGES_ALWAYS, VOCAB_WHITESPACE, NULL},
};
/* clang-format on */

/* Control characters as regular expressions spell them: files have them either way. */
static void add_pattern(struct buf *b, const char *text)
{
    for (; *text; text++) {
        if (*text == '\r')
            buf_adds(b, "\\r");
        else if (*text == '\n')
            buf_adds(b, "\\n");
        else if (*text == '\t')
            buf_adds(b, "\\t");
        else
            buf_addc(b, *text);
    }
}

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
    add_pattern(b, regex ? regex : json_opt_str(pattern, "String", "by no pattern"));
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
    } else if (strcmp(type, "Punctuation") == 0) {
        const char *behavior = json_opt_str(step, "behavior", "Isolated");
        buf_adds(b, type);
        if (strcmp(behavior, "Isolated") != 0)
            buf_addf(b, " %s", strcmp(behavior, "Contiguous") == 0 ? "in runs" : behavior);
    } else {
        buf_adds(b, type);
    }
}

static bool same_steps(const char *row, const char *steps)
{
    const char *rest = strchr(row, '\1');
    if (!rest)
        return strcmp(row, steps) == 0;
    size_t head = (size_t)(rest - row);
    const char *next = strncmp(row, steps, head) == 0 ? strstr(steps + head, " > ") : NULL;
    return next && strcmp(rest + 1, next) == 0;
}

const char *vocab_architecture(const struct vocab *v)
{
    const json_t *list = json_object_get(v->model_config, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    return name ? name : "";
}

bool vocab_has_word(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = words; (at = strstr(at, word)) != NULL; at += n)
        if ((at == words || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
            return true;
    return false;
}

static bool row_fits(const struct pre_row *r, const char *steps, bool ignored, const char *arch)
{
    return (r->merges == MERGES_ANY || (r->merges == MERGES_IGNORED) == ignored) &&
           (!r->archs || vocab_has_word(r->archs, arch)) && same_steps(r->steps, steps);
}

static bool has_bytes(const json_t *step, int depth)
{
    const json_t *list = json_object_get(step, "pretokenizers");
    for (size_t i = 0; i < json_array_size(list) && depth < 4; i++)
        if (has_bytes(json_array_get(list, i), depth + 1))
            return true;
    return strcmp(json_opt_str(step, "type", ""), "ByteLevel") == 0;
}

bool vocab_pre_is_bytes(const struct vocab *v)
{
    return has_bytes(json_object_get(v->doc, "pre_tokenizer"), 0);
}

/* Normalization that libllama does not have would change tokens; NFC it lacks too, but text is NFC
 * almost always and Qwen's models are converted so everywhere. Lower case it has for words alone.
 */
static int check_normalizer(const struct vocab *v, const json_t *normalizer, bool words,
                            struct err *e)
{
    const char *type = json_opt_str(normalizer, "type", "none");
    const json_t *list = json_object_get(normalizer, "normalizers");
    if (!json_is_object(normalizer) || strcmp(type, "NFC") == 0 ||
        (words && strcmp(type, "Lowercase") == 0))
        return 0;
    if (strcmp(type, "Sequence") != 0)
        return err_set(e, ERR_UNSUPPORTED, "a byte-level tokenizer may have no normalizer, or NFC",
                       "%s: libllama has no normalizer like \"%.60s\"", v->where, type);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (check_normalizer(v, json_array_get(list, i), words, e))
            return -1;
    return 0;
}

const char *vocab_pre_find(const struct vocab *v, struct err *e)
{
    bool ignored = json_opt_bool(v->bpe, "ignore_merges", false);
    const char *name = NULL;
    struct buf steps;
    buf_init(&steps, 65536);
    describe_step(json_object_get(v->doc, "pre_tokenizer"), &steps, 0);
    for (size_t i = 0; i < sizeof pre_rows / sizeof *pre_rows && !name; i++)
        if (row_fits(&pre_rows[i], buf_str(&steps), ignored, vocab_architecture(v)))
            name = pre_rows[i].name;
    bool words = name && strcmp(name, VOCAB_WHITESPACE) == 0;
    if (check_normalizer(v, json_object_get(v->doc, "normalizer"), words, e))
        name = NULL;
    else if (!name)
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

/* Gemma splits at spaces, of which the normalizer left none. */
static bool splits_nothing(const json_t *pre)
{
    return !json_is_object(pre) ||
           (strcmp(json_opt_str(pre, "type", ""), "Split") == 0 &&
            strcmp(json_opt_str(json_object_get(pre, "pattern"), "String", ""), " ") == 0);
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
    if (splits_nothing(pre) && by_normalizer(normalizer, prefix))
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
