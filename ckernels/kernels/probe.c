/* probe.c - the machine's ceilings, as loops: reading, int8 products, float32 multiply-adds. What they compute is checked; what counts is
 * how fast it comes.
 *
 * What it is not: a part of any forward pass.
 */
#include "kernels.h"
#include "simd_int.h"

/* Four streams, a quarter of the memory apart: the hardware's prefetchers follow each, and more lines are on their way at a time. */
uint64_t ZL_FN(probe_read)(const uint64_t *p, int64_t n) {
    const int64_t q = n / 4;
    uint64_t acc[32] = {0}, sum = 0;
    for (int64_t i = 0; i < q; i += 8)
        for (int s = 0; s < 4; s++)
            for (int j = 0; j < 8; j++) acc[8 * s + j] += p[s * q + i + j]; /* two vectors of AVX2, one of AVX-512 */
    for (int j = 0; j < 32; j++) sum += acc[j];
    return sum;
}

/* A value passes through here where the compiler may neither merge two chains nor see that an operand never changes. */
#if defined(ZL_ISA_avx512) && !defined(ZL_EMULATED_AVX512_H)
#define KEEP(x) __asm__ volatile("" : "+v"(x))
#elif defined(__x86_64__) && !defined(ZL_ISA_avx512)
#define KEEP(x) __asm__ volatile("" : "+x"(x))
#elif defined(__aarch64__)
#define KEEP(x) __asm__ volatile("" : "+w"(x))
#else /* a vector that no register holds, too: emulated AVX-512 */
#define KEEP(x) __asm__ volatile("" : "+m"(x))
#endif

/* The accumulators are no array: that would be kept in memory. */
#define ALL(X) X(c0) X(c1) X(c2) X(c3) X(c4) X(c5) X(c6) X(c7) X(c8) X(c9) X(c10) X(c11)

/* As in a product with a weight: a partial sum is begun, continued by the quads that it can take, and folded (simd_int.h). */
#define INT8_ZERO(c) vi c = {0};
#define INT8_STEP(c)                                                                    \
    {                                                                                   \
        KEEP(codes);                                                                    \
        vi part = mul(0, c, codes, x, 0, 1);                                            \
        for (int r = 1; r < RUN; r++) {                                                 \
            KEEP(codes);                                                                \
            part = mac(0, part, codes, x, 0, 1);                                        \
        }                                                                               \
        c = fold(c, part);                                                              \
        KEEP(c);                                                                        \
    }
#define INT8_SUM(c) total += (vu)c;
uint32_t ZL_FN(probe_int8)(int64_t steps, int code, int q) {
    enum { RUN = ZL_RUN(4) }; /* codes of 4 bits: the most that a partial sum takes */
    vb codes = (vb){0} + (uint8_t)code;
    const int32_t word = (int32_t)(0x01010101u * (uint8_t)q);
    vi x = quad(&word, 0, 1);
    KEEP(x);
    ALL(INT8_ZERO)
    for (int64_t i = 0; i < steps; i += RUN) { ALL(INT8_STEP) }
    vu total = {0};
    ALL(INT8_SUM)
    uint32_t sum = 0;
    for (int i = 0; i < L; i++) sum += total[i];
    return sum;
}

#define F32_ZERO(c) vf c = vf_zero();
#define F32_STEP(c) { c = vf_fma(va, vb_, c); KEEP(c); }
#define F32_SUM(c) total += c;
float ZL_FN(probe_f32)(int64_t steps, float a, float b) {
    vf va = vf_set1(a), vb_ = vf_set1(b);
    KEEP(va);
    KEEP(vb_);
    ALL(F32_ZERO)
    for (int64_t i = 0; i < steps; i++) { ALL(F32_STEP) }
    vf total = vf_zero();
    ALL(F32_SUM)
    return vf_sum(total);
}
