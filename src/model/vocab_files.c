/* vocab.json and merges.txt, as older byte-level models have them, as a tokenizer.json.
 *
 * The two files say nothing of splitting; the tokenizer's class does (convert_slow_tokenizer.py of
 * transformers 4.57): GPT-2's, which is also the default, RoBERTa's or Qwen 2's. Lines of
 * merges.txt are "left right"; the first may be a comment with a version. */
#include "model/vocab_int.h"

#include <string.h>

#include "base/banned.h"

static const struct files_class {
    const char *names, *special, *steps;
} classes[] = {
    {"GPT2Tokenizer GPT2TokenizerFast", "<|endoftext|>",
     "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}"},
    {"RobertaTokenizer RobertaTokenizerFast", "<s> <pad> </s> <unk> <mask>",
     "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"post_processor\":"
     "{\"type\":\"RobertaProcessing\",\"cls\":[\"<s>\",0],\"sep\":[\"</s>\",2]}}"},
    {"Qwen2Tokenizer Qwen2TokenizerFast", "<|endoftext|>",
     "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\","
     "\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\",\"invert\":false,"
     "\"pattern\":{\"Regex\":"
     "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}|"
     " ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}},"
     "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}}"},
};

static const struct files_class *find_class(const struct vocab *v, struct err *e)
{
    const char *name = json_opt_str(v->config, "tokenizer_class", "GPT2Tokenizer");
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (vocab_has_word(classes[i].names, name))
            return &classes[i];
    err_set(e, ERR_UNSUPPORTED,
            "save the tokenizer with transformers once (AutoTokenizer, save_pretrained), which "
            "writes tokenizer.json",
            "%s has vocab.json and merges.txt but no tokenizer.json, and how a %.60s splits text "
            "is not known",
            v->m->path, name);
    return NULL;
}

static int read_merges(const char *path, json_t **list, struct err *e)
{
    char *data = NULL, *rest = NULL;
    size_t n = 0, number = 0;
    int failed = fs_read_all(path, MODEL_TOKENIZER_BYTES_MAX, &data, &n, e);
    *list = json_array();
    if (!failed && memchr(data, '\0', n))
        failed = err_set(e, ERR_INPUT, "fetch the file again", "%s is not a text file", path);
    for (char *line = failed ? NULL : strtok_r(data, "\n", &rest); line && !failed;
         line = strtok_r(NULL, "\n", &rest)) {
        size_t len = strcspn(line, "\r");
        number++;
        if (len == 0 || (number == 1 && line[0] == '#'))
            continue;
        json_t *text = json_stringn(line, len);
        if (!text)
            failed = err_set(e, ERR_INPUT, "fetch the file again",
                             "%s: the merge at line %zu is not UTF-8", path, number);
        else
            json_array_append_new(*list, text);
    }
    xfree(data);
    return failed;
}

/* {"id": 50256, "content": "<|endoftext|>", "special": true} for those that the vocabulary has. */
static json_t *added_new(const json_t *vocab, const char *special)
{
    json_t *list = json_array();
    for (const char *at = special; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        char *text = xstrndup(at, n);
        const json_t *id = json_object_get(vocab, text);
        if (json_is_integer(id))
            json_array_append_new(list, json_pack("{s:I,s:s,s:b}", "id", json_integer_value(id),
                                                  "content", text, "special", 1));
        xfree(text);
        at += n;
    }
    return list;
}

int vocab_join_files(struct vocab *v, struct err *e)
{
    char *path = fs_join(v->m->path, "merges.txt");
    json_t *vocab = NULL, *merges = NULL;
    const struct files_class *class = NULL;
    int failed = 0;
    if (fs_exists(path)) {
        failed = folder_read_json(v->m, "vocab.json", MODEL_TOKENIZER_BYTES_MAX, false, &vocab, e);
        if (vocab)
            failed = !(class = find_class(v, e)) || read_merges(path, &merges, e);
    }
    if (!failed && class) {
        v->doc = json_parse(class->steps, strlen(class->steps), "steps of a tokenizer", e);
        v->where = arena_strdup(&v->m->arena, path);
        json_object_set_new(v->doc, "added_tokens", added_new(vocab, class->special));
        json_object_set_new(
            v->doc, "model",
            json_pack("{s:s,s:O,s:O}", "type", "BPE", "vocab", vocab, "merges", merges));
    }
    json_decref(vocab);
    json_decref(merges);
    xfree(path);
    return failed ? -1 : 0;
}
