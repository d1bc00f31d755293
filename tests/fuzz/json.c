/* Any bytes through the JSON reader; what it accepts must survive being written and read again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    json_t *first = json_parse((const char *)data, size, "fuzz", &e);
    if (!first) {
        if (e.code != ERR_INPUT || !e.message[0])
            abort();
        return 0;
    }
    for (int pretty = 0; pretty < 2; pretty++) {
        char *text = json_text(first, pretty);
        json_t *again = json_parse(text, strlen(text), "fuzz", &e);
        if (!again || !json_equal(first, again))
            abort();
        json_decref(again);
        xfree(text);
    }
    json_decref(first);
    return 0;
}
