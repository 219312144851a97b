/* linear_quant.c - products of a quantised weight with any number of rows of x: decode and prefill alike.
 *
 *                  K: all of it, block by block, ascending
 *      panel 0  |----------------------------->         x: group after group of rows that stand interleaved (linear.h)
 *      panel 1  |----------------------------->            each group makes  2 panels x ZL_GROUP rows  of y, in registers
 *
 * Two panels at a time use each broadcast of x twice: panel i of the first half of a run with panel i of its second half, so that each half
 * is one long stream, read forwards. (Neighbouring panels were two streams of a panel's length each: with 512 columns, 6 KB a panel, a
 * core then read 13 GB/s where it now reads 27, and 20 with 2048 columns.) With one row of x the memory sets the pace. With many, arithmetic does: the pair of panels comes from the L2 cache
 * for each further group, and codes are unpacked again each time, which hides behind the multiplications: with AVX-512 a block of a tile
 * is 128 vpdpbusd on one port of two, 16 conversions, 16 products, 16 to 32 multiply-adds: 160 to 176 cycles where a core takes
 * one such instruction a cycle, 80 to 73% of its peak. Unpacking 4-bit codes adds 24 instructions to other ports. (A prefill kernel that unpacked 64 rows at a
 * time into whole bytes was slower: its sums went through memory at each strip of K.)
 *
 * The scales of long formats are another matter: with more than one row of x those of the pair are made ready beforehand (linear_long.h).
 *
 * A weight that is mapped is packed panel by panel into scratch and goes the same way.
 */
#include "formats_wide.h"
#include "linear_long.h"
#include "linear_store.h"

typedef struct {
    const struct zl_weight *w;
    const uint8_t *panel[PAIR];
    int64_t at, end, half;     /* the first panel of the pair, the last panel of the run + 1, and from the first to the second of the pair */
    int64_t ahead;             /* how far ahead the panels are fetched in the first group's pass, in bytes */
    int32_t *ready;            /* room for the scales of a long format's pair            */
    const zl_activation *x;
    const zl_result *r;
} pair_job;

/* One row of x by a long format, superblock by superblock: scales, then codes */
ZL_INLINE void one_row(const int fmt, const pair_job *j, const int32_t *x, vf *acc) {
    for (int64_t b = 0; b < j->w->cols / BLOCK; b += 8, x += 8 * ZL_X_WORDS) {
        const uint8_t *const head[PAIR] = {head_of(fmt, j->panel[0], b), head_of(fmt, j->panel[1], b)};
        ready_super(fmt, head, j->ready);
        long_tile(long_shape_of(fmt), 1, j->ready, j->ahead, head, 1, x, 1, acc);
    }
}

/* N rows of x from row t + i on, of the group of g rows that begins with row t */
ZL_INLINE void pair_rows(const int fmt, const int N, const int lone, const pair_job *j, int64_t t, int64_t i, const int64_t g) {
    const int64_t blocks = j->w->cols / BLOCK, ahead = t + i == 0 ? j->ahead : 0;
    vf acc[PAIR * ZL_GROUP];
    UNROLL for (int a = 0; a < PAIR * N; a++) acc[a] = vf_zero();
    const int32_t *x = j->x->blocks + t * blocks * ZL_X_WORDS + i;
    if (!fmt_super(fmt)) tile(fmt, N, ahead, j->panel, blocks, x, g, acc);
    else if (lone) one_row(fmt, j, x, acc);
    else long_tile(long_shape_of(fmt), N, j->ready, ahead, j->panel, blocks / 8, x, g, acc);
    UNROLL for (int p = 0; p < PAIR; p++) {
        const int64_t i_panel = j->at + p * j->half;
        if (i_panel >= j->end) break;
        UNROLL for (int n = 0; n < N; n++) store_outputs(j->r, t + i + n, i_panel * L, acc[p * N + n]);
    }
}

ZL_INLINE void pairs(const int fmt, const struct zl_weight *w, int64_t begin, int64_t end, int64_t t0, int64_t t1, const zl_activation *x,
                     const zl_result *r, uint8_t *scratch) {
    enum { AHEAD = 2048 }; /* the memory's latency at the speed at which a core consumes bytes */
    const int many = fmt_super(fmt) && t1 - t0 > 1;
    int32_t *ready = (int32_t *)(void *)(scratch + (w->mapped ? PAIR * w->panel_bytes : 0));
    pair_job j = {.w = w, .end = end, .half = (end - begin + 1) / 2, .ahead = many ? w->panel_bytes : AHEAD, .ready = ready, .x = x, .r = r};
    for (j.at = begin; j.at < begin + j.half; j.at++) {
        /* Where the number of panels is odd the last one goes with itself and is stored once: no second copy of all this for one panel. */
        for (int p = 0; p < PAIR; p++) j.panel[p] = panel_of(w, j.at + p * j.half < end ? j.at + p * j.half : j.at, scratch + p * w->panel_bytes);
        if (t1 - t0 == 1) { /* decode */
            pair_rows(fmt, 1, 1, &j, t0, 0, 1);
            continue;
        }
        for (int64_t b = 0; many && b < w->cols / BLOCK; b += 8)
            ready_super(fmt, (const uint8_t *const[]){head_of(fmt, j.panel[0], b), head_of(fmt, j.panel[1], b)}, ready + b / 8 * READY);
        /* Whole groups; of the last one 4, 2 and 1 rows: reading the panels again is cheaper than code for every number. */
        int64_t t = t0, i = 0;
        for (; t + ZL_GROUP <= t1; t += ZL_GROUP) pair_rows(fmt, ZL_GROUP, 0, &j, t, 0, ZL_GROUP);
        const int64_t g = t1 - t; /* the last group ends with the last row of x */
        if (ZL_GROUP > 4 && i + 4 <= g) pair_rows(fmt, 4, 0, &j, t, i, g), i += 4;
        if (ZL_GROUP > 2 && i + 2 <= g) pair_rows(fmt, 2, 0, &j, t, i, g), i += 2;
        if (i < g) pair_rows(fmt, 1, 0, &j, t, i, g);
    }
}

ZL_INLINE int widened_first(const int fmt, int64_t rows) { return ZL_WIDENS_Q6_K && fmt == ZL_TYPE_Q6_K && rows > 2 * ZL_GROUP; }

#define FORMAT(fmt) case fmt: pairs(fmt, w, begin, end, t0, t1, x, r, scratch); return;
void ZL_FN(linear_quant)(const struct zl_weight *w, int64_t begin, int64_t end, int64_t t0, int64_t t1, const zl_activation *x,
                         const zl_result *r, uint8_t *scratch) {
    if (widened_first(w->type, t1 - t0)) {
        ZL_FN(linear_wide)(w, begin, end, t0, t1, x, r, scratch);
        return;
    }
    switch (w->type) {
        FORMAT(ZL_TYPE_Q4_0)
        FORMAT(ZL_TYPE_Q4_1)
        FORMAT(ZL_TYPE_Q5_0)
        FORMAT(ZL_TYPE_Q5_1)
        FORMAT(ZL_TYPE_Q8_0)
        FORMAT(ZL_TYPE_Q4_K)
        FORMAT(ZL_TYPE_Q5_K)
        FORMAT(ZL_TYPE_Q6_K)
    default: ZL_FN(linear_wide)(w, begin, end, t0, t1, x, r, scratch);
    }
}
