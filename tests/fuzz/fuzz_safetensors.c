/* The safetensors reader: no input may crash it, and what it accepts covers the file without
 * overlap. */
#include "fuzz_int.h"

#include "format/safetensors.h"

static volatile uint64_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct safetensors s;
    struct err e = {0};
    if (safetensors_open(&s, fuzz_file(data, n), &e)) {
        if (e.code == ERR_NONE || e.message[0] == '\0')
            abort(); /* a refusal says why */
        return 0;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < s.n_tensors; i++) {
        const struct safetensors_tensor *t = &s.tensors[i];
        if (safetensors_find(&s, t->name) != t || t->offset + t->bytes > n)
            abort();
        if (t->bytes > 0)
            sink += (uint64_t)(s.map.data[t->offset] + s.map.data[t->offset + t->bytes - 1]);
        sum += t->bytes;
    }
    uint64_t header;
    memcpy(&header, data, sizeof header);
    if (sum + header + 8 != n)
        abort();
    safetensors_close(&s);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static struct forge f;
    static const struct {
        const char *name, *header;
        size_t data;
    } seeds[] = {
        {"empty", "{}", 0},
        {"one", "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]}}", 8},
        {"two",
         "{\"__metadata__\":{\"format\":\"pt\"},"
         "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"
         "\"a\\u00e9\\ud83d\\ude00\":{\"shape\":[0],\"dtype\":\"I64\",\"data_offsets\":[4,4]}}  ",
         4},
        {"odd",
         "{\"t\":{\"x\":[{\"y\":null}],\"n\":-1.5e+3,\"dtype\":\"U8\",\"shape\":[],"
         "\"data_offsets\":[0,1],\"b\":true}}",
         1},
    };
    const char *folder = fuzz_empty_corpus(*argc, *argv);
    for (size_t i = 0; folder && i < sizeof seeds / sizeof seeds[0]; i++) {
        forge_safetensors(&f, seeds[i].header, 0, seeds[i].data);
        fuzz_seed(folder, seeds[i].name, &f);
    }
    return 0;
}
