/* lone_k.h - one row of x by formats of plain bits and of levels (formats_wide.h): codes are unpacked in registers and multiplied at once.
 *
 *      Q2_K  Q3_K  IQ4_NL  IQ4_XS        for one row the way over the wide form would be a store and a load per code vector, and the
 *                                        stores and loads took longer than the memory does
 *
 * What stands where in a quant block is said in widen_k.h. The order of operations is linear.h's, as in wide_tile.
 * What it is not: codebooks of vectors (lone_iq.h).
 */
#ifndef ZL_LONE_K_H
#define ZL_LONE_K_H
#include "linear_tile.h"
#include "widen_k.h"

/* Codes are unsigned, so many more than they mean and of so many bits, or signed (+ ZL_SIGNED_ZERO). */
ZL_INLINE int lone_zero(const int type) { return type == ZL_TYPE_Q2_K ? 0 : type == ZL_TYPE_Q3_K ? 4 : ZL_SIGNED_ZERO; }
ZL_INLINE int lone_bits(const int type) { return type == ZL_TYPE_Q2_K ? 2 : type == ZL_TYPE_Q3_K ? 3 : 8; }

/* Code vector v of block j of the quant block at p. */
ZL_INLINE vb lone_code(const int type, const uint8_t *p, int j, const int v) {
    if (type == ZL_TYPE_Q2_K) return (vb)q2_k_codes(p, j, v);
    if (type == ZL_TYPE_Q3_K) return (vb)q3_k_codes(p, j, v);
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
        if (zero) sums->total[p] = dot_halves(sums->total[p], pair_of(times(s.sc, zero), times(halves ? s.sc2 : s.sc, zero)), both);
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

/* acc[p] += a quant block of IQ4_NL, which is not long, at w[p] times x's. */
ZL_INLINE void lone_levels(const uint8_t *const *w, const int32_t *x, vf *acc) {
    enum { T = ZL_TYPE_IQ4_NL };
    const vi start = ZL_SIGNED_ZERO ? times(vi_set1(x[ZL_X_SUM]), ZL_SIGNED_ZERO ? ZL_SIGNED_ZERO : 1) : (vi){0};
    const int run = ZL_RUN(lone_bits(T));
    vi part[PAIR], sum[PAIR];
    UNROLL for (int v = 0; v < 8; v++) {
        const vi quad_v = quad(x + v, 0, 1);
        UNROLL for (int p = 0; p < PAIR; p++) {
            const vb c = lone_code(T, w[p], 0, v);
            part[p] = v % run ? mac(1, part[p], c, quad_v, 0, 1) : mul(1, start, c, quad_v, 0, 1);
            if ((v + 1) % run == 0) sum[p] = fold(v < run ? start : sum[p], part[p]);
        }
    }
    UNROLL for (int p = 0; p < PAIR; p++) acc[p] = vf_fma(vi_to_vf(sum[p]) * f16_lanes(w[p]), x_float(x + ZL_X_D), acc[p]);
}
#endif
