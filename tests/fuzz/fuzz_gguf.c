/* The GGUF reader and validator: no input may crash it, and what it accepts can be written again
 * and is accepted again, with the same values and tensors. */
#include "fuzz_int.h"

#include "format/gguf.h"

static volatile uint64_t sink;

/* Touches all that a user of the reader would touch. */
static void use(const struct gguf *g)
{
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        const uint8_t *p = gguf_tensor_data(g, t);
        sink += p[0] + p[t->bytes - 1] + (gguf_find(g, t->name) == t);
    }
    for (size_t i = 0; i < g->kvs.n; i++) {
        const struct gguf_kv *kv = &g->kvs.items[i];
        uint64_t u = 0;
        sink += gguf_get_u64(&g->kvs, kv->key, &u) + u;
        for (uint64_t j = 0; kv->type == GGUF_ARRAY && kv->element == GGUF_STR && j < kv->count;
             j++)
            sink += kv->strs[j].len ? (uint64_t)kv->strs[j].data[kv->strs[j].len - 1] : 0;
        if (kv->type == GGUF_ARRAY && kv->element != GGUF_STR && kv->count > 0)
            sink += ((const uint8_t *)kv->raw)[kv->count * gguf_type_bytes(kv->element) - 1];
        if (kv->type == GGUF_STR)
            sink += strlen(kv->str.data) == kv->str.len;
    }
}

/* A plan of the same file must be possible, and be no larger than headers can be. */
static void plan_again(const struct gguf *g)
{
    struct gguf_kvs kvs = {0};
    struct gguf_writer_tensor *t = calloc(g->n_tensors + 1, sizeof *t);
    uint64_t total = 0;
    for (size_t i = 0; i < g->kvs.n; i++)
        gguf_set_copy(&kvs, &g->kvs.items[i]);
    for (size_t i = 0; i < g->n_tensors; i++)
        t[i] = (struct gguf_writer_tensor){
            .name = g->tensors[i].name, .dtype = g->tensors[i].dtype, .shape = g->tensors[i].shape};
    if (gguf_plan(&kvs, t, g->n_tensors, &total, NULL))
        abort();
    for (size_t i = 0; i < g->n_tensors; i++) {
        if (t[i].bytes != g->tensors[i].bytes || t[i].offset + t[i].bytes > total)
            abort();
    }
    free(t);
    gguf_kvs_release(&kvs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gguf g;
    struct err e = {0};
    const char *path = fuzz_file(data, n);
    if (gguf_open(&g, path, GGUF_CHECK_CONTAINER, &e) == 0) {
        use(&g);
        plan_again(&g);
        gguf_close(&g);
    } else if (e.code == ERR_NONE || e.message[0] == '\0') {
        abort(); /* a refusal says why */
    }
    if (gguf_open(&g, path, GGUF_CHECK_MODEL, NULL) == 0)
        gguf_close(&g);
    return 0;
}

static struct forge f;

static void seed_values(const char *folder)
{
    forge_gguf(&f, 3, 0, 0);
    for (uint32_t type = 0; type <= 12; type++) {
        char key[] = {'k', (char)('a' + (int)type), '\0'};
        if (type == 8 || type == 9)
            continue;
        forge_kv(&f, key, type);
        forge_u64(&f, 0);
        f.n -= 8 - (size_t[]){1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}[type];
    }
    forge_kv_str(&f, "s", "text");
    forge_kv_strs(&f, "ss", (const char *const[]){"a", "", "b c"}, 3);
    forge_kv_array(&f, "fs", 6, 2);
    forge_u64(&f, 0);
    forge_kv_u32(&f, "general.alignment", 64);
    forge_tensor(&f, "t", 2, (uint64_t[]){32, 2}, 2, 0);
    forge_tensor(&f, "u", 4, (uint64_t[]){1, 2, 1, 2}, 0, 64);
    forge_counts(&f);
    forge_pad(&f, 64);
    forge_fill(&f, 128, 1);
    fuzz_seed(folder, "values", &f);
}

static void seed_model(const char *folder, const char *arch)
{
    static const char *const names[] = {"block_count",          "context_length",
                                        "embedding_length",     "feed_forward_length",
                                        "attention.head_count", "attention.head_count_kv",
                                        "rope.dimension_count", "expert_count"};
    static const uint32_t values[] = {1, 64, 8, 16, 4, 2, 2, 0};
    char key[64];
    forge_gguf(&f, 3, 0, 0);
    forge_kv_str(&f, "general.architecture", arch);
    for (int i = 0; i < 8; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, names[i]);
        forge_kv_u32(&f, key, values[i]);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    forge_kv_f32(&f, key, 1e-5f);
    forge_kv_strs(&f, "tokenizer.ggml.tokens", (const char *const[]){"<s>", "<0x41>"}, 2);
    forge_kv_array(&f, "tokenizer.ggml.token_type", 5, 2);
    forge_u32(&f, 3);
    forge_u32(&f, 6);
    forge_kv_array(&f, "tokenizer.ggml.scores", 6, 2);
    forge_u64(&f, 0);
    forge_kv_strs(&f, "tokenizer.ggml.merges", (const char *const[]){"a b"}, 1);
    forge_kv_u32(&f, "tokenizer.ggml.bos_token_id", 0);
    forge_tensor(&f, "token_embd.weight", 2, (uint64_t[]){8, 2}, 0, 0);
    forge_tensor(&f, "blk.0.attn_q.weight", 2, (uint64_t[]){8, 8}, 1, 64);
    forge_counts(&f);
    forge_pad(&f, 32);
    forge_fill(&f, 64 + 128, 0);
    fuzz_seed(folder, arch, &f);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *folder = fuzz_empty_corpus(*argc, *argv);
    if (folder) {
        forge_gguf(&f, 3, 0, 0);
        fuzz_seed(folder, "empty", &f);
        seed_values(folder);
        seed_model(folder, "llama");
        seed_model(folder, "other");
    }
    return 0;
}
