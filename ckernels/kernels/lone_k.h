/* lone_k.h - one row of x by formats of plain bits and of levels (formats_wide.h): codes are unpacked in registers and multiplied at once.
 *
 *      Q2_K  Q3_K  IQ4_NL  IQ4_XS            for one row the way over the wide form would be a store and a load per code vector, and the
 *      TQ1_0  TQ2_0  Q1_0  Q2_0  MXFP4       stores and loads took longer than the memory does
 *
 * What stands where in a quant block is said in widen_k.h. The order of operations is linear.h's, as in wide_tile.
 * What it is not: codebooks of vectors (lone_iq.h).
 */
#ifndef ZL_LONE_K_H
#define ZL_LONE_K_H
#include "linear_tile.h"
#include "widen_k.h"

/* Codes are unsigned, so many more than they mean and of so many bits, or signed (+ ZL_SIGNED_ZERO). */
ZL_INLINE int lone_zero(const int type) {
    switch (type) {
    case ZL_TYPE_Q2_K: return 0;
    case ZL_TYPE_Q3_K: return 4;
    case ZL_TYPE_TQ1_0: case ZL_TYPE_TQ2_0: case ZL_TYPE_Q1_0: case ZL_TYPE_Q2_0: return 1;
    case ZL_TYPE_MXFP4: return 16;
    default: return ZL_SIGNED_ZERO;
    }
}
ZL_INLINE int lone_bits(const int type) {
    switch (type) {
    case ZL_TYPE_Q2_K: case ZL_TYPE_TQ1_0: case ZL_TYPE_TQ2_0: case ZL_TYPE_Q1_0: case ZL_TYPE_Q2_0: return 2;
    case ZL_TYPE_Q3_K: return 3;
    case ZL_TYPE_MXFP4: return 5;
    default: return 8;
    }
}

/* Code vector v of block j of the quant block at p. */
ZL_INLINE vb lone_code(const int type, const uint8_t *p, int j, const int v) {
    if (type == ZL_TYPE_Q2_K) return (vb)q2_k_codes(p, j, v);
    if (type == ZL_TYPE_Q3_K) return (vb)q3_k_codes(p, j, v);
    if (type == ZL_TYPE_TQ2_0) return (vb)tq2_0_codes(p, j, v);
    if (type == ZL_TYPE_Q1_0) return (vb)q1_0_codes(p, j, v);
    if (type == ZL_TYPE_Q2_0) return (vb)q2_0_codes(p, j, v);
    if (type == ZL_TYPE_MXFP4) return level(type, zl_values_fp4, p, 0, v) + 16;
    return level(type, zl_values_iq4, p, type == ZL_TYPE_IQ4_XS ? 1 + 4 * j : 0, v) ^ ZL_SIGNED_ZERO;
}
ZL_INLINE long_scales lone_scales(const int type, const uint8_t *p, int j) {
    return type == ZL_TYPE_Q2_K ? q2_k_scales(p, j) : iq4_xs_scales(p, j);
}

/* What a pair of superblocks of a long format comes to, as linear_long.h has it. */
typedef struct {
    vi total[PAIR], least[PAIR];
} lone_sums;

/* sums += block j of the superblocks at w[p] times x's; bytes: of Q3_K, the scales of each (q3_k_scale_bytes); j is a constant then. */
ZL_INLINE void lone_block(const int type, const uint8_t *const *w, const vu (*bytes)[4], int j, const int32_t *x, lone_sums *sums) {
    const int zero = lone_zero(type), is_signed = lone_bits(type) == 8, halves = wide_halves(type), span = halves ? 4 : 8;
    const int run = ZL_RUN(lone_bits(type)) < span ? ZL_RUN(lone_bits(type)) : span;
    const vi both = vi_set1(x[ZL_X_HALVES]);
    vi part[PAIR], sum[PAIR], factor[PAIR][2];
    UNROLL for (int p = 0; p < PAIR; p++) {
        if (type == ZL_TYPE_Q3_K) {
            const vu four = bytes[p][j / 2];
            const int k = 2 * (j % 2);
            factor[p][0] = factor_less(byte_twice(four, k), 32), factor[p][1] = factor_less(byte_twice(four, k + 1), 32);
            sums->total[p] = dot_halves(sums->total[p], pair_of_bytes(four, k, 32, zero), both);
            continue;
        }
        const long_scales s = lone_scales(type, w[p], j);
        factor[p][0] = as_factor(s.sc), factor[p][1] = halves ? as_factor(s.sc2) : factor[p][0];
        if (zero) sums->total[p] = dot_halves(sums->total[p], pair_of(times(s.sc, zero), times(s.sc, zero)), both);
        if (wide_mins(type)) sums->least[p] = dot_halves(sums->least[p], pair_of(s.mn, s.mn2), both);
    }
    UNROLL for (int v = 0; v < 8; v++) {
        const vi quad_v = quad(x + v, 0, 1);
        UNROLL for (int p = 0; p < PAIR; p++) {
            const vb c = lone_code(type, w[p], j, v);
            part[p] = v % run ? mac(is_signed, part[p], c, quad_v, 0, 1) : mul(is_signed, (vi){0}, c, quad_v, 0, 1);
            if ((v + 1) % run == 0) sum[p] = fold_by(v < run ? (vi){0} : sum[p], part[p], factor[p][v / 4]);
        }
    }
    UNROLL for (int p = 0; p < PAIR; p++) sums->total[p] = shifted_sum(sums->total[p], sum[p], x[ZL_X_SHIFT]);
}

/* What an integer sum of the format begins with: minus the zero times x's sum. */
ZL_INLINE vi lone_start(const int type, const int32_t *x) {
    const int zero = lone_zero(type);
    return zero ? times(vi_set1(x[ZL_X_SUM]), zero ? zero : 1) : (vi){0};
}
/* acc[p] += block j of the quant blocks at w[p] times x's, of formats that have one scale and are not long. */
ZL_INLINE void lone_plain(const int type, const uint8_t *const *w, int j, const int32_t *x, vf *acc) {
    const vi start = lone_start(type, x);
    const int run = ZL_RUN(lone_bits(type)), is_signed = lone_bits(type) == 8;
    vi part[PAIR], sum[PAIR];
    UNROLL for (int v = 0; v < 8; v++) {
        const vi quad_v = quad(x + v, 0, 1);
        UNROLL for (int p = 0; p < PAIR; p++) {
            const vb c = lone_code(type, w[p], j, v);
            part[p] = v % run ? mac(is_signed, part[p], c, quad_v, 0, 1) : mul(is_signed, start, c, quad_v, 0, 1);
            if ((v + 1) % run == 0) sum[p] = fold(v < run ? start : sum[p], part[p]);
        }
    }
    UNROLL for (int p = 0; p < PAIR; p++) {
        const vf d = type == ZL_TYPE_MXFP4 ? mxfp4_scale(w[p]) : f16_lanes(w[p]);
        acc[p] = vf_fma(vi_to_vf(sum[p]) * d, x_float(x + ZL_X_D), acc[p]);
    }
}

/* The first of a byte's trits, 0 to 2: the integer part of 3 byte / 256. Times 3, the byte has the next one first. */
ZL_INLINE vb first_trit(vb bytes) {
#if defined(ZL_ISA_avx2)
    /* which has no comparison of unsigned bytes */
    const __m256i b = (__m256i)bytes, one = _mm256_set1_epi8(1), above = _mm256_subs_epu8(b, _mm256_set1_epi8(85));
    return (vb)_mm256_add_epi8(_mm256_min_epu8(above, one), _mm256_min_epu8(_mm256_subs_epu8(b, _mm256_set1_epi8((char)170)), one));
#else
    return 0 - ((vb)(bytes > 85) + (vb)(bytes > 170));
#endif
}
/* The sums of a superblock of TQ1_0. The trits of a byte belong to five blocks (of the first 32 bytes), to three (16 bytes) or to one (4, of four trits
 * each): so all eight blocks are summed together, and a byte is read once. */
ZL_INLINE void tq1_0_sums(const uint8_t *p, const int32_t *x, vi *sum) {
    enum { T = ZL_TYPE_TQ1_0 };
    vi part[8];
#define TRITS(word_i, n, block, v)                                                                                                             \
    {                                                                                                                                          \
        vb bytes = (vb)word(T, p, word_i);                                                                                                     \
        UNROLL for (int t = 0; t < (n); t++) {                                                                                                 \
            const vi quad_v = quad(x + (block) * ZL_X_WORDS + (v), 0, 1);                                                                      \
            const vb c = first_trit(bytes);                                                                                                    \
            part[block] = (v) ? mac(0, part[block], c, quad_v, 0, 1) : mul(0, lone_start(T, x + (block) * ZL_X_WORDS), c, quad_v, 0, 1);         \
            bytes = bytes + bytes + bytes;                                                                                                     \
        }                                                                                                                                      \
    }
    UNROLL for (int i = 0; i < 8; i++) TRITS(i, 5, t, i)
    UNROLL for (int i = 0; i < 4; i++) TRITS(8 + i, 5, 5 + t / 2, 4 * (t % 2) + i)
    TRITS(12, 4, 7, 4 + t)
#undef TRITS
    UNROLL for (int j = 0; j < 8; j++) sum[j] = fold(lone_start(T, x + j * ZL_X_WORDS), part[j]);
}
#endif
