/* selftest_wide.c - products with the formats that are widened (kernels/formats_wide.h), with no Python.
 *
 * Scales are powers of two and x is made of integers with a 127 in each block, so that its scale is 1: every operation of a product is then
 * exact whatever its order, and the result is the sum of values times x, with the values from dequantize_reference.h, to the bit. That the
 * order does not depend on how a product is run is seen with ordinary numbers: one way's bits are all ways' bits. Arrays end at a page
 * that faults.
 */
#include "dequantize_reference.h"
#include "guarded.h"
#include "selftest.h"
#include <stdlib.h>

static int failures;

static uint64_t seed = 0x2545f4914f6cdd1du;
static uint32_t next(void) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}

static void put_half(uint8_t *p, uint16_t h) { memcpy(p, &h, 2); }

/* Scales of a quant block: 2^-4, negative now and then, or of ordinary size. */
static void put_scales(int type, uint8_t *p, int ordinary) {
    uint16_t h = (uint16_t)(next() % 4 ? 0x2c00 : 0xac00);
    if (ordinary) h = (uint16_t)((next() & 0x83ffu) | (8u + next() % 5u) << 10);
    switch (type) {
    case ZL_TYPE_Q2_K: put_half(p + 80, h), put_half(p + 82, (uint16_t)(0x2c00 | (ordinary ? next() & 0x3ff : 0))); break;
    case ZL_TYPE_Q3_K: put_half(p + 108, h); break;
    case ZL_TYPE_TQ1_0: put_half(p + 52, h); break;
    case ZL_TYPE_TQ2_0: put_half(p + 64, h); break;
    case ZL_TYPE_MXFP4: p[0] = (uint8_t)(124 + (ordinary ? next() % 8 : 0)); break;
    case ZL_TYPE_NVFP4: for (int i = 0; i < 4; i++) p[i] = (uint8_t)(0x38 + 8 * (next() % 2) + (ordinary ? next() % 8 : 0)); break;
    case ZL_TYPE_IQ1_M: for (int i = 0; i < 4; i++) p[49 + 2 * i] = (uint8_t)((p[49 + 2 * i] & 15) | ((h >> (4 * i)) & 15) << 4); break;
    default: put_half(p, h);
    }
}
/* Random codes. */
static void fill(int type, const zl_format *f, uint8_t *p, int64_t blocks, int ordinary) {
    for (int64_t b = 0; b < blocks; b++, p += f->bytes) {
        for (int i = 0; i < f->bytes; i++) p[i] = (uint8_t)next();
        put_scales(type, p, ordinary);
    }
}

static void run(zl_ctx *ctx, zl_weight *w, float *x, int64_t t, float *y) {
    zl_tensor tensors[3] = {{.kind = ZL_EXTERNAL, .rows = t, .cols = w->cols, .data = x}, {.kind = ZL_WEIGHT, .data = w},
                            {.kind = ZL_EXTERNAL, .rows = t, .cols = w->rows, .data = y}};
    zl_op op = {.code = ZL_OP_LINEAR, .in = {0, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {2, -1, -1, -1}, .ip = {1}};
    zl_step step = {.n_rows = (int32_t)t, .n_seq = 1};
    CHECK(zl_run(ctx, &op, 1, tensors, 3, &step) == ZL_OK, "linear");
}

static void test_exact(zl_ctx *ctx, int f, int64_t rows, int64_t cols, int64_t t) {
    const int type = other_formats[f].type, block = other_formats[f].cols;
    const zl_format *format = zl_format_of(type);
    const int64_t row_bytes = cols / block * format->bytes, bytes = rows * row_bytes;
    guarded file = guard(bytes), x = guard(t * cols * 4), y = guard(t * rows * 4), row = guard(cols * 4);
    fill(type, format, file.p, rows * cols / block, 0);
    float *v = x.p;
    for (int64_t i = 0; i < t * cols; i++) v[i] = next() % 8 ? 0 : (float)((int)(next() % 255) - 127);
    for (int64_t i = 0; i < t * cols; i += 32) v[i + next() % 32] = next() % 2 ? 127 : -127;
    float *values = malloc((size_t)(rows * cols) * 4);
    for (int64_t i = 0; i < rows * cols; i++) values[i] = other_formats[f].value((uint8_t *)file.p + i / block * format->bytes, (int)(i % block));
    for (int mapped = 0; mapped < 2; mapped++) {
        zl_weight *w = NULL;
        CHECK(zl_weight_new(ctx, type, rows, cols, file.p, bytes, mapped, &w) == ZL_OK, "type %d", type);
        if (!w) continue;
        const int64_t lanes = w->k->lanes;
        CHECK(zl_weight_bytes(w) == (mapped ? 0 : (rows + lanes - 1) / lanes * lanes * row_bytes), "type %d", type);
        int wrong = 0;
        for (int64_t r = 0; r < rows; r++) {
            zl_weight_row(w, r, row.p);
            for (int64_t k = 0; k < cols; k++) wrong += memcmp((float *)row.p + k, values + r * cols + k, 4) != 0;
        }
        CHECK(wrong == 0, "type %d, mapped %d: %d values in rows", type, mapped, wrong);
        run(ctx, w, v, t, y.p);
        wrong = 0;
        for (int64_t i = 0; i < t * rows; i++) {
            double want = 0;
            for (int64_t k = 0; k < cols; k++) want += (double)values[i % rows * cols + k] * (double)v[i / rows * cols + k];
            wrong += (double)((float *)y.p)[i] != want;
        }
        CHECK(wrong == 0, "type %d (%d x %d), %d rows, mapped %d: %d outputs are not exact", type, (int)rows, (int)cols, (int)t, mapped, wrong);
        zl_weight_free(w);
    }
    free(values);
    release(&file), release(&x), release(&y), release(&row);
}

/* Sums about as large as they come: every x is 127, with the sign that its value has in one row. Sums that 16 bits hold must not overflow then. What an
 * integer sum loses as a float, the result has lost, and nothing else. */
static void test_largest(zl_ctx *ctx, int f) {
    enum { ROWS = 9, T = 9, BLOCK = 256 };
    const int type = other_formats[f].type, block = other_formats[f].cols;
    const zl_format *format = zl_format_of(type);
    uint8_t file[ROWS * 256];
    float values[ROWS * BLOCK], x[BLOCK], many[T * BLOCK], out[(1 + T) * ROWS];
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < format->bytes; i++) file[r * format->bytes + i] = r == 0 ? 255 : r == 1 ? 0 : (uint8_t)next();
        put_scales(type, file + r * format->bytes, 0);
        if (type == ZL_TYPE_MXFP4) file[r * format->bytes] = (uint8_t)(r < 5 ? r : 236 + r); /* the least scales are no normal floats */
    }
    for (int i = 0; i < ROWS * block; i++) values[i] = other_formats[f].value(file + i / block * format->bytes, i % block);
    zl_weight *w = NULL;
    CHECK(zl_weight_new(ctx, type, ROWS, block, file, ROWS * format->bytes, 0, &w) == ZL_OK, "type %d", type);
    for (int r = 0; w && r < ROWS; r++) {
        for (int k = 0; k < block; k++) x[k] = values[r * block + k] < 0 ? -127 : 127;
        for (int i = 0; i < T * block; i++) many[i] = x[i % block];
        run(ctx, w, x, 1, out), run(ctx, w, many, T, out + ROWS);
        for (int i = 0; i < ROWS; i++) {
            double want = 0;
            for (int k = 0; k < block; k++) want += (double)values[i * block + k] * (double)x[k];
            for (int t = 0; t <= T; t++) { /* by one row of x, and each of nine */
                const float got = out[t * ROWS + i];
                CHECK(got == (float)want, "type %d, signs of row %d: row %d, %d, is %a, not %a", type, r, i, t, (double)got, want);
            }
        }
    }
    zl_weight_free(w);
}

/* Rows one by one, in small and large batches, from panels and from the file: the same bits. */
static void test_ways(zl_ctx *ctx, int f) {
    enum { ROWS = 37, T = 27 };
    static const int batches[] = {1, 2, 3, 5, 6, 10};
    const int type = other_formats[f].type, block = other_formats[f].cols;
    const zl_format *format = zl_format_of(type);
    const int64_t cols = block < 256 ? 320 / block * block : 512, bytes = ROWS * cols / block * format->bytes;
    guarded file = guard(bytes), x = guard(T * cols * 4), y = guard(T * ROWS * 4), some = guard(T * ROWS * 4);
    fill(type, format, file.p, ROWS * cols / block, 1);
    for (int64_t i = 0; i < T * cols; i++) ((float *)x.p)[i] = (float)((int)(next() % 20001) - 10000) * 0.001f / (float)(1 << i / 32 % 7);
    zl_weight *w[2] = {NULL, NULL};
    for (int m = 0; m < 2; m++) CHECK(zl_weight_new(ctx, type, ROWS, cols, file.p, bytes, m, &w[m]) == ZL_OK, "type %d", type);
    run(ctx, w[0], x.p, T, y.p);
    for (int m = 0; m < 2; m++) {
        int64_t from = 0;
        for (size_t i = 0; i < sizeof batches / sizeof batches[0]; from += batches[i++])
            run(ctx, w[m], (float *)x.p + from * cols, batches[i], (float *)some.p + from * ROWS);
        CHECK(from == T && memcmp(y.p, some.p, T * ROWS * 4) == 0, "type %d, mapped %d: other bits in small batches", type, m);
        run(ctx, w[m], x.p, T, some.p);
        CHECK(memcmp(y.p, some.p, T * ROWS * 4) == 0, "type %d, mapped %d: other bits", type, m);
        zl_weight_free(w[m]);
    }
    release(&file), release(&x), release(&y), release(&some);
}

int selftest_wide(zl_ctx *ctx) {
    failures = 0;
    for (int f = 0; f < N_OTHERS; f++) {
        if (zl_format_of(other_formats[f].type)->multiplied != ZL_WIDENED) continue;
        const int block = other_formats[f].cols;
        test_exact(ctx, f, 1, block, 1);
        test_exact(ctx, f, 9, block, 33);
        test_exact(ctx, f, 35, block < 256 ? 2 * block : 512, 13);
        test_largest(ctx, f);
        test_ways(ctx, f);
    }
    return failures;
}
