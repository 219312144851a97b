/* quantize_k_reference.h - the K-quants' quantisers as plain loops: one block after another, one value at a time. For the selftest.
 *
 * It gives values, not bytes: what a reader makes of the blocks must be these. Sums go in ascending order and nothing is fused, so equality
 * is that of bits. Written from the description in k_quantizers.py.
 */
#ifndef ZL_QUANTIZE_K_REFERENCE_H
#define ZL_QUANTIZE_K_REFERENCE_H
#include "../include/zl.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct { int type, size, tries; float low, high, lead, other, first[8]; } k_format;
static const k_format k_formats[] = {
    {ZL_TYPE_Q2_K, 16, 8, 0, 3, 15, 0, {2.2f, 2.6f, 3, 3.4f, 3.8f, 4.2f, 4.6f, 5.2f}},
    {ZL_TYPE_Q3_K, 16, 8, -4, 3, -32, 31, {-5, -4.5f, -4, -3.5f, -3, 4, 3.5f, 3}},
    {ZL_TYPE_Q4_K, 32, 6, 0, 15, 63, 0, {14, 14.5f, 15, 15.5f, 16, 16.5f}},
    {ZL_TYPE_Q5_K, 32, 6, 0, 31, 63, 0, {30, 30.5f, 31, 31.5f, 32, 32.5f}},
    {ZL_TYPE_Q6_K, 16, 8, -32, 31, -128, 127, {-34, -33, -32.2f, -31.4f, -30.6f, -29.8f, -29, -28}},
};
enum { N_K = sizeof k_formats / sizeof k_formats[0] };

static float k_inverse(float d) { return fabsf(d) >= 0x1p-126f ? 1 / d : 0; }
static float k_between(float v, float a, float b) { return v < a ? a : v > b ? b : v; }
static float k_code(const k_format *f, float x, float s, float m) { return rintf(k_between((x + m) * k_inverse(s), f->low, f->high)); }
static float k_scale(const k_format *f, float v) { return k_between(v, fminf(f->lead, f->other), fmaxf(f->lead, f->other)); }

/* half precision and back */
static float k_half(float x) {
    float y;
    uint32_t b;
    memcpy(&b, &x, 4);
    const uint32_t sign = b & 0x80000000u;
    b &= 0x7fffffffu;
    memcpy(&y, &b, 4);
    if (y < 0x1p-14f) y = (y + 0x1p-1f) - 0x1p-1f; /* subnormal halves are multiples of 2^-24 */
    else b += 0xfff + (b >> 13 & 1), b &= ~0x1fffu, memcpy(&y, &b, 4);
    return sign ? -y : y;
}

/* a block's sum w (x - value)^2 */
static float k_error(const k_format *f, const float *x, const float *w, float s, float m) {
    float sum = 0;
    for (int i = 0; i < f->size; i++) {
        const float t = x[i] - (s * k_code(f, x[i], s, m) - m);
        sum += w[i] * t * t;
    }
    return sum;
}

static void k_first(const k_format *f, const float *x, const float *w, float *s, float *m) {
    float low = 0, high = 0, large = 0, sum_w = 0, sum_wx = 0, sum_wxx = 0, best = INFINITY;
    for (int i = 0; i < f->size; i++) {
        low = fminf(low, x[i]), high = fmaxf(high, x[i]);
        if (fabsf(x[i]) > fabsf(large)) large = x[i];
        sum_w += w[i], sum_wx += w[i] * x[i], sum_wxx += w[i] * x[i] * x[i];
    }
    for (int k = 0; k < f->tries; k++) {
        float a, b = f->low < 0 ? 0 : 0 - low, cost = 0;
        if (f->low < 0) {
            const float by = k_inverse(large) * f->first[k];
            float sx = 0, sq = 0;
            for (int i = 0; i < f->size; i++) {
                const float q = rintf(k_between(x[i] * by, f->low, f->high)), wq = w[i] * q;
                sx += wq * x[i], sq += wq * q;
            }
            a = sx * k_inverse(sq);
            for (int i = 0; i < f->size; i++) {
                const float t = x[i] - a * rintf(k_between(x[i] * by, f->low, f->high));
                cost += w[i] * t * t;
            }
        } else {
            a = (high - low) * (1 / f->first[k]);
            for (int again = 0; again < 2; again++) {
                float su = 0, suu = 0, sxu = 0;
                for (int i = 0; i < f->size; i++) {
                    const float u = k_code(f, x[i], a, b), wu = w[i] * u;
                    su += wu, suu += wu * u, sxu += wu * x[i];
                }
                const float det = sum_w * suu - su * su;
                if (!(det > 1e-5f * (sum_w * suu))) continue;
                a = (sum_w * sxu - sum_wx * su) * k_inverse(det), b = (su * sxu - suu * sum_wx) * k_inverse(det);
                if (b < 0) a = sxu * k_inverse(suu);
                a = k_between(a, 0, high - low), b = k_between(b, 0, high - low);
            }
            cost = k_error(f, x, w, a, b);
        }
        if (k == 0 || cost < best - sum_wxx * 0x1p-23f) best = cost, *s = a, *m = b;
    }
}

/* blocks' sums into one: halves onto halves */
static float k_total(int n, float *t) {
    while (n > 1) {
        n /= 2;
        for (int i = 0; i < n; i++) t[i] += t[i + n];
    }
    return t[0];
}

static void k_refit(const k_format *f, const float *x, const float *w, float d, float dmin, const float *sc, const float *mn, float *to) {
    const int blocks = 256 / f->size;
    float qq[16], qx[16], qm[16], mm[16], mx[16];
    for (int b = 0; b < blocks; b++) {
        float sw = 0, swx = 0, sq = 0;
        qq[b] = qx[b] = 0;
        for (int i = b * f->size; i < (b + 1) * f->size; i++) {
            const float q = sc[b] * k_code(f, x[i], d * sc[b], dmin * mn[b]), wq = w[i] * q;
            qq[b] += wq * q, qx[b] += wq * x[i], sq += wq, sw += w[i], swx += w[i] * x[i];
        }
        qm[b] = sq * mn[b], mm[b] = sw * mn[b] * mn[b], mx[b] = swx * mn[b];
    }
    const float a = k_total(blocks, qq), y = k_total(blocks, qx), c = k_total(blocks, qm), g = k_total(blocks, mm), z = k_total(blocks, mx);
    const float det = a * g - c * c;
    to[0] = d, to[1] = dmin;
    if (f->low < 0) to[0] = y * k_inverse(a);
    else if (det > 1e-5f * (a * g)) to[0] = (g * y - c * z) * k_inverse(det), to[1] = (c * y - a * z) * k_inverse(det);
    else if (g == 0) to[0] = y * k_inverse(a);
    if (f->low < 0) return;
    to[0] = k_between(to[0], 0, 65504), to[1] = k_between(to[1], 0, 65504);
}

static void k_reference(const k_format *f, const float *x, const float *importance, float *y) {
    const int blocks = 256 / f->size, with_min = f->low == 0;
    float w[256], s[16], m[16], top = 0, most = 0, most_m = 0, size = 0, best = INFINITY, d = 0, dmin = 0, sc[16] = {0}, mn[16] = {0};
    for (int i = 0; i < 256; i++) {
        if (importance) top = fmaxf(top, importance[i]);
        size = fmaxf(size, fabsf(x[i]));
        y[i] = 0;
    }
    if (size < 0x1p-40f) return;
    for (int i = 0; i < 256; i++) w[i] = importance ? importance[i] * k_inverse(top) + 0x1p-20f : 1;
    for (int b = 0; b < blocks; b++) {
        k_first(f, x + b * f->size, w + b * f->size, &s[b], &m[b]);
        if (fabsf(s[b]) > fabsf(most)) most = s[b];
        if (m[b] > most_m) most_m = m[b];
    }
    for (int round = 0; round < 6; round++) {
        float to[2] = {most / (f->lead + (float)(with_min ? -round : round)), with_min ? most_m / (f->lead - (float)round) : 0};
        float costs[16], tried[2][16];
        if (round >= 4) k_refit(f, x, w, d, dmin, sc, mn, to);
        const float e = k_half(to[0]), g = k_half(to[1]);
        for (int b = 0; b < blocks; b++) {
            const float *xb = x + b * f->size, *wb = w + b * f->size, middle = rintf(k_scale(f, s[b] * k_inverse(e)));
            for (int step = -1; step <= 1; step++) {
                const float a = k_scale(f, middle + (float)step);
                float mean = 0, sum_w = 0;
                for (int i = 0; with_min && i < f->size; i++) {
                    mean += wb[i] * (e * a * k_code(f, xb[i], e * a, m[b]) - xb[i]);
                    sum_w += wb[i];
                }
                const float c = with_min ? rintf(k_scale(f, mean / sum_w * k_inverse(g))) : 0, cost = k_error(f, xb, wb, e * a, g * c);
                if (step == -1 || cost < costs[b]) costs[b] = cost, tried[0][b] = a, tried[1][b] = c;
            }
        }
        const float cost = k_total(blocks, costs);
        if (round && !(cost < best)) continue;
        best = cost, d = e, dmin = g;
        memcpy(sc, tried[0], sizeof sc), memcpy(mn, tried[1], sizeof mn);
    }
    for (int i = 0; i < 256; i++) {
        const float a = d * sc[i / f->size], b = dmin * mn[i / f->size];
        y[i] = a * k_code(f, x[i], a, b) - b;
    }
}
#endif
