/* linear_many.c - products of a quantised weight with many rows of x: prefill. Bound by arithmetic.
 *
 * Unpacking codes takes about as long as multiplying them with two rows of x, so it is done once per tile of W, into a scratch of whole
 * bytes that all rows of x then use:
 *
 *              K: strips of 512                       scratch: 64 rows x 512 codes + scales = 40 KiB      stays in L2
 *      W  +--------+--------+---                      two panels of it: 10 KiB (AVX2)                     stay in L1
 *    64 r |########|        |                         x: 512 tokens x 512 int8 = 256 KiB, 4 rows at a time from L2
 *         +--------+--------+---                      float sums 512 x 64, loaded and stored once per strip
 *
 * What one block of 32 columns costs with AVX2 in a tile of 2 panels x 4 rows (16 x 4 x 32 multiply-adds = 4,096 operations), 4-bit
 * codes: 64 vpmaddubsw, 56 vpaddw, 8 vpmaddwd, 8 conversions, 8 products, 8 to 16 fused multiply-adds: 152 to 160 vector operations,
 * 40 cycles on four ports; 16 + 32 loads. So at best 102 operations per cycle out of the 128 of two bare vpmaddubsw per cycle: 80%.
 * 5 bits: the same + 8 vpmaddwd. 6 bits in halves: 45 cycles. 8 bits signed: 8 x (vpsignb, vpmaddubsw, vpmaddwd, vpaddd): 70 cycles.
 */
#include "linear_store.h"
#include "linear_tile.h"

/* A tile is MANY_P panels by ZL_GROUP rows of x: 16 sums of 32 registers, with AVX2 8 of 16. */
#if defined(ZL_ISA_neon) || defined(ZL_ISA_dotprod)
enum { MANY_P = 4 };
#else
enum { MANY_P = 2 };
#endif
enum { PANELS = ZL_TILE_ROWS / L, STRIP_BLOCKS = ZL_STRIP / BLOCK, WIDE_PANEL = STRIP_BLOCKS * WIDE_BLOCK };
_Static_assert(PANELS * WIDE_PANEL <= ZL_FLOAT_BYTES, "the unpacked tile fits its scratch");

/* Blocks [b0, b0 + n) of a panel -> wide blocks */
ZL_INLINE void widen(const int fmt, const uint8_t *panel, int64_t b0, int64_t n, uint8_t *to) {
    for (int64_t b = b0; b < b0 + n; b++, to += WIDE_BLOCK) {
        const uint8_t *c = codes_at(fmt, panel, b);
        const scales_ sc = scales(fmt, panel, b);
        UNROLL for (int v = 0; v < 8; v++) vb_store(to + v * VB, code(fmt, c, v));
        vf_store((float *)(void *)(to + 8 * VB), sc.a);
        vf_store((float *)(void *)(to + 9 * VB), sc.b);
    }
}

/* The strip of 64 rows of W from `row`, columns [k0, k0 + 32 n) -> wide panels, WIDE_PANEL bytes each. Panels are multiplied MANY_P at a
 * time: those that the last such group lacks become zeros, since whatever the scratch held before may be no codes of this format. */
ZL_INLINE void widen_rows(const int fmt, const struct zl_weight *w, int64_t row, int64_t k0, int64_t n, uint8_t *to, uint8_t *repack) {
    int64_t i = row / L;
    for (; i < row / L + PANELS && i * L < w->rows; i++, to += WIDE_PANEL) {
        const uint8_t *panel = w->panels + i * w->panel_bytes;
        int64_t b0 = k0 / BLOCK, rows = w->rows - i * L;
        if (w->mapped) {
            ZL_FN(pack)(w->type, rows < L ? rows : L, k0, n * BLOCK, w->data + i * L * w->row_bytes, w->row_bytes, repack);
            panel = repack, b0 = 0;
        }
        widen(fmt, panel, b0, n, to);
    }
    for (; (i - row / L) % MANY_P; i++, to += WIDE_PANEL) memset(to, 0, (size_t)(n * WIDE_BLOCK));
}

typedef struct {
    const uint8_t *wide;       /* the unpacked tile                                      */
    float *sums;               /* [t][ZL_TILE_ROWS]                                      */
    const zl_activation *x;
    const zl_result *r;
    int64_t row, t0, k0, blocks;
    int first, last;           /* strip of K                                             */
} strip_;

/* MANY_P panels from panel p0 on, N rows of x from t + i on, of the group of g rows that begins with row t: one strip */
ZL_INLINE void strip_tile(const int fmt, const int N, const strip_ *j, int p0, int64_t t, int64_t i, const int64_t g) {
    const int32_t *x = j->x->blocks + (t * (j->x->cols / BLOCK) + j->k0 / BLOCK * g) * ZL_X_WORDS + i;
    t += i;
    float *sums = j->sums + (t - j->t0) * ZL_TILE_ROWS + p0 * L;
    const uint8_t *panel[TILE_P];
    vf acc[TILE_P * TILE_N];
    UNROLL for (int p = 0; p < MANY_P; p++) panel[p] = j->wide + (p0 + p) * WIDE_PANEL;
    UNROLL for (int p = 0; p < MANY_P; p++)
        UNROLL for (int n = 0; n < N; n++) acc[p * N + n] = j->first ? vf_zero() : vf_load(sums + n * ZL_TILE_ROWS + p * L);
    tile(fmt, MANY_P, N, 0, panel, 0, j->blocks, x, g, acc);
    UNROLL for (int p = 0; p < MANY_P; p++) {
        UNROLL for (int n = 0; n < N; n++) {
            if (j->last) store_outputs(j->r, t + n, j->row + (p0 + p) * L, acc[p * N + n]);
            else vf_store(sums + n * ZL_TILE_ROWS + p * L, acc[p * N + n]);
        }
    }
}

/* All rows of x for all panels of the tile: panels outside, so that a pair of them stays in L1. */
ZL_INLINE void strip(const int fmt, const strip_ *j, int panels, int64_t t1) {
    for (int p = 0; p < panels; p += MANY_P) {
        int64_t t = j->t0, i = 0;
        for (; t + ZL_GROUP <= t1; t += ZL_GROUP) strip_tile(fmt, ZL_GROUP, j, p, t, 0, ZL_GROUP);
        const int64_t g = t1 - t; /* the last group: it ends with the last row of x */
        if (ZL_GROUP > 4 && i + 4 <= g) strip_tile(fmt, 4, j, p, t, i, g), i += 4;
        if (ZL_GROUP > 2 && i + 2 <= g) strip_tile(fmt, 2, j, p, t, i, g), i += 2;
        if (i < g) strip_tile(fmt, 1, j, p, t, i, g);
    }
}

void ZL_FN(many)(const struct zl_weight *w, int64_t row, int64_t t0, int64_t t1, const zl_activation *x, const zl_result *r,
                 uint8_t *scratch) {
    uint8_t *repack = scratch + ZL_FLOAT_BYTES;
    strip_ j = {.wide = scratch, .sums = (float *)(void *)(repack + ZL_REPACK_BYTES), .x = x, .r = r, .row = row, .t0 = t0};
    const int64_t left = w->rows - row;
    const int panels = left < ZL_TILE_ROWS ? (int)((left + L - 1) / L) : PANELS;
    for (j.k0 = 0; j.k0 < w->cols; j.k0 += ZL_STRIP) {
        j.blocks = (w->cols - j.k0 < ZL_STRIP ? w->cols - j.k0 : ZL_STRIP) / BLOCK;
        j.first = j.k0 == 0, j.last = j.k0 + ZL_STRIP >= w->cols;
#define FORMAT(fmt) case fmt: widen_rows(fmt, w, row, j.k0, j.blocks, scratch, repack); break;
        switch (w->type) {
            FORMAT(ZL_TYPE_Q4_0)
            FORMAT(ZL_TYPE_Q4_1)
            FORMAT(ZL_TYPE_Q5_0)
            FORMAT(ZL_TYPE_Q5_1)
            FORMAT(ZL_TYPE_Q8_0)
            FORMAT(ZL_TYPE_Q4_K)
            FORMAT(ZL_TYPE_Q5_K)
            FORMAT(ZL_TYPE_Q6_K)
        }
        switch (wide_of(w->type)) {
        case WIDE_4_ZERO: strip(WIDE_4_ZERO, &j, panels, t1); break;
        case WIDE_4_MIN: strip(WIDE_4_MIN, &j, panels, t1); break;
        case WIDE_5_ZERO: strip(WIDE_5_ZERO, &j, panels, t1); break;
        case WIDE_5_MIN: strip(WIDE_5_MIN, &j, panels, t1); break;
        case WIDE_6_HALVES: strip(WIDE_6_HALVES, &j, panels, t1); break;
        case WIDE_8: strip(WIDE_8, &j, panels, t1); break;
        }
    }
}
