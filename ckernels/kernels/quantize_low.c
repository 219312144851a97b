/* quantize_low.c - floats -> ternary and binary formats, two plain bits, and 4-bit floats. The blocks are drawn in dequantize_low.c.
 *
 * These have one rule each, the same for every column: importance is not looked at. The bytes are those of ggml's quantize_row_*_ref
 * wherever that is defined (low_quantizers.py says where it is not).
 */
#include "quantize_lanes.h"

/* L blocks as they are stored: words of four bytes that follow each other, and what stands before or behind them. */
typedef struct {
    vi word[16];
    vf d; /* a scale, not yet rounded to half precision */
    vi e; /* MXFP4's exponent */
} stored_;

ZL_INLINE vf largest(const int n, const vf *x) {
    vf amax = vf_zero();
    for (int i = 0; i < n; i++) amax = greater(vf_abs(x[i]), amax);
    return amax;
}

/* TQ1_0, TQ2_0, Q2_0   d = max |x|       u = round(x / d) + 1, halves away from 0: so 0, 1 or 2 */
ZL_INLINE void ternary(const int n, const vf *x, vi *u, stored_ *to) {
    to->d = largest(n, x);
    const vf id = inverse(to->d);
    for (int i = 0; i < n; i++) u[i] = vi_trunc(round_away(x[i] * id)) + 1;
}

/* Digits u[0], u[run], .. in base 3, the first the highest, as a fraction of 243 -> of 256, rounded up; four of them are 81 times 3. */
ZL_INLINE vi trits(const int n, const int run, const vi *u) {
    vi t = u[0];
    for (int i = 1; i < 5; i++) t = t * 3 + (i < n ? u[i * run] : vi_set1(0));
    return (t * 256 + 242) / 243;
}
ZL_INLINE void tq1_0(const vf *x, stored_ *to) {
    vi u[256], v = {0};
    ternary(256, x, u, to);
    for (int i = 0; i < 52; i++) {
        const vi byte = i < 32 ? trits(5, 32, u + i) : i < 48 ? trits(5, 16, u + 160 + i - 32) : trits(4, 4, u + 240 + i - 48);
        v = (i % 4 ? v : vi_set1(0)) | byte << (8 * (i % 4));
        to->word[i / 4] = v;
    }
}

/* Fields of `bits` bits, each `run` codes from the one below it: the four bytes that begin with code u[0]. */
ZL_INLINE vi word_of(const int bits, const int run, const vi *u) {
    vi v = {0};
    for (int j = 0; j < 4; j++)
        for (int k = 0; k < 8 / bits; k++) v |= u[run == 1 ? 8 / bits * j + k : j + k * run] << (8 * j + bits * k);
    return v;
}
ZL_INLINE void tq2_0(const vf *x, stored_ *to) {
    vi u[256];
    ternary(256, x, u, to);
    for (int w = 0; w < 16; w++) to->word[w] = word_of(2, 32, u + 128 * (w / 8) + 4 * (w % 8));
}
ZL_INLINE void q2_0(const vf *x, stored_ *to) {
    vi u[64];
    ternary(64, x, u, to);
    for (int w = 0; w < 4; w++) to->word[w] = word_of(2, 1, u + 16 * w);
}

/* Q1_0   d = mean |x|       bit = x >= 0 */
ZL_INLINE void q1_0(const vf *x, stored_ *to) {
    vi u[128];
    vf sum = vf_zero();
    for (int i = 0; i < 128; i++) sum += vf_abs(x[i]), u[i] = (x[i] >= 0.0f) & 1;
    to->d = sum / 128.0f;
    for (int w = 0; w < 4; w++) to->word[w] = word_of(1, 1, u + 32 * w);
}

/* 4-bit floats nearest to x / (2 d), n codes: the number of middles between levels that |x| is beyond, so that a tie goes to the smaller
 * one, and 8 for minus. A level of 1 is 2 d of 1/2. Where d is 0 every code is 0. */
ZL_INLINE void fp4(const int n, const vf *x, vf d, vi *u) {
    static const float middles[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5.0f, 7.0f, 10.0f};
    vf above[7];
    for (int m = 0; m < 7; m++) above[m] = vf_select(d > 0.0f, middles[m] * d, vf_set1(__builtin_inff()));
    for (int i = 0; i < n; i++) {
        const vf size = vf_abs(x[i]);
        vi level = {0};
        for (int m = 0; m < 7; m++) level -= size > above[m];
        u[i] = level | ((x[i] < 0.0f) & (level > 0) & 8);
    }
}

/* MXFP4   2^(e - 127) is a quarter of the largest power of two that is not above max |x|: so that lies between 4 and 8, and 6 is the
 * largest level */
ZL_INLINE void mxfp4(const vf *x, stored_ *to) {
    vi u[32];
    const vi e = (vf_bits(largest(32, x)) >> 23) - 2;
    to->e = e & (e > 0);
    const vu small = (vu)(vi_set1(0x00200000) << (to->e & 1)), normal = (vu)(to->e - 1) << 23; /* 2^(e - 128) is subnormal for 0 and 1 */
    fp4(32, x, vf_select(to->e < 2, (vf)small, (vf)normal), u);
    for (int w = 0; w < 4; w++) to->word[w] = word_of(4, 16, u + 4 * w);
}

/* NVFP4   d = max |x| / 6 of 16 values as E4M3, rounded half up: where its exponent is full (256 and more) it is 448, as ggml has it */
ZL_INLINE void nvfp4(const vf *x, stored_ *to) {
    vi u[16];
    to->word[0] = vi_set1(0);
    for (int g = 0; g < 4; g++) {
        const vf wide = largest(16, x + 16 * g) / 6.0f;
        const vi few = vi_trunc(lesser(wide * 512.0f + 0.5f, vf_set1(7.0f))); /* below 2^-6 it counts 2^-9 */
        const vi many = ((vf_bits(wide) + 0x80000) >> 20) - (120 << 3), kept = (vi)vf_select(many < 120, (vf)many, (vf)vi_set1(126));
        const vi byte = (vi)vf_select(wide < 0x1p-6f, (vf)few, (vf)kept);
        const vf d = vf_select(byte < 8, vi_to_vf(byte) * 0x1p-10f, (vf)((byte << 20) + (119 << 23)));
        to->word[0] |= byte << (8 * g);
        fp4(16, x + 16 * g, d, u);
        for (int w = 0; w < 2; w++) to->word[1 + 2 * g + w] = word_of(4, 8, u + 4 * w);
    }
}

/* Blocks of `per` values -> `size` bytes: `words` words from byte `at` on; a scale in half precision, if any, from byte `scale` on. */
ZL_INLINE void blocks(const int type, const int per, const int size, const int words, const int at, const int scale, int64_t n, const float *x,
                      uint8_t *dst) {
    for (int64_t b = 0; b < n / per; b += L, dst += L * size) {
        const int some = n / per - b < L ? (int)(n / per - b) : L;
        vf v[256];
        stored_ s;
        uint16_t d[L];
        int32_t word[16][L];
        blocks_to_lanes(per, x + b * per, some, v);
        if (type == ZL_TYPE_TQ1_0) tq1_0(v, &s);
        else if (type == ZL_TYPE_TQ2_0) tq2_0(v, &s);
        else if (type == ZL_TYPE_Q1_0) q1_0(v, &s);
        else if (type == ZL_TYPE_Q2_0) q2_0(v, &s);
        else if (type == ZL_TYPE_MXFP4) mxfp4(v, &s);
        else nvfp4(v, &s);
        if (scale >= 0) vf_to_f16(d, s.d);
        for (int w = 0; w < words; w++) vi_store(word[w], s.word[w]);
        for (int lane = 0; lane < some; lane++) {
            uint8_t *p = dst + lane * size;
            if (scale >= 0) memcpy(p + scale, &d[lane], 2);
            if (type == ZL_TYPE_MXFP4) p[0] = (uint8_t)s.e[lane];
            for (int w = 0; w < words; w++) memcpy(p + at + 4 * w, &word[w][lane], 4);
        }
    }
}

int ZL_FN(quantize_low)(int type, int64_t n, int64_t at, int64_t cols, const float *x, const float *importance, uint8_t *dst) {
    (void)at, (void)cols, (void)importance;
    switch (type) {
    case ZL_TYPE_TQ1_0: blocks(ZL_TYPE_TQ1_0, 256, 54, 13, 0, 52, n, x, dst); return 1;
    case ZL_TYPE_TQ2_0: blocks(ZL_TYPE_TQ2_0, 256, 66, 16, 0, 64, n, x, dst); return 1;
    case ZL_TYPE_Q1_0: blocks(ZL_TYPE_Q1_0, 128, 18, 4, 2, 0, n, x, dst); return 1;
    case ZL_TYPE_Q2_0: blocks(ZL_TYPE_Q2_0, 64, 18, 4, 2, 0, n, x, dst); return 1;
    case ZL_TYPE_MXFP4: blocks(ZL_TYPE_MXFP4, 32, 17, 4, 1, -1, n, x, dst); return 1;
    case ZL_TYPE_NVFP4: blocks(ZL_TYPE_NVFP4, 64, 36, 9, 0, -1, n, x, dst); return 1;
    }
    return 0;
}
