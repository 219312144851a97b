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
ZL_INLINE wide_scales lone_scales(const int type, const uint8_t *p, int j) {
    if (type == ZL_TYPE_Q2_K) return q2_k_scales(p, j);
    if (type == ZL_TYPE_Q3_K) return q3_k_scales(p, j);
    return type == ZL_TYPE_IQ4_XS ? iq4_xs_scales(p, j) : (wide_scales){.a = f16_lanes(p)};
}

/* acc[p] += block j of the quant blocks at w[p] times x's. */
ZL_INLINE void lone_block(const int type, const uint8_t *const *w, int j, const int32_t *x, vf *acc) {
    const int zero = lone_zero(type), is_signed = lone_bits(type) == 8, halves = wide_halves(type), span = halves ? 4 : 8;
    const int run = ZL_RUN(lone_bits(type)) < span ? ZL_RUN(lone_bits(type)) : span;
    vi part[PAIR], sum[2 * PAIR], start = {0};
    UNROLL for (int v = 0; v < 8; v++) {
        if (v % span == 0 && zero) start = times(vi_set1(x[halves ? ZL_X_HALF + v / 4 : ZL_X_SUM]), zero);
        const vi quad_v = quad(x + v, 0, 1);
        UNROLL for (int p = 0; p < PAIR; p++) {
            const int i = 2 * p + v / span;
            const vb c = lone_code(type, w[p], j, v);
            part[p] = v % run ? mac(is_signed, part[p], c, quad_v, 0, 1) : mul(is_signed, start, c, quad_v, 0, 1);
            if ((v + 1) % run == 0) sum[i] = fold(v % span < run ? start : sum[i], part[p]);
        }
    }
    UNROLL for (int p = 0; p < PAIR; p++) {
        const wide_scales s = lone_scales(type, w[p], j);
        vf t = vi_to_vf(sum[2 * p]) * s.a;
        if (halves) t = vf_fma(vi_to_vf(sum[2 * p + 1]), s.a2, t);
        if (wide_mins(type)) {
            t = vf_fma(s.m, vi_to_vf(vi_set1(x[ZL_X_HALF])), t);
            t = vf_fma(s.m2, vi_to_vf(vi_set1(x[ZL_X_HALF + 1])), t);
        }
        acc[p] = vf_fma(t, x_float(x + ZL_X_D), acc[p]);
    }
}
#endif
