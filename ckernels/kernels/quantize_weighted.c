/* quantize_weighted.c - floats -> Q4_0, Q4_1, Q5_0 and Q5_1 where columns differ in importance: a search for scale and minimum.
 *
 * The blocks are drawn in dequantize.c; what is searched for, and why so, in the twin, legacy_importance.py. Without importance these
 * formats are quantize.c's.
 */
#include "quantize_eight.h"
#include "quantize_lanes.h"

enum { BLOCK = 32 };
typedef struct {
    float d, m;
    uint8_t code[BLOCK];
} found_;

/* What the largest value becomes beside the lower end of the codes, and beside the upper one; how much wider than the codes a range is. */
static const float lower[8] = {2.5f, 1.8f, 1.2f, 0.7f, 0.3f, 0.0f, -0.3f, -0.7f};
static const float upper[8] = {-2.4f, -1.7f, -1.1f, -0.6f, -0.2f, 0.1f, 0.4f, 0.8f};
static const float wider[16] = {-4.0f, -3.4f, -2.9f, -2.5f, -2.1f, -1.8f, -1.5f, -1.2f, -0.9f, -0.7f, -0.5f, -0.3f, -0.1f, 0.1f, 0.4f, 0.7f};

/* the nearest code; bounded first, so that what is rounded is small */
ZL_INLINE v8 nearest(v8 v, float low, float high) {
    v = v8_select(v8_less(v, v8_set1(low)), v8_set1(low), v);
    return v8_round(v8_select(v8_less(v8_set1(high), v), v8_set1(high), v));
}

/* One more term of a sum that begins with its first. */
ZL_INLINE v8 plus(int i, v8 sum, v8 term) {
    if (i) term += sum;
    return term;
}

/* value = d (u - zero)    zero = 2^(bits - 1) */
ZL_INLINE void with_zero(const int bits, const float *x, const float *w, found_ *to) {
    const float zero = (float)(1 << (bits - 1));
    float most = x[0], least = 0;
    for (int i = 1; i < BLOCK; i++) most = __builtin_fabsf(x[i]) > __builtin_fabsf(most) ? x[i] : most;
    for (int half = 0; half < 2; half++) {
        v8 by = (half ? zero - 1.0f + v8_load(upper) : -zero - v8_load(lower)) / most, q[BLOCK], s = {0}, error = {0};
        for (int pass = 0; pass < 2; pass++) {
            v8 sx = {0}, s2 = {0};
            for (int i = 0; i < BLOCK; i++) {
                q[i] = nearest(x[i] * by, -zero, zero - 1.0f);
                const v8 wq = w[i] * q[i];
                sx = plus(i, sx, wq * x[i]), s2 = plus(i, s2, wq * q[i]);
            }
            s = sx / s2;
            by = v8_inverse(s);
        }
        s = v8_to_half(s);
        for (int i = 0; i < BLOCK; i++) {
            const v8 t = x[i] - s * q[i];
            error = plus(i, error, w[i] * t * t);
        }
        const int lane = lane_of_least(error);
        if (!half || error[lane] < least) least = error[lane], to->d = s[lane];
    }
    const v8 by = v8_inverse(v8_set1(to->d));
    for (int i = 0; i < BLOCK; i += 8) {
        const v8 u = nearest(v8_load(x + i) * by, -zero, zero - 1.0f) + zero;
        for (int lane = 0; lane < 8; lane++) to->code[i + lane] = (uint8_t)u[lane];
    }
}

/* value = d u + m */
ZL_INLINE void with_minimum(const int bits, const float *x, const float *w, found_ *to) {
    const float top = (float)((1 << bits) - 1);
    float low = x[0], high = x[0], sw = w[0], sy = 0, least = 0;
    for (int i = 1; i < BLOCK; i++) low = x[i] < low ? x[i] : low, high = x[i] > high ? x[i] : high, sw += w[i];
    for (int i = 0; i < BLOCK; i++) sy = i ? sy + w[i] * (x[i] - low) : w[i] * (x[i] - low);
    if (high - low < ZL_QUANTIZE_TINY) {
        to->m = v8_to_half(v8_set1(low))[0], to->d = v8_to_half(v8_set1(low - to->m))[0];
        memset(to->code, 1, BLOCK);
        return;
    }
    for (int half = 0; half < 2; half++) {
        v8 by = (top + v8_load(wider + 8 * half)) * v8_inverse(v8_set1(high - low)), q[BLOCK], s = {0}, m = {0}, sq = {0}, error = {0};
        for (int pass = 0; pass < 2; pass++) {
            v8 s2 = {0}, sx = {0};
            for (int i = 0; i < BLOCK; i++) {
                const float y = x[i] - low;
                q[i] = nearest((y - m) * by, 0.0f, top);
                const v8 wq = w[i] * q[i];
                sq = plus(i, sq, wq), s2 = plus(i, s2, wq * q[i]), sx = plus(i, sx, wq * y);
            }
            const v8 spread = sw * s2 - sq * sq;
            const v8i sound = v8_less(v8_set1(0), spread);
            s = v8_select(sound, (sw * sx - sy * sq) / v8_select(sound, spread, v8_set1(1)), v8_inverse(by));
            m = (sy - s * sq) / sw;
            by = v8_inverse(s);
        }
        s = v8_to_half(s);
        m = low + (sy - s * sq) / sw;
        m = v8_select(v8_less(m, v8_set1(-65504)), v8_set1(-65504), v8_select(v8_less(v8_set1(65504), m), v8_set1(65504), m));
        m = v8_to_half(m);
        for (int i = 0; i < BLOCK; i++) {
            const v8 t = x[i] - (s * q[i] + m);
            error = plus(i, error, w[i] * t * t);
        }
        const int lane = lane_of_least(error);
        if (!half || error[lane] < least) least = error[lane], to->d = s[lane], to->m = m[lane];
    }
    const v8 by = v8_inverse(v8_set1(to->d));
    for (int i = 0; i < BLOCK; i += 8) {
        const v8 u = nearest((v8_load(x + i) - to->m) * by, 0.0f, top);
        for (int lane = 0; lane < 8; lane++) to->code[i + lane] = (uint8_t)u[lane];
    }
}

ZL_INLINE void block(const int bits, const int has_min, const float *x, const float *importance, uint8_t *to) {
    const int head = 2 + 2 * has_min, nibbles = head + (bits == 5 ? 4 : 0);
    float w[BLOCK];
    found_ f = {0, 0, {0}};
    if (weights(BLOCK, x, importance, w) >= ZL_QUANTIZE_TINY) {
        if (has_min) with_minimum(bits, x, w, &f);
        else with_zero(bits, x, w, &f);
    } else if (!has_min) memset(f.code, 1 << (bits - 1), BLOCK);
    const uint16_t d = half_of(f.d), m = half_of(f.m);
    memcpy(to, &d, 2);
    if (has_min) memcpy(to + 2, &m, 2);
    uint32_t fifth = 0;
    for (int i = 0; i < BLOCK; i++) fifth |= (uint32_t)(f.code[i] >> 4) << i;
    if (bits == 5) memcpy(to + head, &fifth, 4);
    for (int i = 0; i < 16; i++) to[nibbles + i] = (uint8_t)((f.code[i] & 15) | f.code[i + 16] << 4);
}

int ZL_FN(quantize_weighted)(int type, int64_t n, int64_t at, int64_t cols, const float *x, const float *importance, uint8_t *dst) {
    const int size = type == ZL_TYPE_Q4_0 ? 18 : type == ZL_TYPE_Q4_1 ? 20 : type == ZL_TYPE_Q5_0 ? 22 : type == ZL_TYPE_Q5_1 ? 24 : 0;
    if (!size) return 0;
    for (int64_t i = 0; i < n; i += BLOCK, dst += size) {
        const float *h = importance + (at + i) % cols;
        if (type == ZL_TYPE_Q4_0) block(4, 0, x + i, h, dst);
        else if (type == ZL_TYPE_Q4_1) block(4, 1, x + i, h, dst);
        else if (type == ZL_TYPE_Q5_0) block(5, 0, x + i, h, dst);
        else block(5, 1, x + i, h, dst);
    }
    return 1;
}
