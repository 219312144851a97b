/* quantized_back.h - rows that are made into a number format and read again: what the suites of quantisers share.
 *
 * For CHECK the suite declares its `failures` before it includes this.
 */
#ifndef ZL_QUANTIZED_BACK_H
#define ZL_QUANTIZED_BACK_H
#include "guarded.h"
#include "selftest.h"

/* Uniform in [-1, 1), by Marsaglia's xorshift; the seed moves on. */
static inline float uniform_of(uint64_t *seed) {
    *seed ^= *seed << 13, *seed ^= *seed >> 7, *seed ^= *seed << 17;
    return (float)(int32_t)(*seed >> 32) * 0x1p-31f;
}
/* The sum of six of these: a bell. */
static inline float bell_of(uint64_t *seed) {
    float bell = 0;
    for (int k = 0; k < 6; k++) bell += uniform_of(seed);
    return bell;
}

/* How many values differ. Zeros of unlike signs are the same: a reader keeps the sign of what it multiplies. */
static inline int64_t unlike(const float *a, const float *b, int64_t n) {
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; i++) wrong += !(a[i] == b[i]);
    return wrong;
}

/* x (rows, cols), `times` times over, so that there are several chunks: what a reader makes of the blocks is want (rows, cols) each time.
 * importance (cols) or NULL. All memory ends before a page that faults. */
static void check_back(zl_ctx *ctx, int type, int times, int rows, int cols, const float *x, const float *importance, const float *want) {
    const zl_format *f = zl_format_of(type);
    const int64_t n = (int64_t)rows * cols, all = times * n, bytes = all / f->cols * f->bytes;
    guarded values = guard(all * 4), weights = guard(cols * 4), blocks = guard(bytes), back = guard(all * 4);
    for (int t = 0; t < times; t++) memcpy((float *)values.p + t * n, x, (size_t)n * sizeof *x);
    if (importance) memcpy(weights.p, importance, (size_t)cols * sizeof *importance);
    memset(blocks.p, 0xa5, (size_t)bytes);
    CHECK(zl_quantize_rows(ctx, type, times * rows, cols, values.p, importance ? weights.p : NULL, blocks.p, bytes) == ZL_OK, "%s", f->name);
    CHECK(zl_dequantize(ctx, type, all, blocks.p, bytes, back.p) == ZL_OK, "%s", f->name);
    for (int t = 0; t < times; t++)
        for (int64_t i = 0; i < n; i += 256) {
            const int64_t wrong = unlike((float *)back.p + t * n + i, want + i, n - i < 256 ? n - i : 256);
            CHECK(wrong == 0, "%s, %s importance: %d values from %d on", f->name, importance ? "with" : "without", (int)wrong, (int)i);
        }
    release(&values), release(&weights), release(&blocks), release(&back);
}
#endif
