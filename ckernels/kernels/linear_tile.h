/* linear_tile.h - the one tile of every quantised product: P panels by N rows of x, over a range of blocks.
 *
 *                       x: N rows, 8 quads per block
 *                       | q q q q q q q q |
 *      panel 0   code vectors 0 .. 7     -> partial sums of int, N of them      P * N sums stay in registers over a block;
 *      panel 1   code vectors 0 .. 7     -> N more                              a code vector is used N times, a quad P times
 *
 * Decode calls it with a panel's own format (unpacking as it goes), prefill with a wide format (unpacked before). No sum is ever
 * split, so the number of panels and rows in a tile has no influence on any bit.
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

/* Rows of x, as a tile reads them: row n begins at q + n * ldq, d + n * ldd, s + 2 * n * ldd. */
typedef struct {
    const int8_t *q;
    const float *d;
    const int16_t *s;
    int64_t ldq, ldd;
} tile_x;

enum { TILE_P = 4, TILE_N = 8 }; /* the largest that are used */
/* How far ahead of its use a panel is fetched: far enough for the memory's latency at the speed at which a core consumes bytes. */
enum { PREFETCH = 3072 };

/* acc[p * N + n] += product of blocks [b0, b1) of panel p and row n. `ahead`: fetch the panels from memory. */
ZL_INLINE void tile(const int fmt, const int P, const int N, const int ahead, const uint8_t *const *panel, int64_t b0, int64_t b1,
                    const tile_x *x, vf *acc) {
    const int zero = fmt_zero(fmt), is_signed = fmt_signed(fmt);
    const int span = fmt_halves(fmt) ? 4 : 8; /* code vectors that go into one integer sum          */
    const int run = ZL_RUN(fmt_bits(fmt)) < span ? ZL_RUN(fmt_bits(fmt)) : span; /* ... into one partial sum */
    for (int64_t b = b0; b < b1; b++) {
        const int8_t *q = x->q + (b - b0) * BLOCK;
        const float *d = x->d + (b - b0);
        const int16_t *s = x->s + 2 * (b - b0);
        const uint8_t *c[TILE_P];
        vi part[TILE_P * TILE_N], sum[TILE_P * TILE_N], start[TILE_N];
        vf t[TILE_P * TILE_N];
        UNROLL for (int p = 0; p < P; p++) {
            c[p] = codes_at(fmt, panel[p], b);
            if (ahead) {
                UNROLL for (int line = 0; line < L * (fmt_codes(fmt) + 4); line += 64) __builtin_prefetch(c[p] + PREFETCH + line);
            }
        }
        UNROLL for (int v = 0; v < 8; v++) {
            vb w[TILE_P];
            UNROLL for (int p = 0; p < P; p++) w[p] = code(fmt, c[p], v);
            if (v % span == 0) { /* a sum begins, at minus the zero point times the sum of its quads */
                UNROLL for (int n = 0; n < N; n++)
                    start[n] = zero ? sums(s + 2 * n * x->ldd, v == 0 ? -zero : 0, v == 0 && span == 4 ? 0 : -zero) : (vi){0};
            }
            UNROLL for (int n = 0; n < N; n++) {
                vi quad_v = quad(q + n * x->ldq, v);
                UNROLL for (int p = 0; p < P; p++) {
                    const int i = p * N + n;
                    part[i] = v % run ? mac(is_signed, part[i], w[p], quad_v, v) : mul(is_signed, start[n], w[p], quad_v, v);
                    if ((v + 1) % run == 0) sum[i] = fold(v % span < run ? start[n] : sum[i], part[i]);
                }
            }
            if ((v + 1) % span) continue;
            /* The integer sum of the block (or of a half of it) is complete. */
            UNROLL for (int p = 0; p < P; p++) {
                const scales_ sc = scales(fmt, panel[p], b);
                UNROLL for (int n = 0; n < N; n++) {
                    const int i = p * N + n;
                    vf whole = vi_to_vf(sum[i]);
                    if (v == 7 && span == 4) t[i] = vf_fma(whole, sc.b, t[i]);
                    else t[i] = whole * sc.a;
                    if (fmt_min(fmt)) t[i] = vf_fma(sc.b, vi_to_vf(sums(s + 2 * n * x->ldd, 1, 1)), t[i]);
                    if (v == 7) acc[i] = vf_fma(t[i], vf_set1(d[n * x->ldd]), acc[i]);
                }
            }
        }
    }
}
#endif
