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

enum { TILE_P = 4, TILE_N = 8 }; /* the largest that are used */
/* How far ahead of its use a panel is fetched: far enough for the memory's latency at the speed at which a core consumes bytes. */
enum { PREFETCH = 3072 };

/* A lone float of a group's block of x (kernels/linear.h), in all lanes. */
ZL_INLINE vf x_float(const int32_t *at) {
    float v;
    memcpy(&v, at, 4);
    return vf_set1(v);
}

/* acc[p * N + n] += product of blocks [b0, b1) of panel p and row n of a group of g rows, whose block b0 is at x: the words of N rows, or
 * of the first N of those from x on. `ahead`: fetch the panels from memory. */
ZL_INLINE void tile(const int fmt, const int P, const int N, const int ahead, const uint8_t *const *panel, int64_t b0, int64_t b1,
                    const int32_t *x, const int64_t g, vf *acc) {
    const int zero = fmt_zero(fmt), is_signed = fmt_signed(fmt);
    const int span = fmt_halves(fmt) ? 4 : 8; /* code vectors that go into one integer sum          */
    const int run = ZL_RUN(fmt_bits(fmt)) < span ? ZL_RUN(fmt_bits(fmt)) : span; /* ... into one partial sum */
    for (int64_t b = b0; b < b1; b++, x += ZL_X_WORDS * g) {
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
            if (v % span == 0) { /* a sum begins, at the zero point (a power of two) times minus the sum of its quads */
                const int32_t *minus = x + (span == 4 ? ZL_X_HALF + v / 4 : ZL_X_SUM) * g;
                UNROLL for (int n = 0; n < N; n++) start[n] = vi_set1(minus[n]) * zero;
            }
            UNROLL for (int n = 0; n < N; n++) {
                vi quad_v = quad(x + v * g, n, N);
                UNROLL for (int p = 0; p < P; p++) {
                    const int i = p * N + n;
                    part[i] = v % run ? mac(is_signed, part[i], w[p], quad_v, n, N) : mul(is_signed, start[n], w[p], quad_v, n, N);
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
                    if (fmt_min(fmt)) t[i] = vf_fma(sc.b, vi_to_vf(vi_set1(x[ZL_X_SUM * g + n])), t[i]);
                    if (v == 7) acc[i] = vf_fma(t[i], x_float(x + ZL_X_D * g + n), acc[i]);
                }
            }
        }
    }
}
#endif
