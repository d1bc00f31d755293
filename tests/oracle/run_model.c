/* Does libllama load and run a GGUF? For each file named: load, decode sixteen tokens, and print
 * "NAME ok" or what is wrong. Without arguments it converts the sample with $SINTRA and runs that.
 * tests/interop gives it one small model per architecture. */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "ggml-backend.h"
#include "llama.h"

enum { TOKENS = 16 };

static void quiet(enum ggml_log_level level, const char *text, void *ud)
{
    (void)ud;
    if (level == GGML_LOG_LEVEL_ERROR)
        fputs(text, stderr);
}

/* The CPU backends lie beside libllama. */
static void load_backends(void)
{
    Dl_info where;
    llama_backend_init();
    if (dladdr(dlsym(RTLD_DEFAULT, "llama_version"), &where) && where.dli_fname) {
        char *folder = xasprintf("%.*s", (int)(strrchr(where.dli_fname, '/') - where.dli_fname),
                                 where.dli_fname);
        ggml_backend_load_all_from_path(folder);
        xfree(folder);
    }
}

/* One that attends both ways makes an embedding of each token, or one of the text. */
static const char *encode(struct llama_model *m, struct llama_context *c)
{
    int32_t n = llama_vocab_n_tokens(llama_model_get_vocab(m));
    llama_token tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (llama_token)(i * 7 + 3) % n;
    if (llama_encode(c, llama_batch_get_one(tokens, TOKENS)) != 0)
        return "libllama cannot encode";
    enum llama_pooling_type pooling = llama_pooling_type(c);
    const float *x = pooling == LLAMA_POOLING_TYPE_NONE ? llama_get_embeddings_ith(c, -1)
                                                        : llama_get_embeddings_seq(c, 0);
    int32_t width = pooling == LLAMA_POOLING_TYPE_RANK ? 1 : llama_model_n_embd(m);
    bool differ = width == 1;
    for (int32_t i = 0; x && i < width; i++) {
        if (!isfinite(x[i]))
            return "an element of the embedding is not finite";
        differ |= x[i] != x[0];
    }
    return x && differ ? NULL : "there is no embedding, or all of it is the same";
}

static bool is_encoder(const struct llama_model *m)
{
    char arch[64], key[96], value[16];
    if (llama_model_meta_val_str(m, "general.architecture", arch, sizeof(arch)) < 0)
        return false;
    snprintf(key, sizeof(key), "%s.attention.causal", arch);
    return llama_model_meta_val_str(m, key, value, sizeof(value)) > 0 &&
           strcmp(value, "false") == 0;
}

static const char *decode(struct llama_model *m, struct llama_context *c)
{
    int32_t n = llama_vocab_n_tokens(llama_model_get_vocab(m));
    llama_token tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (llama_token)(i * 7 + 3) % n;
    if (llama_decode(c, llama_batch_get_one(tokens, TOKENS)) != 0)
        return "libllama cannot decode";
    const float *logits = llama_get_logits_ith(c, -1);
    bool differ = false;
    for (int32_t i = 0; logits && i < n; i++) {
        if (!isfinite(logits[i]))
            return "a logit is not finite";
        differ |= logits[i] != logits[0];
    }
    return differ ? NULL : "all logits are the same";
}

static int run(const char *path)
{
    struct llama_model_params mp = llama_model_default_params();
    struct llama_context_params cp = llama_context_default_params();
    mp.n_gpu_layers = 0;
    cp.n_ctx = 64;
    cp.n_threads = cp.n_threads_batch = 1;
    struct llama_model *m = llama_model_load_from_file(path, mp);
    bool encoder = m && is_encoder(m);
    cp.embeddings = encoder;
    struct llama_context *c = m ? llama_init_from_model(m, cp) : NULL;
    const char *wrong = !m        ? "libllama cannot load it"
                        : !c      ? "libllama cannot make a context"
                        : encoder ? encode(m, c)
                                  : decode(m, c);
    printf("%s %s\n", path, wrong ? wrong : "ok");
    fflush(stdout);
    if (c)
        llama_free(c);
    if (m)
        llama_model_free(m);
    return wrong != NULL;
}

static int run_sample(void)
{
    const char *sintra = getenv("SINTRA"), *root = getenv("SINTRA_ROOT");
    char gguf[] = "/tmp/run-model-XXXXXX", *folder;
    int fd = mkstemp(gguf);
    if (fd < 0)
        return 1;
    close(fd);
    folder = xasprintf("%s/models/sample", root ? root : ".");
    pid_t child = fork();
    if (child == 0) {
        execlp(sintra ? sintra : "./sintra", "sintra", "convert", folder, "-o", gguf, "--type",
               "F32", (char *)NULL);
        _exit(127);
    }
    int status = 1;
    waitpid(child, &status, 0);
    xfree(folder);
    int failed = status != 0 || run(gguf);
    unlink(gguf);
    printf("%d passed, %d failed\n", !failed, failed);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    llama_log_set(quiet, NULL);
    load_backends();
    if (argc == 1)
        return run_sample();
    for (int i = 1; i < argc; i++)
        failed |= run(argv[i]);
    return failed;
}
