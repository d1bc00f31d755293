/* Speed that a machine's arithmetic allows: a roofline.
 *
 * Generating a token reads every weight it uses and the KV cache once, so it takes at least those
 * bytes divided by the part of the memory bandwidth that real kernels reach, and at least its two
 * operations per parameter divided by the arithmetic rate; the larger counts, and a fixed overhead
 * per token is added. Reading a prompt reuses each weight for many tokens and is bound by
 * arithmetic. No state; what is unknown stays 0 and is never guessed.
 */
#include "hw/hw.h"

#include "base/banned.h"

static const double efficiency_default =
    0.6; /* of the bandwidth on paper; 0.54-0.85 were measured */

struct hw_prediction hw_predict(const struct hw_profile *p, uint64_t weight_bytes_per_token,
                                uint64_t kv_bytes, uint64_t parameters)
{
    struct hw_prediction r = {.predicted = true};
    double share = p->efficiency > 0 ? p->efficiency : efficiency_default;
    double operations = 2.0 * (double)parameters, compute_s = 0;
    if (p->gflops > 0 && operations > 0) {
        compute_s = operations / (p->gflops * 1e9);
        r.tps_prefill = 1 / compute_s;
    }
    double bytes = (double)weight_bytes_per_token + (double)kv_bytes;
    if (p->bandwidth_gbs > 0 && bytes > 0) {
        double memory_s = bytes / (share * p->bandwidth_gbs * 1e9);
        double token_s = memory_s > compute_s ? memory_s : compute_s;
        r.tps_decode = 1 / (token_s + p->overhead_ms / 1e3);
    }
    return r;
}
