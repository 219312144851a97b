/* quantize_iq4.c - floats -> IQ4_NL and IQ4_XS, whose codes are 16 unevenly spaced levels.
 *
 * The blocks are drawn in dequantize_iq.c; how scales are chosen, and why so, in the twin, iq4_quantizers.py. value = s level.
 */
#include "codebooks.h"
#include "quantize_eight.h"

enum { BLOCK = 32, BLOCKS = 8 };

/* ---- the nearest level ------------------------------------------------------------------------------------------------------------------
 * Its number is how many of the 15 middles between neighbours are below v: in a middle itself it is the lower level. */
#define EACH_MIDDLE(X)                                                                                                                 \
    X(-115.5f) X(-93.5f) X(-74.0f) X(-57.0f) X(-42.0f) X(-28.5f) X(-16.0f) X(-4.5f) X(7.0f) X(19.0f) X(31.5f) X(45.5f) X(61.0f) X(79.0f) X(101.0f)

/* -> minus its number */
ZL_INLINE v8i nearest(v8 v) {
#if defined(ZL_ISA_avx2) || defined(ZL_ISA_avx512)
    /* Four questions, each about the middle of what is left. Numbers are kept negated, as comparisons give -1: entry -i mod 8 of a table
     * is for i levels passed. */
    const v8 third = {-93.5f, 0, 0, 0, 0, 79.0f, 19.0f, -28.5f}; /* of 0, 1, 2, 3 quarters passed: middles 1, 5, 9, 13 */
    const v8 fourth = {-115.5f, 101.0f, 61.0f, 31.5f, 7.0f, -16.0f, -42.0f, -74.0f}; /* middles 0, 2, .. 14 */
    const v8i first = v > -4.5f;
    const v8 second = v8_select(first, v8_set1(45.5f), v8_set1(-57.0f));
    v8i n = first + first + (v8i)(v > second);
    n = n + n + (v8i)(v > (v8)_mm256_permutevar8x32_ps((__m256)third, (__m256i)n));
    return n + n + (v8i)(v > (v8)_mm256_permutevar8x32_ps((__m256)fourth, (__m256i)n));
#else
    v8i n = {0};
#define PASSED(m) n += v8_less(v8_set1(m), v);
    EACH_MIDDLE(PASSED)
    return n;
#endif
}

/* the level of minus a number */
ZL_INLINE v8 level(v8i n) {
#if defined(ZL_ISA_avx2) || defined(ZL_ISA_avx512)
    const v8 lower = {-127, -10, -22, -35, -49, -65, -83, -104}, upper = {1, 113, 89, 69, 53, 38, 25, 13};
    return v8_select(n <= -8, (v8)_mm256_permutevar8x32_ps((__m256)upper, (__m256i)n), (v8)_mm256_permutevar8x32_ps((__m256)lower, (__m256i)n));
#else
    v8 r;
    for (int i = 0; i < 8; i++) r[i] = (float)zl_values_iq4[-n[i]];
    return r;
#endif
}

/* ---- one block, eight scales ------------------------------------------------------------------------------------------------------------ */

/* Least squares for the levels of x / s, 1 / s being given: the sums over w x level and w level^2. levels: q (32) or NULL */
typedef struct { v8 x, q; } fit_;
ZL_INLINE fit_ fit(const float *x, const float *w, v8 inverses, v8 *levels) {
    fit_ f = {v8_set1(0), v8_set1(0)};
    for (int i = 0; i < BLOCK; i++) {
        const v8 q = level(nearest(x[i] * inverses)), wq = w[i] * q;
        f.x = i ? f.x + wq * x[i] : wq * x[i];
        f.q = i ? f.q + wq * q : wq * q;
        if (levels) levels[i] = q;
    }
    return f;
}

/* sum w (x - s level)^2, the level nearest to x / s where it is not given */
ZL_INLINE v8 error(const float *x, const float *w, v8 s, const v8 *levels) {
    const v8 inverses = v8_inverse(s);
    v8 sum = v8_set1(0);
    for (int i = 0; i < BLOCK; i++) {
        const v8 t = x[i] - s * (levels ? levels[i] : level(nearest(x[i] * inverses)));
        sum += w[i] * t * t;
    }
    return sum;
}

ZL_INLINE float largest(const float *x) { /* the value of largest size, the first of equal ones */
    float v = x[0];
    for (int i = 1; i < BLOCK; i++) v = __builtin_fabsf(x[i]) > __builtin_fabsf(v) ? x[i] : v;
    return v;
}

/* Codes for a scale -> 16 bytes of nibbles: byte i has codes i and i + 16. */
ZL_INLINE void nibbles(const float *x, float s, uint8_t *to) {
    const v8 by = v8_inverse(v8_set1(s));
    for (int i = 0; i < 16; i += 8) {
        const v8i byte = -nearest(v8_load(x + i) * by) | -nearest(v8_load(x + 16 + i) * by) << 4;
        for (int lane = 0; lane < 8; lane++) to[i + lane] = (uint8_t)byte[lane];
    }
}

/* ---- the formats ------------------------------------------------------------------------------------------------------------------------ */

static const float ends_nl[16] = {-136, -131, -126, -121, -116, -111, -106, -101, 91, 96, 101, 106, 111, 116, 121, 126};
static const float ends_xs[8] = {-134, -125, -116, -107, 98, 107, 116, 125};

static void iq4_nl(const float *x, const float *importance, uint8_t *to) {
    float w[BLOCK];
    if (!(weights(BLOCK, x, importance, w) >= ZL_QUANTIZE_TINY)) {
        memset(to, 0, 18);
        return;
    }
    const float most = largest(x);
    float least = 0, d = 0;
    for (int half = 0; half < 2; half++) {
        v8 levels[BLOCK];
        fit_ f = fit(x, w, v8_load(ends_nl + 8 * half) / most, NULL);
        f = fit(x, w, v8_inverse(f.x / f.q), levels);
        const v8 s = v8_to_half(f.x / f.q), e = error(x, w, s, levels);
        const int lane = lane_of_least(e);
        if (!half || e[lane] < least) least = e[lane], d = s[lane];
    }
    const uint16_t h = half_of(d);
    memcpy(to, &h, 2);
    nibbles(x, d, to + 2);
}

static void iq4_xs(const float *x, const float *importance, uint8_t *to) {
    float w[BLOCK * BLOCKS], s[BLOCKS], l[BLOCKS], most = 0;
    memset(to, 0, 136);
    if (!(weights(BLOCK * BLOCKS, x, importance, w) >= ZL_QUANTIZE_TINY)) return;
    for (int b = 0; b < BLOCKS; b++) {
        const fit_ f = fit(x + BLOCK * b, w + BLOCK * b, v8_load(ends_xs) * v8_inverse(v8_set1(largest(x + BLOCK * b))), NULL);
        const v8 scale = f.x / f.q;
        s[b] = scale[lane_of_most(f.x * scale)];
        most = __builtin_fabsf(s[b]) > __builtin_fabsf(most) ? s[b] : most;
    }
    const v8 ds = v8_to_half(most / (v8){-32, -31, -30, -29, -28, -27, -26, -25}), by = v8_inverse(ds);
    v8 sum = v8_set1(0);
    for (int b = 0; b < BLOCKS; b++) {
        v8 n = v8_round(s[b] * by);
        n = v8_select(n < -32.0f, v8_set1(-32.0f), v8_select(n > 31.0f, v8_set1(31.0f), n));
        sum += error(x + BLOCK * b, w + BLOCK * b, ds * n, NULL);
    }
    float d = ds[lane_of_least(sum)], sx = 0, sq = 0;
    const float by_d = v8_inverse(v8_set1(d))[0];
    for (int b = 0; b < BLOCKS; b++) {
        const float *xb = x + BLOCK * b, *wb = w + BLOCK * b;
        float start = v8_round(v8_set1(s[b] * by_d))[0] - 4.0f;
        start = start < -32.0f ? -32.0f : start > 24.0f ? 24.0f : start;
        const v8 n = start + (v8){0, 1, 2, 3, 4, 5, 6, 7};
        l[b] = n[lane_of_least(error(xb, wb, d * n, NULL))];
        const v8 inverses = v8_inverse(v8_set1(d * l[b]));
        for (int i = 0; i < BLOCK; i += 8) {
            const v8 q = level(nearest(v8_load(xb + i) * inverses)) * l[b], wq = v8_load(wb + i) * q, a = wq * v8_load(xb + i), c = wq * q;
            for (int lane = 0; lane < 8; lane++) sx = b + i + lane ? sx + a[lane] : a[lane], sq = b + i + lane ? sq + c[lane] : c[lane];
        }
    }
    const uint16_t h = half_of(sq > 0 ? sx / sq : 0.0f);
    d = half_at((const uint8_t *)&h);
    memcpy(to, &h, 2);
    for (int b = 0; b < BLOCKS; b++) {
        const int sc = (int)l[b] + 32;
        to[2 + b / 4] |= (uint8_t)(sc >> 4 << (2 * (b % 4)));
        to[4 + b / 2] |= (uint8_t)((sc & 15) << (4 * (b % 2)));
        nibbles(x + BLOCK * b, d * l[b], to + 8 + 16 * b);
    }
}

int ZL_FN(quantize_iq4)(int type, int64_t n, int64_t at, int64_t cols, const float *x, const float *importance, uint8_t *dst) {
    if (type != ZL_TYPE_IQ4_NL && type != ZL_TYPE_IQ4_XS) return 0;
    const int per = type == ZL_TYPE_IQ4_NL ? BLOCK : BLOCK * BLOCKS;
    for (int64_t i = 0; i < n; i += per, dst += type == ZL_TYPE_IQ4_NL ? 18 : 136) {
        const float *h = importance ? importance + (at + i) % cols : NULL;
        if (type == ZL_TYPE_IQ4_NL) iq4_nl(x + i, h, dst);
        else iq4_xs(x + i, h, dst);
    }
    return 1;
}
