/* The checks of `make check` that need to read our C as text: lint ROOT FILE...
 *
 * For each file it makes a second copy in which comments and literals are blanked, so that a word
 * in a sentence is never taken for a call, and then looks, line by line, for
 *
 * - layers: #include against the order and the denials of ./LAYERS; libllama's headers,
 *   jansson's header and private headers (*_int.h) outside their places; banned.h not last
 * - banned: calls that are unsafe or belong to one place, printing outside face, exit outside main
 * - length: functions over 100 lines or, in src/, of complexity over 25 (one, and one for each if,
 *   for, while, case, &&, || and ?), files over 1500 lines, lines over 100 columns (120 in tables
 *   laid out by hand)
 * - form: no comment at the head of a file, a typedef'd struct, words of unfinished work
 *
 * It prints "FILE:LINE: CHECK: sentence" for each finding and exits 1 when there is any. FILE is a
 * path below ROOT. All rules hold in src/; in tests/ and bench/ those of length, the head comment
 * and libllama's headers. All memory lives until exit.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MODULES_MAX = 64,
    FUNCTION_LINES = 100,
    FUNCTION_PATHS = 25,
    FILE_LINES = 1500,
    COLUMNS = 100,
    TABLE_COLUMNS = 120,
    NAME_MAX_BYTES = 64
};

static struct {
    char name[NAME_MAX_BYTES];
    int layer;
} modules[MODULES_MAX];
static int module_count;

static struct {
    char from[NAME_MAX_BYTES], to[NAME_MAX_BYTES];
} denials[MODULES_MAX];
static int denial_count;

static int findings;

struct source {
    const char *path; /* below ROOT */
    char *text;       /* as it is */
    char *code;       /* the same bytes, comments and the inside of literals blanked */
    bool in_src;
    char module[NAME_MAX_BYTES]; /* "" outside src/, "main" for src/main.c */
};

__attribute__((format(printf, 4, 5))) static void find(const struct source *s, int line,
                                                       const char *check, const char *format, ...)
{
    va_list args;
    printf("%s:%d: %s: ", s->path, line, check);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    findings++;
}

static void give_up(const char *what, const char *path)
{
    fprintf(stderr, "lint: %s %s: %s\n", what, path, strerror(errno));
    exit(2);
}

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        give_up("cannot open", path);
    size_t used = 0, room = 1 << 16;
    char *text = malloc(room + 1);
    for (size_t n; text && (n = fread(text + used, 1, room - used, f)) > 0;) {
        used += n;
        if (used == room)
            text = realloc(text, (room *= 2) + 1);
    }
    if (!text || ferror(f))
        give_up("cannot read", path);
    text[used] = '\0';
    fclose(f);
    return text;
}

/* ---- the layers ------------------------------------------------------------------------------ */

static void layers_line(char *line, int *layer)
{
    char *save = NULL, *word = strtok_r(line, " \t", &save);
    if (!word || word[0] == '#')
        return;
    if (strcmp(word, "!") == 0) {
        const char *from = strtok_r(NULL, " \t", &save);
        for (word = strtok_r(NULL, " \t", &save); from && word && denial_count < MODULES_MAX;
             word = strtok_r(NULL, " \t", &save), denial_count++) {
            snprintf(denials[denial_count].from, NAME_MAX_BYTES, "%s", from);
            snprintf(denials[denial_count].to, NAME_MAX_BYTES, "%s", word);
        }
        return;
    }
    for (; word && module_count < MODULES_MAX;
         word = strtok_r(NULL, " \t", &save), module_count++) {
        snprintf(modules[module_count].name, NAME_MAX_BYTES, "%s", word);
        modules[module_count].layer = *layer;
    }
    ++*layer;
}

static void layers_read(const char *path)
{
    int layer = 0;
    char *save = NULL;
    for (char *line = strtok_r(read_all(path), "\n", &save); line;
         line = strtok_r(NULL, "\n", &save))
        layers_line(line, &layer);
}

/* -1: no such module; above all for main.c. */
static int layer_of(const char *module)
{
    if (strcmp(module, "main") == 0)
        return MODULES_MAX;
    for (int i = 0; i < module_count; i++)
        if (strcmp(modules[i].name, module) == 0)
            return modules[i].layer;
    return -1;
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

static bool starts_with(const char *s, const char *head)
{
    return strncmp(s, head, strlen(head)) == 0;
}

static void include_of_ours(const struct source *s, int line, const char *what)
{
    char to[NAME_MAX_BYTES];
    const char *slash = strchr(what, '/');
    if (!slash) {
        find(s, line, "layers", "\"%s\" does not name its module; write \"module/file.h\"", what);
        return;
    }
    snprintf(to, sizeof(to), "%.*s", (int)(slash - what), what);
    if (strcmp(to, s->module) == 0)
        return;
    int mine = layer_of(s->module), its = layer_of(to);
    if (its < 0)
        find(s, line, "layers", "\"%s\": LAYERS has no module %s", what, to);
    else if (its > mine)
        find(s, line, "layers", "%s includes \"%s\" of a higher layer", s->module, what);
    else if (its == mine)
        find(s, line, "layers", "%s includes \"%s\" of a sibling", s->module, what);
    else if (ends_with(what, "_int.h") || ends_with(what, "/int.h"))
        find(s, line, "layers", "\"%s\" is private to %s", what, to);
    for (int i = 0; i < denial_count; i++)
        if (strcmp(denials[i].from, s->module) == 0 && strcmp(denials[i].to, to) == 0)
            find(s, line, "layers", "LAYERS denies %s the module %s", s->module, to);
}

/* Its headers are written with quotes as well as with brackets. */
static bool is_llama(const char *what)
{
    return starts_with(what, "llama.") || starts_with(what, "ggml.") ||
           starts_with(what, "ggml-") || strcmp(what, "gguf.h") == 0;
}

static void include_of_others(const struct source *s, int line, const char *what)
{
    if (is_llama(what) && strcmp(s->module, "engine") != 0 &&
        !starts_with(s->path, "tests/oracle/"))
        find(s, line, "layers", "<%s> belongs to src/engine, tests/oracle", what);
    if (starts_with(what, "jansson") && s->in_src && strcmp(s->module, "base") != 0)
        find(s, line, "layers", "<%s> is known to base/json.h alone", what);
}

/* A private header of the same module: a template that is included after banned.h on purpose. */
static bool is_template(const struct source *s, const char *what)
{
    size_t n = strlen(s->module);
    return strncmp(what, s->module, n) == 0 && what[n] == '/' && ends_with(what, "_int.h");
}

static void check_includes(const struct source *s)
{
    bool banned = false;
    int line = 1, last_line = 1;
    for (const char *p = s->text; p; line++) {
        char what[256] = "";
        if (sscanf(p, " # include \"%255[^\"\n]\"", what) == 1 && s->in_src)
            (is_llama(what) ? include_of_others : include_of_ours)(s, line, what);
        else if (sscanf(p, " # include <%255[^>\n]>", what) == 1)
            include_of_others(s, line, what);
        if (what[0] && !(banned && is_template(s, what))) {
            banned = strcmp(what, "base/banned.h") == 0;
            last_line = line;
        }
        p = strchr(p, '\n');
        p = p && p[1] ? p + 1 : NULL;
    }
    if (s->in_src && ends_with(s->path, ".c") && !banned)
        find(s, last_line, "layers", "the last #include is not \"base/banned.h\"");
}

/* ---- calls and words ------------------------------------------------------------------------- */

/* Calls, and the paths where each is at home: prefixes separated by spaces, "" for nowhere. */
static const struct {
    const char *name, *home;
} calls[] = {
    {"strcpy", ""},
    {"strcat", ""},
    {"sprintf", ""},
    {"vsprintf", ""},
    {"gets", ""},
    {"strtok", ""},
    {"strncpy", ""},
    {"strncat", ""},
    {"atoi", ""},
    {"atol", ""},
    {"atoll", ""},
    {"atof", ""},
    {"system", ""},
    {"popen", ""},
    {"tmpnam", ""},
    {"tempnam", ""},
    {"mktemp", ""},
    {"rand", ""},
    {"srand", ""},
    {"random", ""},
    {"drand48", ""},
    {"alloca", ""},
    {"setjmp", ""},
    {"longjmp", ""},
    {"malloc", "src/base/mem.c"},
    {"calloc", "src/base/mem.c"},
    {"realloc", "src/base/mem.c"},
    {"strdup", "src/base/mem.c"},
    {"strndup", "src/base/mem.c"},
    {"asprintf", "src/base/mem.c"},
    {"vasprintf", "src/base/mem.c"},
    {"exit", "src/main.c src/engine/worker"},
    {"printf", "src/face/"},
    {"vprintf", "src/face/"},
    {"puts", "src/face/"},
    {"putchar", "src/face/"},
};

/* Words of work that is not done; the flag asks for exactly this case and a whole word. */
static const struct {
    const char *word;
    bool exact;
} unfinished[] = {
    {"TODO", true},
    {"FIXME", true},
    {"XXX", true},
    {"HACK", true},
    {"stub", false},
    {"placeholder", false},
    {"not implemented", false},
    {"not yet implemented", false},
    {"unimplemented", false},
};

static bool at_home(const char *path, const char *home)
{
    while (*home) {
        size_t n = strcspn(home, " ");
        if (strncmp(path, home, n) == 0)
            return true;
        home += n + (home[n] == ' ');
    }
    return false;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* A call of `name` beginning at p: the whole word, not a member, followed by "(". */
static bool call_at(const char *code, const char *p, const char *name)
{
    size_t n = strlen(name);
    if (strncmp(p, name, n) != 0 || is_word(p[n]) || (p > code && is_word(p[-1])))
        return false;
    if (p > code && (p[-1] == '.' || (p[-1] == '>' && p - 1 > code && p[-2] == '-')))
        return false;
    for (p += n; *p == ' ';)
        p++;
    return *p == '(';
}

static void check_calls(const struct source *s)
{
    int line = 1;
    for (const char *p = s->code; *p; p++) {
        line += *p == '\n';
        if (!islower((unsigned char)*p) || (p > s->code && is_word(p[-1])))
            continue;
        for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
            if (call_at(s->code, p, calls[i].name) && !at_home(s->path, calls[i].home))
                find(s, line, "banned", "%s() is not called here%s%s", calls[i].name,
                     calls[i].home[0] ? "; it is at home in " : "", calls[i].home);
    }
}

static bool word_at(const char *text, const char *p, const char *word, bool exact)
{
    size_t n = strlen(word);
    if (!exact)
        return strncasecmp(p, word, n) == 0;
    return strncmp(p, word, n) == 0 && !is_word(p[n]) && (p == text || !is_word(p[-1]));
}

static void check_words(const struct source *s)
{
    int line = 1;
    for (const char *p = s->text; *p; p++) {
        line += *p == '\n';
        for (size_t i = 0; i < sizeof(unfinished) / sizeof(unfinished[0]); i++)
            if (word_at(s->text, p, unfinished[i].word, unfinished[i].exact))
                find(s, line, "form", "the word \"%s\": do it, or write it down in docs/decisions",
                     unfinished[i].word);
        if (strncmp(p, "typedef struct", 14) == 0)
            find(s, line, "form", "a typedef'd struct; write `struct name`");
    }
}

/* ---- lengths --------------------------------------------------------------------------------- */

/* 1 when a path forks here: if, for, while, case, &&, || and ?. */
static int forks_at(const char *code, const char *p)
{
    static const char *const words[] = {"if", "for", "while", "case"};
    if (*p == '?' || ((*p == '&' || *p == '|') && p[1] == *p))
        return 1;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (word_at(code, p, words[i], true))
            return 1;
    return 0;
}

/* A function body is a brace at depth 0 whose last character before it is ")". */
static void check_functions(const struct source *s)
{
    int depth = 0, line = 1, begin = 0, paths = 0;
    char before = '\0';
    for (const char *p = s->code; *p; p++) {
        paths += forks_at(s->code, p);
        if (*p == '\n') {
            line++;
        } else if (*p == '{') {
            if (depth++ == 0) {
                begin = before == ')' ? line : 0;
                paths = 1;
            }
        } else if (*p == '}' && depth > 0) {
            if (--depth == 0 && begin && line - begin + 1 > FUNCTION_LINES)
                find(s, begin, "length", "a function of %d lines, more than %d", line - begin + 1,
                     FUNCTION_LINES);
            if (depth == 0 && begin && s->in_src && paths > FUNCTION_PATHS)
                find(s, begin, "length", "a function of complexity %d, more than %d", paths,
                     FUNCTION_PATHS);
        }
        if (!isspace((unsigned char)*p))
            before = *p;
    }
}

/* A table that is laid out by hand, between "clang-format off" and "on", may be a little wider. */
static void check_lines(const struct source *s)
{
    int line = 1, columns = 0, limit = COLUMNS;
    for (const char *p = s->text; *p; p++) {
        if (starts_with(p, "clang-format o"))
            limit = starts_with(p, "clang-format off") ? TABLE_COLUMNS : COLUMNS;
        if (*p == '\n') {
            if (columns > limit)
                find(s, line, "length", "%d columns, more than %d", columns, limit);
            line++;
            columns = 0;
        } else {
            columns += ((unsigned char)*p & 0xc0) != 0x80; /* bytes that begin a UTF-8 character */
        }
    }
    if (line - 1 > FILE_LINES)
        find(s, line - 1, "length", "a file of %d lines, more than %d", line - 1, FILE_LINES);
}

static void check_head(const struct source *s)
{
    const char *p = s->text + strspn(s->text, " \t\r\n");
    if (!starts_with(p, "/*") && !starts_with(p, "//"))
        find(s, 1, "form", "no comment at the head that says what the file owns");
}

/* ---- one file -------------------------------------------------------------------------------- */

/* From p at the opening quote to the closing one; blanks what is between. */
static char *blank_literal(char *p)
{
    char quote = *p++;
    for (; *p && *p != quote && *p != '\n'; p++) {
        if (*p == '\\' && p[1] && p[1] != '\n')
            *p++ = ' ';
        *p = ' ';
    }
    return p;
}

static char *blank_comment(char *p)
{
    bool line = p[1] == '/';
    p[0] = p[1] = ' ';
    for (p += 2; *p && !(line ? *p == '\n' : p[0] == '*' && p[1] == '/'); p++)
        if (*p != '\n')
            *p = ' ';
    if (!line && *p) {
        p[0] = p[1] = ' ';
        p++;
    }
    return line ? p - 1 : p;
}

static void blank(char *code)
{
    for (char *p = code; *p; p++) {
        if (*p == '/' && (p[1] == '*' || p[1] == '/'))
            p = blank_comment(p);
        else if (*p == '"' || *p == '\'')
            p = blank_literal(p);
        if (!*p)
            break;
    }
}

static void module_of(struct source *s)
{
    s->in_src = starts_with(s->path, "src/");
    if (!s->in_src)
        return;
    const char *name = s->path + 4, *slash = strchr(name, '/');
    snprintf(s->module, sizeof(s->module), "%.*s", slash ? (int)(slash - name) : 4,
             slash ? name : "main");
    if (layer_of(s->module) < 0)
        find(s, 1, "layers", "LAYERS has no module %s", s->module);
}

static void check_file(const char *root, const char *path)
{
    char full[4096];
    struct source s = {.path = path};
    snprintf(full, sizeof(full), "%s/%s", root, path);
    s.text = read_all(full);
    s.code = strdup(s.text);
    if (!s.code)
        give_up("cannot copy", path);
    blank(s.code);
    module_of(&s);
    check_includes(&s);
    check_functions(&s);
    check_lines(&s);
    check_head(&s);
    if (s.in_src) {
        check_calls(&s);
        check_words(&s);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: lint ROOT FILE...\n");
        return 2;
    }
    layers_read("LAYERS");
    for (int i = 2; i < argc; i++)
        check_file(argv[1], argv[i]);
    return findings > 0;
}
