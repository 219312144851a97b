/* linear_reference.h - what a product must give, value by value and in scalar code: the number formats read from their file bytes, the
 * activation format, and the order of float operations. Written from the definitions, not from the kernels: no panel, no vector, no word.
 */
#ifndef ZL_LINEAR_REFERENCE_H
#define ZL_LINEAR_REFERENCE_H
#include "../core/core.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int all_types[] = {ZL_TYPE_F32,  ZL_TYPE_F16,  ZL_TYPE_BF16, ZL_TYPE_Q4_0, ZL_TYPE_Q4_1, ZL_TYPE_Q5_0,
                                ZL_TYPE_Q5_1, ZL_TYPE_Q8_0, ZL_TYPE_Q4_K, ZL_TYPE_Q5_K, ZL_TYPE_Q6_K};
enum { N_TYPES = sizeof all_types / sizeof all_types[0] };

typedef struct {
    int cols, bytes; /* of a quant block in the file */
} geometry;
static geometry geometry_of(int type) {
    switch (type) {
    case ZL_TYPE_F32: return (geometry){1, 4};
    case ZL_TYPE_F16: case ZL_TYPE_BF16: return (geometry){1, 2};
    case ZL_TYPE_Q4_0: return (geometry){32, 18};
    case ZL_TYPE_Q4_1: return (geometry){32, 20};
    case ZL_TYPE_Q5_0: return (geometry){32, 22};
    case ZL_TYPE_Q5_1: return (geometry){32, 24};
    case ZL_TYPE_Q8_0: return (geometry){32, 34};
    case ZL_TYPE_Q4_K: return (geometry){256, 144};
    case ZL_TYPE_Q5_K: return (geometry){256, 176};
    default: return (geometry){256, 210};
    }
}
static int is_quantised(int type) { return geometry_of(type).cols > 1; }
static inline int64_t row_bytes_of(int type, int64_t cols) { return cols / geometry_of(type).cols * geometry_of(type).bytes; }

/* A half float by arithmetic: sign * mantissa * 2^exponent. */
static float half_of(const uint8_t *p) {
    int h = p[0] | p[1] << 8, e = (h >> 10) & 31, m = h & 1023;
    float size = e == 31 ? (m ? NAN : INFINITY) : e ? ldexpf((float)(m + 1024), e - 25) : ldexpf((float)m, -24);
    return h >> 15 ? -size : size;
}
static float float_of(const uint8_t *p) { float f; memcpy(&f, p, 4); return f; }

/* Value k of a row: scale * (code - zero) + offset. Of a superblock scale is d * sc, offset -(dmin * mn). */
typedef struct {
    int code, zero;
    float scale, offset;
    int has_offset;
    int sc, mn;
    float d, dmin;
} value;

static value quant_value(int type, const uint8_t *row, int64_t k) {
    const geometry g = geometry_of(type);
    const uint8_t *b = row + k / g.cols * g.bytes;
    const int i = (int)(k % g.cols), i32 = i % 32, block = i / 32;
    value v = {0, 0, 0, 0, 0, 0, 0, 0, 0};
    if (type == ZL_TYPE_Q6_K) {
        const int half = i / 128, at = i % 128, byte = at % 64;
        const int low = at < 64 ? b[64 * half + byte] & 15 : b[64 * half + byte] >> 4;
        v.code = low + 16 * ((b[128 + 32 * half + i32] >> (2 * (at / 32))) & 3);
        v.zero = 32;
        v.sc = (int8_t)b[192 + i / 16], v.d = half_of(b + 208);
        v.scale = v.d * (float)v.sc;
    } else if (g.cols == 256) {
        const uint8_t *s = b + 4, *qs = b + (type == ZL_TYPE_Q5_K ? 48 : 16);
        int sc = block < 4 ? s[block] % 64 : s[block + 4] % 16 + 16 * (s[block - 4] / 64);
        int mn = block < 4 ? s[block + 4] % 64 : s[block + 4] / 16 + 16 * (s[block] / 64);
        v.code = block % 2 ? qs[block / 2 * 32 + i32] >> 4 : qs[block / 2 * 32 + i32] & 15;
        if (type == ZL_TYPE_Q5_K) v.code += 16 * ((b[16 + i32] >> block) & 1);
        v.sc = sc, v.mn = mn, v.d = half_of(b), v.dmin = half_of(b + 2);
        v.scale = v.d * (float)sc;
        v.offset = -(v.dmin * (float)mn);
        v.has_offset = 1;
    } else if (type == ZL_TYPE_Q8_0) {
        v.code = (int8_t)b[2 + i];
        v.scale = half_of(b);
    } else {
        const int five = type == ZL_TYPE_Q5_0 || type == ZL_TYPE_Q5_1;
        v.has_offset = type == ZL_TYPE_Q4_1 || type == ZL_TYPE_Q5_1;
        const uint8_t *high = b + 2 + 2 * v.has_offset, *qs = high + 4 * five;
        v.code = i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
        if (five) v.code += 16 * ((high[i / 8] >> (i % 8)) & 1);
        v.zero = v.has_offset ? 0 : five ? 16 : 8;
        v.scale = half_of(b);
        if (v.has_offset) v.offset = half_of(b + 2);
    }
    return v;
}

/* Value k of a row as a float, as ggml has it: a product and a sum, each rounded. */
static float weight_value(int type, const uint8_t *row, int64_t k) {
    if (type == ZL_TYPE_F32) return float_of(row + 4 * k);
    if (type == ZL_TYPE_F16) return half_of(row + 2 * k);
    if (type == ZL_TYPE_BF16) return float_of((const uint8_t[]){0, 0, row[2 * k], row[2 * k + 1]});
    value v = quant_value(type, row, k);
    float y = v.scale * (float)(v.code - v.zero);
    return v.has_offset ? y + v.offset : y;
}

static float largest_of(int n, const float *x) {
    float amax = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > amax || x[i] != x[i]) amax = fabsf(x[i]);
        else if (amax != amax) break;
    return amax;
}
/* One activation block; of n = 256 values that it is among, rounded by what is left of their largest when it is halved up to four times. */
static void quantize_by(int n, const float *among, const float *x, int8_t *q, float *d, int *sum) {
    float amax = largest_of(n, among);
    const int finite = isfinite(amax), tiny = amax < (n == 32 ? 0x1p-119f : 0x1p-115f);
    for (int j = 0; n > 32 && finite && j < 4 && largest_of(32, x) <= amax / 2; j++) amax /= 2;
    *sum = 0;
    *d = !finite ? NAN : tiny ? 0 : amax / 127.0f;
    const float inverse = finite && !tiny ? 127.0f / amax : 0;
    for (int i = 0; i < 32; i++) {
        float r = inverse != 0 ? nearbyintf(x[i] * inverse) : 0;
        q[i] = (int8_t)(r > 127 ? 127 : r < -127 ? -127 : r);
        *sum += q[i];
    }
}
/* Block b of a row. */
static void quantize_block(int per, const float *row, int64_t b, int8_t *q, float *d, int *sum) {
    quantize_by(per, row + b * 32 / per * per, row + b * 32, q, d, sum);
}

typedef struct {
    int8_t q[32];
    float d;
    int sum;
} activation; /* one block */

/* Of eight blocks a sixteenth of the largest scale, of which all are powers of two; NaN where one is. */
static float unit_of(const activation *x) {
    float d = x->d;
    for (int j = 1; j < 8; j++)
        if (!(x[j].d <= d)) d = x[j].d;
    return d / 16;
}

/* One output: a row of W, value by value, times a row of x, in the order of kernels/linear.h. `fused`: multiply-adds round once. */
static inline float output_float(const float *w, const float *x, int64_t cols, int fused) {
    float acc = 0;
    for (int64_t k = 0; k < cols; k++) acc = fused ? fmaf(w[k], x[k], acc) : w[k] * x[k] + acc;
    return acc;
}
static inline float output_long(const value *w, const activation *x, int64_t cols, int fused) {
    float acc = 0;
    for (; cols > 0; cols -= 256, w += 256, x += 8) {
        int64_t sum = 0, least = 0;
        const float unit = unit_of(x);
        for (int i = 0; i < 256; i++) {
            const int k = unit > 0 ? (int)(x[i / 32].d / unit) : 1;
            sum += (int64_t)((w[i].code - w[i].zero) * x[i / 32].q[i % 32]) * w[i].sc * k;
            least -= w[i].mn * x[i / 32].q[i % 32] * k;
        }
        float t = (float)sum * w->d;
        if (w->has_offset) t = fused ? fmaf(w->dmin, (float)least, t) : w->dmin * (float)least + t;
        acc = fused ? fmaf(t, unit, acc) : t * unit + acc;
    }
    return acc;
}
static inline float output_quant(const value *w, const activation *x, int64_t cols, int fused) {
    float acc = 0;
    for (; cols > 0; cols -= 32, w += 32, x++) {
        int sum = 0;
        for (int i = 0; i < 32; i++) sum += (w[i].code - w[i].zero) * x->q[i];
        float t = (float)sum * w->scale;
        if (w->has_offset) t = fused ? fmaf(w->offset, (float)x->sum, t) : w->offset * (float)x->sum + t;
        acc = fused ? fmaf(t, x->d, acc) : t * x->d + acc;
    }
    return acc;
}

/* All outputs (t, rows); values of W are read, and rows of x rounded, once each: under an emulator that is most of the work. */
__attribute__((unused)) static void outputs(int type, const uint8_t *file, int64_t rows, const float *x, int64_t t, int64_t cols, int fused, float *y) {
    const int64_t blocks = is_quantised(type) ? cols / 32 : 0;
    const int is_long = geometry_of(type).cols == 256;
    value *codes = malloc((size_t)cols * sizeof *codes);
    float *values = malloc((size_t)cols * sizeof *values);
    activation *a = malloc((size_t)(t * blocks + 1) * sizeof *a);
    if (!codes || !values || !a) abort();
    for (int64_t b = 0; b < t * blocks; b++) quantize_block(is_long ? 256 : 32, x, b, a[b].q, &a[b].d, &a[b].sum);
    for (int64_t r = 0; r < rows; r++, file += row_bytes_of(type, cols)) {
        for (int64_t k = 0; k < cols; k++) {
            if (blocks) codes[k] = quant_value(type, file, k);
            else values[k] = weight_value(type, file, k);
        }
        for (int64_t i = 0; i < t; i++)
            y[i * rows + r] = is_long  ? output_long(codes, a + i * blocks, cols, fused)
                              : blocks ? output_quant(codes, a + i * blocks, cols, fused)
                                       : output_float(values, x + i * cols, cols, fused);
    }
    free(codes), free(values), free(a);
}

/* ---- the same of products in bf16: pairs of columns, both factors rounded, denormals flushed ---- */

static float rounded_bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    if (x != x) return x;
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &u, 4);
    return x;
}
static float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }
static float fma_flushed(float a, float b, float c) { return flushed(fmaf(flushed(a), flushed(b), flushed(c))); }

/* Halfway between two bf16, the even one below or above. */
__attribute__((unused)) static float tie(int64_t i) {
    const uint32_t u = (uint32_t)(0x3f80 + i % 50) << 16 | 0x8000u;
    float x;
    memcpy(&x, &u, 4);
    return i % 2 ? x : -x;
}

/* The order of kernels/linear.h: the odd column of a pair first. */
__attribute__((unused)) static float output_bf16(int type, const uint8_t *row, const float *x, int64_t cols) {
    float acc = 0;
    for (int64_t k = 0; k < cols; k += 2) {
        for (int64_t i = k + 1; i >= k; i--) {
            const float w = i < cols ? rounded_bf16(weight_value(type, row, i)) : 0, v = i < cols ? rounded_bf16(x[i]) : 0;
            acc = fma_flushed(w, v, acc);
        }
    }
    return acc;
}
#endif
