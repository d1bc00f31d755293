/* Any bytes through the profile reader: YAML, types, bounds, the JSON form. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "hw/hw.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hw_profile p;
    struct err e = {0};
    char path[64];
    log_set_level(LOG_QUIET);
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (hw_profile_load(&p, path, "", &e) == 0) {
        if (!(p.ram_gb >= 0 && p.efficiency > 0 && p.efficiency <= 1 && p.cores >= 0))
            abort();
        json_decref(hw_profile_json_new(&p));
        hw_profile_release(&p);
    } else if (!e.message[0]) {
        abort();
    }
    close(fd);
    return 0;
}
