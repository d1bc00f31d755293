/* The table of one kernel set. KERNEL_SET and KERNEL_NAME are defined by the including file; no
 * include guard on purpose: each kernel_*.c includes it once. */

#define KERNEL_PLAIN(name)                                                                         \
    static void name##_plain(struct kernel_batch *b)                                               \
    {                                                                                              \
        encode_##name(b, 0);                                                                       \
    }
#define KERNEL_IMPORTANT(name)                                                                     \
    static void name##_important(struct kernel_batch *b)                                           \
    {                                                                                              \
        encode_##name(b, 1);                                                                       \
    }
#define KERNEL_PAIR(name) KERNEL_PLAIN(name) KERNEL_IMPORTANT(name)

KERNEL_IMPORTANT(q4_0)
KERNEL_IMPORTANT(q4_1)
KERNEL_IMPORTANT(q5_0)
KERNEL_IMPORTANT(q5_1)
KERNEL_PAIR(q2_k)
KERNEL_PAIR(q3_k)
KERNEL_PAIR(q4_k)
KERNEL_PAIR(q5_k)
KERNEL_PAIR(q6_k)
KERNEL_PAIR(iq4_nl)
KERNEL_PAIR(iq4_xs)
KERNEL_PAIR(tq1_0)
KERNEL_PAIR(tq2_0)
KERNEL_PAIR(mxfp4)
KERNEL_PAIR(nvfp4)
KERNEL_PAIR(q1_0)
KERNEL_PAIR(q2_0)
KERNEL_PAIR(iq2_s)
KERNEL_PAIR(iq3_xxs)
KERNEL_PAIR(iq3_s)
KERNEL_IMPORTANT(iq2_xxs)
KERNEL_IMPORTANT(iq1_s)
KERNEL_PAIR(iq1_m)
KERNEL_IMPORTANT(iq2_xs)

const struct kernel_set KERNEL_SET = {
    .name = KERNEL_NAME,
    .lanes = LANES,
    .plain =
        {
            [DT_Q2_K] = q2_k_plain,
            [DT_Q3_K] = q3_k_plain,
            [DT_Q4_K] = q4_k_plain,
            [DT_Q5_K] = q5_k_plain,
            [DT_Q6_K] = q6_k_plain,
            [DT_IQ4_NL] = iq4_nl_plain,
            [DT_IQ4_XS] = iq4_xs_plain,
            [DT_TQ1_0] = tq1_0_plain,
            [DT_TQ2_0] = tq2_0_plain,
            [DT_MXFP4] = mxfp4_plain,
            [DT_NVFP4] = nvfp4_plain,
            [DT_Q1_0] = q1_0_plain,
            [DT_Q2_0] = q2_0_plain,
            [DT_IQ2_S] = iq2_s_plain,
            [DT_IQ3_XXS] = iq3_xxs_plain,
            [DT_IQ3_S] = iq3_s_plain,
            [DT_IQ1_M] = iq1_m_plain,
        },
    .important =
        {
            [DT_Q4_0] = q4_0_important,       [DT_Q4_1] = q4_1_important,
            [DT_Q5_0] = q5_0_important,       [DT_Q5_1] = q5_1_important,
            [DT_Q2_K] = q2_k_important,       [DT_Q3_K] = q3_k_important,
            [DT_Q4_K] = q4_k_important,       [DT_Q5_K] = q5_k_important,
            [DT_Q6_K] = q6_k_important,       [DT_IQ4_NL] = iq4_nl_important,
            [DT_IQ4_XS] = iq4_xs_important,   [DT_TQ1_0] = tq1_0_important,
            [DT_TQ2_0] = tq2_0_important,     [DT_MXFP4] = mxfp4_important,
            [DT_IQ2_XXS] = iq2_xxs_important, [DT_IQ2_XS] = iq2_xs_important,
            [DT_IQ2_S] = iq2_s_important,     [DT_IQ3_XXS] = iq3_xxs_important,
            [DT_IQ3_S] = iq3_s_important,     [DT_NVFP4] = nvfp4_important,
            [DT_Q1_0] = q1_0_important,       [DT_Q2_0] = q2_0_important,
            [DT_IQ1_S] = iq1_s_important,     [DT_IQ1_M] = iq1_m_important,
        },
    .rows =
        {
            [DT_Q4_0] = q4_0_rows,
            [DT_Q4_1] = q4_1_rows,
            [DT_Q5_0] = q5_0_rows,
            [DT_Q5_1] = q5_1_rows,
            [DT_Q8_0] = q8_0_rows,
        },
};
