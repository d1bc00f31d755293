/* Token ids as libllama makes them.
 *
 *   tokenize GGUF [--add-special] [--no-parse-special] < texts    prints a line of ids for each
 *   tokenize                                                      tests itself on the sample model
 *
 * The first form serves tests/interop; the second converts the sample with $SINTRA and checks that
 * text survives tokenizing and detokenizing, and that BOS comes first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "llama.h"

static void quiet(enum ggml_log_level level, const char *text, void *ud)
{
    (void)ud;
    if (level == GGML_LOG_LEVEL_ERROR)
        fputs(text, stderr);
}

static struct llama_model *load(const char *path)
{
    llama_log_set(quiet, NULL);
    struct llama_model_params p = llama_model_default_params();
    p.vocab_only = true;
    struct llama_model *m = llama_model_load_from_file(path, p);
    if (!m) {
        fprintf(stderr, "tokenize: libllama cannot load %s\n", path);
        exit(1);
    }
    return m;
}

static int32_t tokenize(const struct llama_model *m, const char *text, size_t n, bool add,
                        bool parse, llama_token **ids)
{
    int32_t room = (int32_t)n + 16;
    *ids = xcalloc((size_t)room, sizeof **ids);
    int32_t k = llama_tokenize(llama_model_get_vocab(m), text, (int32_t)n, *ids, room, add, parse);
    if (k < 0) {
        fprintf(stderr, "tokenize: libllama wants room for %d tokens\n", -k);
        exit(1);
    }
    return k;
}

/* Texts are separated by NUL; each gives a line. */
static int print_ids(int argc, char **argv)
{
    bool add = false, parse = true;
    const size_t room = 64u << 20;
    for (int i = 2; i < argc; i++) {
        add |= strcmp(argv[i], "--add-special") == 0;
        parse &= strcmp(argv[i], "--no-parse-special") != 0;
    }
    struct llama_model *m = load(argv[1]);
    char *text = big_alloc(room, "the text", NULL);
    size_t n = text ? fread(text, 1, room - 1, stdin) : 0;
    for (size_t at = 0; at <= n;) {
        size_t len = strnlen(text + at, n - at);
        llama_token *ids;
        int32_t k = tokenize(m, text + at, len, add, parse, &ids);
        for (int32_t i = 0; i < k; i++)
            printf("%s%d", i ? " " : "", ids[i]);
        printf("\n");
        xfree(ids);
        at += len + 1;
    }
    big_free(text, room);
    llama_model_free(m);
    return 0;
}

/* ---- the test of itself
 * ------------------------------------------------------------------------- */

/* `sintra convert`, the program that the rest of the suite tests. */
static int write_sample(const char *folder, const char *out)
{
    const char *program = getenv("SINTRA");
    pid_t pid = fork();
    int status = 1;
    if (pid == 0) {
        dup2(STDERR_FILENO, STDOUT_FILENO);
        execl(program ? program : "./sintra", "sintra", "convert", folder, "-o", out, "--type",
              "BF16", (char *)NULL);
        _exit(127);
    }
    return pid < 0 || waitpid(pid, &status, 0) != pid || status != 0;
}

static int check_round_trip(const struct llama_model *m, const char *text)
{
    const struct llama_vocab *v = llama_model_get_vocab(m);
    char back[1024];
    llama_token *ids;
    int32_t k = tokenize(m, text, strlen(text), true, true, &ids);
    int32_t n = llama_detokenize(v, ids + 1, k - 1, back, sizeof back, false, true);
    int failed = k < 2 || ids[0] != llama_vocab_bos(v) || n != (int32_t)strlen(text) ||
                 memcmp(back, text, (size_t)n) != 0;
    if (failed)
        printf("FAIL: %d tokens, text came back as \"%.*s\"\n", k, n > 0 ? n : 0, back);
    xfree(ids);
    return failed;
}

static int self_test(void)
{
    const char *root = getenv("SINTRA_ROOT"), *tmp = getenv("TMPDIR");
    char *folder = xasprintf("%s/models/sample", root ? root : "."), *dir;
    char *out = xasprintf("%s/tokenize-XXXXXX", tmp ? tmp : "/tmp");
    dir = mkdtemp(out);
    char *path = fs_join(dir, "sample.gguf");
    if (write_sample(folder, path)) {
        printf("FAIL: sintra convert did not write %s\n0 passed, 1 failed\n", path);
        return 1;
    }
    static const char *const texts[] = {
        "It was a dark and stormy night.", "\n\n  two   spaces\tand a tab  ",
        "Gr\xc3\xb6\xc3\x9f"
        "e, \xd1\x82\xd0\xb5\xd1\x81\xd1\x82, \xe4\xb8\xad\xe6\x96\x87, \xf0\x9f\xa6\x99 3.14159"};
    struct llama_model *m = load(path);
    int failed = 0, all = (int)(sizeof texts / sizeof *texts);
    for (int i = 0; i < all; i++)
        failed += check_round_trip(m, texts[i]);
    llama_model_free(m);
    fs_remove_tree(dir, NULL);
    xfree(path);
    xfree(folder);
    xfree(out);
    printf("%d passed, %d failed\n", all - failed, failed);
    return failed > 0;
}

int main(int argc, char **argv)
{
    return argc > 1 ? print_ids(argc, argv) : self_test();
}
