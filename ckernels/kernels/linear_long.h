/* linear_long.h - the tile of long formats: superblocks of 256 columns, whose scales are integers (linear.h has the order of operations).
 *
 *      over a superblock    total = sum 2^k sc u q integers, a group's sum times its scale and added: with avx2 that is one instruction, which
 *                                                  widens 16-bit sums anyway; else a product and a sum. Then a shift for each block
 *                           least = sum low X      of the minimums, or of scales times the zero point, and the sums X of x's halves, two a step
 *      at its end           a conversion, a product, a multiply-add; another two where there are minimums
 *
 * With scales as floats, one for each 16 or 32 columns, conversions, products and multiply-adds took a quarter to a third of all instructions.
 * The result fits 32 bits: the largest is Q6_K's, 256 * 32 * 127 * 128 * 2^4 = 2131 million. Before the zero point's part is in it may leave them, so
 * that these sums are modulo 2^32. Low, two to a lane, fits 16 bits: at most 128 * 128; and so do x's, 16 * 127 * 2^4.
 *
 * The scales of a pair of superblocks are made ready beforehand, for all of K where there are many rows of x, else for one superblock:
 *
 *      vectors      0 ..       16 ..                         48, 49    50, 51
 *                  | low      | factors                     | d       | dmin    |
 *                   [block][p] [block][1 or 2 halves][p]     [p]       [p]           p: panel of the pair
 */
#ifndef ZL_LINEAR_LONG_H
#define ZL_LINEAR_LONG_H
#include "linear_tile.h"

enum { AT_LOW = 0, AT_FACTOR = 8 * PAIR * L, AT_D = 24 * PAIR * L, AT_DMIN = 25 * PAIR * L, READY = 26 * PAIR * L /* words: ZL_LONG_VECTORS */ };

/* What the compiler knows of a long format. */
typedef struct {
    int fmt;                   /* of formats.h, or 0: codes are vectors, 64 a superblock */
    int bits, is_signed, zero; /* of codes (simd_int.h); zero: what they are too many, a power of two, or 0 */
    int halves, mins;          /* groups of 16 columns; minimums, which no format with a zero point has */
} long_shape;
ZL_INLINE long_shape long_shape_of(const int fmt) {
    return (long_shape){fmt, fmt_bits(fmt), fmt_signed(fmt), fmt_zero(fmt), fmt_halves(fmt), fmt_min(fmt)};
}

/* Of block j of panel p, ready. */
ZL_INLINE void ready_block(const long_shape s, int32_t *to, int j, int p, long_scales c) {
    const int groups = s.halves ? 2 : 1;
    vi_store(to + AT_FACTOR + (j * groups * PAIR + p) * L, as_factor(c.sc));
    if (s.halves) vi_store(to + AT_FACTOR + ((j * groups + 1) * PAIR + p) * L, as_factor(c.sc2));
    if (s.mins) vi_store(to + AT_LOW + (j * PAIR + p) * L, pair_of(c.mn, s.halves ? c.mn2 : c.mn));
    else if (s.zero) vi_store(to + AT_LOW + (j * PAIR + p) * L, pair_of(times(c.sc, s.zero), times(s.halves ? c.sc2 : c.sc, s.zero)));
}
ZL_INLINE void ready_floats(int32_t *to, int p, vf d, vf dmin) {
    vf_store((float *)(void *)(to + AT_D + p * L), d);
    vf_store((float *)(void *)(to + AT_DMIN + p * L), dmin);
}

/* A pair of superblocks of formats.h, whose headers are at `head`. */
ZL_INLINE void ready_super(const int fmt, const uint8_t *const *head, int32_t *to) {
    UNROLL for (int p = 0; p < PAIR; p++) {
        const vf d = vf_from_f16((const uint16_t *)(const void *)head[p]);
        if (fmt == ZL_TYPE_Q6_K) {
            UNROLL for (int j = 0; j < 8; j++) ready_block(long_shape_of(fmt), to, j, p, k_scales(fmt, head[p], j));
            ready_floats(to, p, d, vf_zero());
            continue;
        }
        const six_bits s = six_bits_of(head[p]);
        UNROLL for (int j = 0; j < 8; j++) {
            vi_store(to + AT_FACTOR + (j * PAIR + p) * L, factor_of_pair(byte_twice(s.sc[j / 4], j % 4)));
            vi_store(to + AT_LOW + (j * PAIR + p) * L, byte_twice(s.mn[j / 4], j % 4));
        }
        ready_floats(to, p, d, vf_from_f16((const uint16_t *)(const void *)(head[p] + 2 * L)));
    }
}

/* acc[p * N + n] += product of panel p and row n of a group of g rows, as `tile` has it (linear_tile.h), over so many superblocks. */
ZL_INLINE void long_tile(const long_shape s, const int N, const int32_t *ready, int64_t ahead, const uint8_t *const *panel, int64_t supers,
                         const int32_t *x, const int64_t g, vf *acc) {
    const int span = s.halves ? 4 : 8; /* code vectors that go into one integer sum          */
    const int run = ZL_RUN(s.bits) < span ? ZL_RUN(s.bits) : span; /* ... into one partial sum */
    for (int64_t b = 0; b < supers; b++, ready += READY) {
        const uint8_t *head[PAIR], *c[PAIR];
        vi total[PAIR * ZL_GROUP], least[PAIR * ZL_GROUP];
        UNROLL for (int i = 0; i < PAIR * N; i++) total[i] = (vi){0};
        if (s.zero || s.mins) {
            UNROLL for (int n = 0; n < N; n++) {
                vi sum[PAIR];
                UNROLL for (int j = 0; j < 8; j++) {
                    const vi halves = vi_set1(x[(j * ZL_X_WORDS + ZL_X_HALVES) * g + n]);
                    UNROLL for (int p = 0; p < PAIR; p++)
                        sum[p] = dot_halves(j ? sum[p] : (vi){0}, vi_load(ready + AT_LOW + (j * PAIR + p) * L), halves);
                }
                UNROLL for (int p = 0; p < PAIR; p++) *(s.mins ? &least[p * N + n] : &total[p * N + n]) = sum[p];
            }
        }
        UNROLL for (int p = 0; p < PAIR; p++) {
            head[p] = s.fmt ? head_of(s.fmt, panel[p], 8 * b) : panel[p] + b * 64 * VB;
            c[p] = s.fmt ? codes_at(s.fmt, head[p], 0) : head[p];
        }
        const int32_t *d = x + ZL_X_D * g; /* the same in all eight blocks */
        for (int j = 0; j < 8; j++, x += ZL_X_WORDS * g) {
            vi part[PAIR * ZL_GROUP], sum[PAIR * ZL_GROUP]; /* of a block: in registers, while totals are in memory */
            if (N > 2) KEEP_IN_MEMORY(total);
            if (s.fmt && ahead) { /* a block's share of the panel, headers included */
                const int share = L * (fmt_codes(s.fmt) + fmt_header(s.fmt) / 8 + 1);
                UNROLL for (int p = 0; p < PAIR; p++)
                    UNROLL for (int line = 0; line < share; line += 64) __builtin_prefetch(head[p] + j * share + ahead + line);
            }
            UNROLL for (int v = 0; v < 8; v++) {
                vb w[PAIR];
                UNROLL for (int p = 0; p < PAIR; p++) w[p] = s.fmt ? code(s.fmt, c[p], v) : vb_load(c[p] + v * VB);
                UNROLL for (int n = 0; n < N; n++) {
                    const vi quad_v = quad(x + v * g, n, N);
                    UNROLL for (int p = 0; p < PAIR; p++) {
                        const int i = p * N + n, group = s.halves ? 2 * j + v / 4 : j;
                        part[i] = v % run ? mac(s.is_signed, part[i], w[p], quad_v, n, N) : mul(s.is_signed, (vi){0}, w[p], quad_v, n, N);
                        const int32_t *factor = ready + AT_FACTOR + (group * PAIR + p) * L;
                        if ((v + 1) % run == 0) sum[i] = fold_by(v < run ? (vi){0} : sum[i], part[i], vi_load(factor));
                    }
                }
            }
            UNROLL for (int n = 0; n < N; n++) {
                const int32_t shift = x[ZL_X_SHIFT * g + n];
                UNROLL for (int p = 0; p < PAIR; p++) total[p * N + n] = shifted_sum(total[p * N + n], sum[p * N + n], shift);
            }
            UNROLL for (int p = 0; p < PAIR; p++) c[p] += s.fmt ? L * fmt_codes(s.fmt) : 8 * VB;
        }
        UNROLL for (int p = 0; p < PAIR; p++) {
            const vf scale = vf_load((const float *)(const void *)(ready + AT_D + p * L));
            const vf minimum = vf_load((const float *)(const void *)(ready + AT_DMIN + p * L));
            UNROLL for (int n = 0; n < N; n++) {
                const int i = p * N + n;
                vf t = vi_to_vf(total[i]) * scale;
                if (s.mins) t = vf_fma(minimum, vi_to_vf(least[i]), t);
                acc[i] = vf_fma(t, x_float(d + n), acc[i]);
            }
        }
    }
}
#endif
