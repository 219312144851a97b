/* quantize_iq_reference.h - the quantisers that search, IQ and Q4_0 to Q5_1 with importance, as plain loops: one scale after another, every
 * vector of the codebook tried. For the selftest.
 *
 * It gives values, not bytes: what a reader makes of the blocks must be these. Sums go in the order that kernels/quantize_eight.h states
 * (nothing is fused), so equality is that of bits. Written from the description in iq_quantizers.py and iq4_quantizers.py.
 */
#ifndef ZL_QUANTIZE_IQ_REFERENCE_H
#define ZL_QUANTIZE_IQ_REFERENCE_H
#include "../include/zl.h"
#include "../kernels/codebooks.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    int type, size, block, scales, vectors, trits, parity; /* trits: 1 one shift a block, 2 one a vector */
    float unit, top, by_top[8], by_mean[8];
    const void *grid;
} grid_format;
#define TOPS {0.5f, 0.6625f, 0.825f, 0.9875f, 1.15f, 0, 0, 0}
#define MEANS(a, b, c) {0, 0, 0, 0, 0, a, b, c}
#define OF_TRITS {0.3f, 0.53f, 0.77f, 1, 0, 0, 0, 0}, {0, 0, 0, 0, 0.096f, 0.139f, 0.181f, 0.224f}, zl_grid_iq1
static const grid_format grid_formats[] = {
    {ZL_TYPE_IQ1_S, 8, 32, 8, 2048, 1, 0, 0.125f, 9, OF_TRITS},
    {ZL_TYPE_IQ1_M, 8, 16, 8, 2048, 2, 0, 0.125f, 9, OF_TRITS},
    {ZL_TYPE_IQ2_XXS, 8, 32, 16, 256, 0, 1, 0.125f, 43, TOPS, MEANS(0.0346f, 0.0519f, 0.0692f), zl_grid_iq2_xxs},
    {ZL_TYPE_IQ2_XS, 8, 16, 16, 512, 0, 1, 0.125f, 43, TOPS, MEANS(0.033f, 0.0495f, 0.066f), zl_grid_iq2_xs},
    {ZL_TYPE_IQ2_S, 8, 16, 16, 1024, 0, 0, 0.125f, 43, TOPS, MEANS(0.033f, 0.0495f, 0.066f), zl_grid_iq2_s},
    {ZL_TYPE_IQ3_XXS, 4, 32, 16, 256, 0, 1, 0.25f, 62, TOPS, MEANS(0.0259f, 0.0389f, 0.0519f), zl_grid_iq3_xxs},
    {ZL_TYPE_IQ3_S, 4, 32, 16, 512, 0, 0, 1, 15, TOPS, MEANS(0.105f, 0.158f, 0.211f), zl_grid_iq3_s},
};
enum { N_GRIDS = sizeof grid_formats / sizeof grid_formats[0] };

/* the sum of n terms: those a multiple of 8 apart first, then halves onto halves */
static float sum_by_8(int n, const float *t) {
    float s[8];
    for (int i = 0; i < 8; i++) s[i] = t[i];
    for (int i = 8; i < n; i++) s[i % 8] += t[i];
    for (int w = 4; w; w /= 2)
        for (int i = 0; i < w; i++) s[i] += s[i + w];
    return s[0];
}

static void plain_weights(int n, const float *x, const float *h, float *w) {
    float t[256] = {0};
    for (int i = 0; i < n; i++) t[i] = x[i] * x[i];
    const float mean = sum_by_8(n, t) / (float)n, mean_h = h ? sum_by_8(n, h) / (float)n : 0;
    for (int i = 0; i < n; i++) {
        w[i] = sqrtf(mean + t[i]);
        if (h) w[i] *= (mean_h > 0 ? h[i] / mean_h : 1.0f) + 0x1p-12f;
    }
}

/* half precision and back */
static float through_half(float x) {
    float y;
    uint32_t b, s;
    memcpy(&b, &x, 4);
    s = b & 0x80000000u;
    b &= 0x7fffffffu;
    memcpy(&y, &b, 4);
    if (y < 0x1p-14f) y = (y + 0x1p-1f) - 0x1p-1f; /* subnormal halves are multiples of 2^-24 */
    else b += 0xfff + (b >> 13 & 1), b &= ~0x1fffu, memcpy(&y, &b, 4);
    return s ? -y : y;
}

static float element(const grid_format *f, int e, int i) {
    const int byte = (int)(f->size == 8 ? ((const uint64_t *)f->grid)[e] >> (8 * i) : ((const uint32_t *)f->grid)[e] >> (8 * i)) & 255;
    return f->trits ? 8.0f * (float)(int8_t)byte : (float)byte;
}

/* sum w (x - s m)^2 of half a vector: pairs, then pairs of pairs */
static float half_cost(const grid_format *f, int e, int half, float shift, const float *x, const float *w, float s) {
    float c[4] = {0};
    for (int i = 0; i < f->size / 2; i++) {
        const int k = half * f->size / 2 + i;
        const float t = x[k] - s * (element(f, e, k) + shift);
        c[i] = w[k] * t * t;
    }
    return f->size == 4 ? c[0] + c[1] : (c[0] + c[1]) + (c[2] + c[3]);
}

/* Of vectors with the same upper half the first with the cheapest lower half stands for all; of those the first that is cheapest. */
static float best_vector(const grid_format *f, float shift, const float *x, const float *w, float s, int *vector) {
    const int bits = 4 * f->size;
    float best = INFINITY;
    for (int e = 0; e < f->vectors;) {
        const uint64_t upper = (f->size == 8 ? ((const uint64_t *)f->grid)[e] : ((const uint32_t *)f->grid)[e]) >> bits;
        float lower = INFINITY;
        int which = e;
        const float own = half_cost(f, e, 1, shift, x, w, s);
        for (; e < f->vectors && (f->size == 8 ? ((const uint64_t *)f->grid)[e] : ((const uint32_t *)f->grid)[e]) >> bits == upper; e++) {
            const float c = half_cost(f, e, 0, shift, x, w, s);
            if (c < lower) lower = c, which = e;
        }
        if (lower + own < best) best = lower + own, *vector = which;
    }
    return best;
}

/* if every vector of trits were there */
static float any_vector(float shift, const float *x, const float *w, float s) {
    float c[8];
    for (int i = 0; i < 8; i++) {
        c[i] = INFINITY;
        for (int m = -8; m <= 8; m += 8) {
            const float t = x[i] - s * ((float)m + shift), cost = w[i] * t * t;
            c[i] = cost < c[i] ? cost : c[i];
        }
    }
    return ((c[0] + c[1]) + (c[2] + c[3])) + ((c[4] + c[5]) + (c[6] + c[7]));
}

/* -> cost; vectors and shifts of the block's groups */
static float plain_block(const grid_format *f, const float *x, const float *w, float s, int first, int *vectors, float *shifts) {
    const int groups = f->block / f->size;
    float total[2] = {0, 0};
    int tried[2][8] = {{0}};
    for (int g = 0; g < groups; g++) {
        float cost[2];
        for (int k = 0; k < (f->trits ? 2 : 1); k++) {
            const float shift = f->trits ? (float)(1 - 2 * k) : 0.0f, *xg = x + g * f->size, *wg = w + g * f->size;
            cost[k] = first && f->trits ? any_vector(shift, xg, wg, s) : best_vector(f, shift, xg, wg, s, &tried[k][g]);
            if (f->trits != 2) total[k] += cost[k];
        }
        if (f->trits == 2) { /* each vector has its own shift */
            const int k = cost[1] < cost[0];
            total[0] += cost[k], vectors[g] = tried[k][g], shifts[g] = (float)(1 - 2 * k);
        }
    }
    if (f->trits == 2) return total[0];
    const int k = f->trits && total[1] < total[0];
    for (int g = 0; g < groups; g++) vectors[g] = tried[k][g], shifts[g] = (float)(1 - 2 * k);
    return total[k];
}

static void plain_grid(const grid_format *f, const float *x, const float *h, float *y) {
    float w[256], a[256], sign[256], s[16], t[256], u[256], m[256], odd[16], most = 0, top = 0;
    const int blocks = 256 / f->block;
    plain_weights(256, x, h, w);
    for (int i = 0; i < 256; i++) {
        sign[i] = x[i] < 0 && !f->trits ? -1.0f : 1.0f;
        a[i] = f->trits ? x[i] : fabsf(x[i]);
        top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    }
    memset(y, 0, 256 * sizeof *y);
    if (top < 0x1p-40f) return;
    for (int k = 0; f->parity && k < 256; k += 8) {
        int minuses = 0, least = k;
        for (int i = k; i < k + 8; i++) {
            minuses += sign[i] < 0;
            if (w[i] * a[i] < w[least] * a[least]) least = i;
        }
        if (minuses % 2) a[least] = -a[least], sign[least] = -sign[least];
    }
    int vectors[8];
    float shifts[8];
    for (int b = 0; b < blocks; b++) {
        const float *xb = a + b * f->block, *wb = w + b * f->block;
        float largest = 0, best = INFINITY;
        for (int i = 0; i < f->block; i++) {
            largest = fabsf(xb[i]) > largest ? fabsf(xb[i]) : largest;
            t[i] = wb[i] * xb[i] * xb[i];
        }
        const float mean = sqrtf(sum_by_8(f->block, t) / fmaxf(sum_by_8(f->block, wb), 0x1p-126f));
        for (int i = 0; i < 8; i++) {
            const float scale = largest / f->top * f->by_top[i] + mean * f->by_mean[i];
            const float cost = plain_block(f, xb, wb, scale, 1, vectors, shifts);
            if (cost < best) best = cost, s[b] = scale;
        }
        most = s[b] > most ? s[b] : most;
    }
    const float per = most / (float)(2 * f->scales - 1);
    for (int b = 0; b < blocks; b++) {
        const float *xb = a + b * f->block, *wb = w + b * f->block;
        int start = (int)(s[b] / per * 0.5f) - 4;
        start = start < 0 ? 0 : start > f->scales - 8 ? f->scales - 8 : start;
        float best = INFINITY;
        for (int l = start; l < start + 8; l++) {
            const float cost = plain_block(f, xb, wb, per * (float)(2 * l + 1), 0, vectors, shifts);
            if (!(cost < best)) continue;
            best = cost, odd[b] = (float)(2 * l + 1);
            for (int i = 0; i < f->block; i++) m[b * f->block + i] = element(f, vectors[i / f->size], i % f->size) + (f->trits ? shifts[i / f->size] : 0.0f);
        }
    }
    for (int i = 0; i < 256; i++) {
        const float q = m[i] * odd[i / f->block], wq = w[i] * q;
        t[i] = wq * a[i], u[i] = wq * q;
    }
    const float d = through_half(sum_by_8(256, t) / sum_by_8(256, u) / f->unit);
    for (int i = 0; i < 256; i++) y[i] = sign[i] * (d * odd[i / f->block] * f->unit * m[i]);
}

/* ---- IQ4 ---- */

static int nearest_level(float v) { /* by distance, the lower of two that are as near */
    int best = 0;
    for (int i = 1; i < 16; i++)
        if (v > ((float)zl_values_iq4[i] + (float)zl_values_iq4[i - 1]) / 2) best = i;
    return best;
}
static float level_at(float x, float by) { return (float)zl_values_iq4[nearest_level(x * by)]; }
static float plain_inverse(float d) { return fabsf(d) >= 0x1p-126f ? 1 / d : 0; }
static float plain_fit(const float *x, const float *w, float by, float *score) {
    float sx = 0, sq = 0;
    for (int i = 0; i < 32; i++) {
        const float q = level_at(x[i], by), wq = w[i] * q;
        sx = i ? sx + wq * x[i] : wq * x[i], sq = i ? sq + wq * q : wq * q;
    }
    *score = sx * (sx / sq);
    return sx / sq;
}
static float plain_error(const float *x, const float *w, float s, float by) {
    float sum = 0;
    for (int i = 0; i < 32; i++) {
        const float t = x[i] - s * level_at(x[i], by);
        sum += w[i] * t * t;
    }
    return sum;
}
static float of_largest_size(const float *x) {
    float v = x[0];
    for (int i = 1; i < 32; i++) v = fabsf(x[i]) > fabsf(v) ? x[i] : v;
    return v;
}

static void plain_iq4_nl(const float *x, const float *h, float *y) {
    float w[32], d = 0, best = INFINITY, score;
    const float large = of_largest_size(x);
    plain_weights(32, x, h, w);
    for (int k = 0; k < 16 && fabsf(large) >= 0x1p-40f; k++) {
        const float end = k < 8 ? (float)(-136 + 5 * k) : (float)(91 + 5 * (k - 8));
        const float by = plain_inverse(plain_fit(x, w, end / large, &score)), s = through_half(plain_fit(x, w, by, &score));
        const float cost = plain_error(x, w, s, by);
        if (cost < best) best = cost, d = s;
    }
    for (int i = 0; i < 32; i++) y[i] = d * (fabsf(large) >= 0x1p-40f ? level_at(x[i], plain_inverse(d)) : 0.0f);
}

static void plain_iq4_xs(const float *x, const float *h, float *y) {
    static const float ends[8] = {-134, -125, -116, -107, 98, 107, 116, 125};
    float w[256], s[8], l[8], most = 0, top = 0, d = 0, best = INFINITY, sx = 0, sq = 0;
    plain_weights(256, x, h, w);
    for (int b = 0; b < 8; b++) {
        const float large = of_largest_size(x + 32 * b);
        float most_score = -INFINITY, score;
        for (int k = 0; k < 8; k++) {
            const float fitted = plain_fit(x + 32 * b, w + 32 * b, ends[k] * plain_inverse(large), &score);
            if (score > most_score) most_score = score, s[b] = fitted;
        }
        most = fabsf(s[b]) > fabsf(most) ? s[b] : most;
        top = fabsf(large) > top ? fabsf(large) : top;
    }
    memset(y, 0, 256 * sizeof *y);
    if (top < 0x1p-40f) return;
    for (int k = 0; k < 8; k++) {
        const float tried = through_half(most / (float)(k - 32));
        float cost = 0;
        for (int b = 0; b < 8; b++) {
            const float scale = tried * fminf(fmaxf(rintf(s[b] * plain_inverse(tried)), -32), 31);
            cost += plain_error(x + 32 * b, w + 32 * b, scale, plain_inverse(scale));
        }
        if (cost < best) best = cost, d = tried;
    }
    for (int b = 0; b < 8; b++) {
        const float start = fminf(fmaxf(rintf(s[b] * plain_inverse(d)) - 4, -32), 24);
        best = INFINITY;
        for (int k = 0; k < 8; k++) {
            const float scale = d * (start + (float)k), cost = plain_error(x + 32 * b, w + 32 * b, scale, plain_inverse(scale));
            if (cost < best) best = cost, l[b] = start + (float)k;
        }
        for (int i = 0; i < 32; i++) {
            const float q = level_at(x[32 * b + i], plain_inverse(d * l[b])) * l[b], wq = w[32 * b + i] * q;
            sx += wq * x[32 * b + i], sq += wq * q;
        }
    }
    d = through_half(sq > 0 ? sx / sq : 0);
    for (int i = 0; i < 256; i++) y[i] = d * l[i / 32] * level_at(x[i], plain_inverse(d * l[i / 32]));
}

/* ---- Q4_0 to Q5_1 with importance; written from legacy_importance.py ---- */

static float code_at(float v, float low, float high) { return rintf(fminf(fmaxf(v, low), high)); }

static void plain_with_zero(int bits, const float *x, const float *w, float *y) {
    static const float ends[16] = {2.5f, 1.8f, 1.2f, 0.7f, 0.3f, 0.0f, -0.3f, -0.7f, -2.4f, -1.7f, -1.1f, -0.6f, -0.2f, 0.1f, 0.4f, 0.8f};
    const float zero = ldexpf(1, bits - 1), large = of_largest_size(x);
    float best = INFINITY, d = 0;
    for (int k = 0; k < 16; k++) {
        float by = (k < 8 ? -zero - ends[k] : zero - 1 + ends[k]) / large, q[32], s = 0, cost = 0;
        for (int pass = 0; pass < 2; pass++) {
            float sx = 0, sq = 0;
            for (int i = 0; i < 32; i++) {
                q[i] = code_at(x[i] * by, -zero, zero - 1);
                const float wq = w[i] * q[i];
                sx += wq * x[i], sq += wq * q[i];
            }
            s = sx / sq, by = plain_inverse(s);
        }
        s = through_half(s);
        for (int i = 0; i < 32; i++) cost += w[i] * (x[i] - s * q[i]) * (x[i] - s * q[i]);
        if (cost < best) best = cost, d = s;
    }
    for (int i = 0; i < 32; i++) y[i] = d * code_at(x[i] * plain_inverse(d), -zero, zero - 1);
}

static void plain_with_minimum(int bits, const float *x, const float *w, float *y) {
    static const float more[16] = {-4.0f, -3.4f, -2.9f, -2.5f, -2.1f, -1.8f, -1.5f, -1.2f, -0.9f, -0.7f, -0.5f, -0.3f, -0.1f, 0.1f, 0.4f, 0.7f};
    const float top = ldexpf(1, bits) - 1;
    float low = INFINITY, high = -INFINITY, sw = 0, sy = 0, best = INFINITY, d = 0, m = 0;
    for (int i = 0; i < 32; i++) low = fminf(x[i], low), high = fmaxf(x[i], high), sw += w[i];
    for (int i = 0; i < 32; i++) sy += w[i] * (x[i] - low);
    if (high - low < 0x1p-40f) { /* all are equal: the minimum, and what rounding it has left */
        for (int i = 0; i < 32; i++) y[i] = through_half(low - through_half(low)) + through_half(low);
        return;
    }
    for (int k = 0; k < 16; k++) {
        float by = (top + more[k]) * plain_inverse(high - low), q[32], s = 0, b = 0, sq = 0, cost = 0;
        for (int pass = 0; pass < 2; pass++) {
            float s2 = 0, sx = 0;
            sq = 0;
            for (int i = 0; i < 32; i++) {
                q[i] = code_at((x[i] - low - b) * by, 0, top);
                const float wq = w[i] * q[i];
                sq += wq, s2 += wq * q[i], sx += wq * (x[i] - low);
            }
            const float spread = sw * s2 - sq * sq;
            s = spread > 0 ? (sw * sx - sy * sq) / spread : plain_inverse(by);
            b = (sy - s * sq) / sw, by = plain_inverse(s);
        }
        s = through_half(s);
        b = through_half(fminf(fmaxf(low + (sy - s * sq) / sw, -65504), 65504));
        for (int i = 0; i < 32; i++) {
            const float t = x[i] - (s * q[i] + b);
            cost += w[i] * t * t;
        }
        if (cost < best) best = cost, d = s, m = b;
    }
    for (int i = 0; i < 32; i++) y[i] = d * code_at((x[i] - m) * plain_inverse(d), 0, top) + m;
}

static const struct { int type, bits, minimum; } legacy_formats[] = {
    {ZL_TYPE_Q4_0, 4, 0}, {ZL_TYPE_Q4_1, 4, 1}, {ZL_TYPE_Q5_0, 5, 0}, {ZL_TYPE_Q5_1, 5, 1}};
enum { N_LEGACY = sizeof legacy_formats / sizeof legacy_formats[0] };

static void plain_legacy(int t, const float *x, const float *h, float *y) {
    float w[32];
    plain_weights(32, x, h, w);
    memset(y, 0, 32 * sizeof *y);
    if (fabsf(of_largest_size(x)) < 0x1p-40f) return;
    if (legacy_formats[t].minimum) plain_with_minimum(legacy_formats[t].bits, x, w, y);
    else plain_with_zero(legacy_formats[t].bits, x, w, y);
}
#endif
