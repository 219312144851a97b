/* quantize.c - floats -> numbers as they are in the file: plain halves, and quant blocks of 32 values with one scale.
 *
 * The blocks are drawn in dequantize.c. The bytes are those of ggml's quantize_row_*_ref; with importance quantize_weighted.c makes those
 * of four and five bits.
 */
#include "quantize_lanes.h"

/* F16, BF16: rounded to nearest, ties to even; L at a time, the tail through a vector of its own */
ZL_INLINE void halves(const int is_f16, int64_t n, const float *x, uint8_t *dst) {
    for (int64_t i = 0; i < n; i += L) {
        uint16_t h[L];
        const int some = n - i < L ? (int)(n - i) : L;
        const vf v = some == L ? vf_load(x + i) : vf_load_n(x + i, some);
        if (is_f16) vf_to_f16(h, v);
        else {
            const vu u = (vu)vf_bits(v), r = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
            for (int lane = 0; lane < L; lane++) h[lane] = (uint16_t)r[lane];
        }
        memcpy(dst + 2 * i, h, (size_t)(2 * some));
    }
}

/* ---- blocks of 32 ---------------------------------------------------------------------------------------------------------------------- */

enum { BLOCK = 32 };
typedef struct {
    vf d, m;        /* scale and minimum, not yet rounded to half precision */
    vi code[BLOCK]; /* as they are stored, unsigned (Q8_0: the byte) */
} lanes_of_32;

/* Q4_0, Q5_0   d = (the value of largest size) / -2^(bits - 1)     u = min(trunc(x / d + 2^(bits - 1) + 1/2), 2^bits - 1) */
ZL_INLINE void plain_0(const int bits, const vf *x, lanes_of_32 *to) {
    const float zero = (float)(1 << (bits - 1)), top = (float)((1 << bits) - 1);
    vf amax = vf_zero(), most = vf_zero();
    for (int i = 0; i < BLOCK; i++) {
        const vi more = vf_abs(x[i]) > amax;
        most = vf_select(more, x[i], most);
        amax = vf_select(more, vf_abs(x[i]), amax);
    }
    to->d = most / -zero;
    const vf id = inverse(to->d);
    for (int i = 0; i < BLOCK; i++) to->code[i] = vi_trunc(lesser(x[i] * id + (zero + 0.5f), vf_set1(top)));
}

/* Q4_1, Q5_1   m = min x      d = (max x - m) / (2^bits - 1)     u = min(trunc((x - m) / d + 1/2), 2^bits - 1) */
ZL_INLINE void plain_1(const int bits, const vf *x, lanes_of_32 *to) {
    const float top = (float)((1 << bits) - 1);
    vf low = x[0], high = x[0];
    for (int i = 1; i < BLOCK; i++) low = lesser(x[i], low), high = greater(x[i], high);
    to->m = low;
    to->d = (high - low) / top;
    const vf id = inverse(to->d);
    for (int i = 0; i < BLOCK; i++) to->code[i] = vi_trunc(lesser((x[i] - low) * id + 0.5f, vf_set1(top)));
}

/* Q8_0   d = max |x| / 127      w = round(x / d), halves away from 0 */
ZL_INLINE void plain_8(const vf *x, lanes_of_32 *to) {
    vf amax = vf_zero();
    for (int i = 0; i < BLOCK; i++) amax = greater(vf_abs(x[i]), amax);
    to->d = amax / 127.0f;
    const vf id = inverse(to->d);
    for (int i = 0; i < BLOCK; i++) to->code[i] = vi_trunc(round_away(x[i] * id)) & 255;
}

/* Codes of all lanes -> words as the file has them: word w of a lane holds codes 4w .. 4w+3, each with code + 16 above where it is a nibble. */
ZL_INLINE void words_of(const int bits, const vi *code, int32_t words[8][L]) {
    for (int w = 0; w < (bits == 8 ? 8 : 4); w++) {
        vi v = {0};
        for (int j = 0; j < 4; j++) {
            const int i = 4 * w + j;
            const vi byte = bits == 8 ? code[i] : (vi)((code[i] & 15) | ((code[i + 16] & 15) << 4));
            v |= byte << (8 * j);
        }
        vi_store(words[w], v);
    }
}

/* The fifth bits of a lane's codes, bit i of code i. */
ZL_INLINE vi fifth_of(const vi *code) {
    vi v = {0};
    for (int i = 0; i < BLOCK; i++) v |= ((code[i] >> 4) & 1) << i;
    return v;
}

ZL_INLINE void blocks_of_32(const int bits, const int has_min, int64_t n, const float *x, uint8_t *dst) {
    const int head = 2 + 2 * has_min, size = head + 4 * bits, fifth = bits == 5 ? 4 : 0;
    for (int64_t b = 0; b < n / BLOCK; b += L, dst += L * size) {
        const int some = n / BLOCK - b < L ? (int)(n / BLOCK - b) : L;
        vf v[BLOCK];
        lanes_of_32 q;
        uint16_t d[L], m[L];
        int32_t words[8][L], upper[L];
        blocks_to_lanes(BLOCK, x + b * BLOCK, some, v);
        if (bits == 8) plain_8(v, &q);
        else if (has_min) plain_1(bits, v, &q);
        else plain_0(bits, v, &q);
        vf_to_f16(d, q.d);
        if (has_min) vf_to_f16(m, q.m);
        if (fifth) vi_store(upper, fifth_of(q.code));
        words_of(bits, q.code, words);
        for (int lane = 0; lane < some; lane++) {
            uint8_t *p = dst + lane * size;
            memcpy(p, &d[lane], 2);
            if (has_min) memcpy(p + 2, &m[lane], 2);
            if (fifth) memcpy(p + head, &upper[lane], 4);
            for (int w = 0; w < (bits == 8 ? 8 : 4); w++) memcpy(p + head + fifth + 4 * w, &words[w][lane], 4);
        }
    }
}

void ZL_FN(quantize)(int type, int64_t n, int64_t at, int64_t cols, const float *x, const float *importance, uint8_t *dst) {
    if (importance && ZL_FN(quantize_weighted)(type, n, at, cols, x, importance, dst)) return;
    switch (type) {
    case ZL_TYPE_F32: memcpy(dst, x, (size_t)n * 4); return;
    case ZL_TYPE_F16: halves(1, n, x, dst); return;
    case ZL_TYPE_BF16: halves(0, n, x, dst); return;
    case ZL_TYPE_Q4_0: blocks_of_32(4, 0, n, x, dst); return;
    case ZL_TYPE_Q4_1: blocks_of_32(4, 1, n, x, dst); return;
    case ZL_TYPE_Q5_0: blocks_of_32(5, 0, n, x, dst); return;
    case ZL_TYPE_Q5_1: blocks_of_32(5, 1, n, x, dst); return;
    case ZL_TYPE_Q8_0: blocks_of_32(8, 0, n, x, dst); return;
    }
    if (ZL_FN(quantize_k)(type, n, at, cols, x, importance, dst)) return;
    if (ZL_FN(quantize_low)(type, n, at, cols, x, importance, dst)) return;
    ZL_FN(quantize_iq)(type, n, at, cols, x, importance, dst);
}
