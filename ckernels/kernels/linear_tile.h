/* linear_tile.h - the tile of a quantised product whose scales are floats: a pair of panels by N rows of x, over all blocks of K.
 *
 *                       x: N rows, 8 quads per block
 *                       | q q q q q q q q |
 *      panel 0   code vectors 0 .. 7     -> partial sums of int, N of them      2 N sums stay in registers over a block;
 *      panel 1   code vectors 0 .. 7     -> N more                              a code vector is used N times, a quad twice
 *
 * Codes are unpacked as they are read. No sum is ever split, so the number of rows in a tile has no influence on any bit. Long formats have a
 * tile of their own (linear_long.h).
 */
#ifndef ZL_LINEAR_TILE_H
#define ZL_LINEAR_TILE_H
#include "formats.h"
#include "kernels.h"

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { PAIR = 2 };

/* A lone float of a group's block of x (kernels/linear.h), in all lanes. */
ZL_INLINE vf x_float(const int32_t *at) {
    float v;
    memcpy(&v, at, 4);
    return vf_set1(v);
}

/* The sums so far stay in memory while the integers of a block are in registers: there are too few for both, and left to itself gcc keeps
 * the sums and spills the integers, which are written eight times as often. */
#define KEEP_IN_MEMORY(acc) __asm__ volatile("" : "+m"(*(vi(*)[PAIR * ZL_GROUP])(void *)(acc)))

/* acc[p * N + n] += product of panel p and row n of a group of g rows: of those whose words are at x, or of the first N from x on. `fmt` is not long.
 * ahead: so many bytes ahead the panels are fetched from memory, or 0. */
ZL_INLINE void tile(const int fmt, const int N, int64_t ahead, const uint8_t *const *panel, int64_t blocks, const int32_t *x, const int64_t g,
                    vf *acc) {
    const int zero = fmt_zero(fmt), is_signed = fmt_signed(fmt);
    const int run = ZL_RUN(fmt_bits(fmt)); /* code vectors that go into one partial sum */
    for (int64_t b = 0; b < blocks; b++, x += ZL_X_WORDS * g) {
        if (N > 2) KEEP_IN_MEMORY(acc);
        const uint8_t *c[PAIR];
        vi part[PAIR * ZL_GROUP], sum[PAIR * ZL_GROUP], start[ZL_GROUP];
        UNROLL for (int p = 0; p < PAIR; p++) {
            const uint8_t *head = head_of(fmt, panel[p], b);
            c[p] = codes_at(fmt, head, 0);
            if (ahead) { /* a block of the panel, its header included */
                UNROLL for (int line = 0; line < L * (fmt_codes(fmt) + fmt_header(fmt)); line += 64) __builtin_prefetch(head + ahead + line);
            }
        }
        /* A sum begins at the zero point (a power of two) times minus the sum of its quads. */
        UNROLL for (int n = 0; n < N; n++) start[n] = zero ? times(vi_set1(x[ZL_X_SUM * g + n]), zero) : (vi){0};
        UNROLL for (int v = 0; v < 8; v++) {
            vb w[PAIR];
            UNROLL for (int p = 0; p < PAIR; p++) w[p] = code(fmt, c[p], v);
            UNROLL for (int n = 0; n < N; n++) {
                vi quad_v = quad(x + v * g, n, N);
                UNROLL for (int p = 0; p < PAIR; p++) {
                    const int i = p * N + n;
                    part[i] = v % run ? mac(is_signed, part[i], w[p], quad_v, n, N) : mul(is_signed, start[n], w[p], quad_v, n, N);
                    if ((v + 1) % run == 0) sum[i] = fold(v < run ? start[n] : sum[i], part[i]);
                }
            }
        }
        UNROLL for (int p = 0; p < PAIR; p++) {
            /* No branch may stand here: gcc would move the sums behind it, one by one, and keep all codes in memory meanwhile. */
            const scales_ sc = scales(fmt, head_of(fmt, panel[p], b), 0);
            UNROLL for (int n = 0; n < N; n++) {
                const int i = p * N + n;
                vf t = vi_to_vf(sum[i]) * sc.a;
                if (fmt_min(fmt)) t = vf_fma(sc.b, vi_to_vf(vi_set1(x[ZL_X_SUM * g + n])), t);
                acc[i] = vf_fma(t, x_float(x + ZL_X_D * g + n), acc[i]);
            }
        }
    }
}
#endif
