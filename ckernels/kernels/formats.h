/* formats.h - number formats in panel form: where the codes, scales and minimums of a quant block are, and how they are unpacked.
 *
 * A panel is L rows of a weight, interleaved; a code vector v (v = 0..7) of a block of 32 has byte 4*lane + j = row `lane`, k = 4*v + j.
 *
 *      one block of 32 columns                                            bytes per row
 *      Q4_0   | d f16[L] | nibbles 4 vectors                    |         2 + 16
 *      Q4_1   | d f16[L] | m f16[L] | nibbles 4                 |         2 + 2 + 16
 *      Q5_0   | d f16[L] | nibbles 4 | fifth bits 1             |         2 + 16 + 4
 *      Q5_1   | d f16[L] | m f16[L] | nibbles 4 | fifth bits 1  |         2 + 2 + 16 + 4
 *      Q8_0   | d f16[L] | bytes 8                              |         2 + 32
 *
 *      one superblock of 256 columns: a header, then 8 blocks
 *      Q4_K   | d f16[L] | dmin f16[L] | scale words 3 vectors | 8 x nibbles 4                    |   4 + 12 + 128
 *      Q5_K   | d f16[L] | dmin f16[L] | scale words 3 vectors | 8 x (nibbles 4, fifth bits 1)    |   4 + 12 + 160
 *      Q6_K   | d f16[L] | scale words 4 vectors               | 8 x (nibbles 4, upper pairs 2)   |   2 + 16 + 192
 *
 *      nibbles      vector v: low nibble = code vector v, high nibble = code vector v + 4
 *      fifth bits   bit v of a byte belongs to code vector v
 *      upper pairs  vector h, bits 2p, 2p+1: code vector 4h + p
 *      scale words  the row's packed scale bytes as in the file, word w of lane `lane` = its bytes 4w .. 4w+3
 *
 * What a weight is worth, from its code u:      Q4_0, Q5_0, Q6_K: A (u - zero)      Q4_1, Q5_1, Q4_K, Q5_K: A u + M      Q8_0: A w
 * (Q6_K has one A for each half of a block.) M is minus the K-quants' minimum; the kernels hold -M, since x comes with minus its sums.
 *
 * `fmt` is a constant wherever these are inlined, so every test on it is decided by the compiler.
 */
#ifndef ZL_FORMATS_H
#define ZL_FORMATS_H
#include "../include/zl.h"
#include "simd_int.h"

enum { VB = 4 * L, BLOCK = 32 }; /* bytes of a vector; columns of a block */

ZL_INLINE int fmt_bits(const int fmt) {
    return fmt == ZL_TYPE_Q8_0 ? 8 : fmt == ZL_TYPE_Q6_K ? 6 : fmt == ZL_TYPE_Q5_0 || fmt == ZL_TYPE_Q5_1 || fmt == ZL_TYPE_Q5_K ? 5 : 4;
}
ZL_INLINE int fmt_zero(const int fmt) {
    return fmt == ZL_TYPE_Q4_0 ? 8 : fmt == ZL_TYPE_Q5_0 ? 16 : fmt == ZL_TYPE_Q6_K ? 32 : fmt == ZL_TYPE_Q8_0 ? ZL_SIGNED_ZERO : 0;
}
ZL_INLINE int fmt_signed(const int fmt) { return fmt == ZL_TYPE_Q8_0; }
ZL_INLINE int fmt_halves(const int fmt) { return fmt == ZL_TYPE_Q6_K; }
ZL_INLINE int fmt_min(const int fmt) {
    return fmt == ZL_TYPE_Q4_1 || fmt == ZL_TYPE_Q5_1 || fmt == ZL_TYPE_Q4_K || fmt == ZL_TYPE_Q5_K;
}

/* Bytes per row of a header (of a block, or of a K-quant's superblock), and of one block's codes. */
ZL_INLINE int fmt_super(const int fmt) { return fmt == ZL_TYPE_Q4_K || fmt == ZL_TYPE_Q5_K || fmt == ZL_TYPE_Q6_K; }
ZL_INLINE int fmt_header(const int fmt) {
    return fmt_super(fmt) ? (fmt == ZL_TYPE_Q6_K ? 2 + 16 : 4 + 12) : fmt_min(fmt) ? 4 : 2;
}
ZL_INLINE int fmt_codes(const int fmt) { return 4 * fmt_bits(fmt); }

/* Where the header of block b's superblock is, or its own; and its number there. */
ZL_INLINE const uint8_t *head_of(const int fmt, const uint8_t *panel, int64_t b) {
    const int per = fmt_super(fmt) ? 8 : 1;
    return panel + b / per * (L * (fmt_header(fmt) + per * fmt_codes(fmt)));
}
ZL_INLINE int in_super(const int fmt, int64_t b) { return fmt_super(fmt) ? (int)(b % 8) : 0; }
ZL_INLINE const uint8_t *codes_at(const int fmt, const uint8_t *head, int j) { return head + L * (fmt_header(fmt) + j * fmt_codes(fmt)); }

/* Code vector v of the block whose codes are at p: unsigned, or signed + ZL_SIGNED_ZERO. */
ZL_INLINE vb code(const int fmt, const uint8_t *p, int v) {
    if (fmt == ZL_TYPE_Q8_0) return vb_load(p + v * VB) ^ ZL_SIGNED_ZERO; /* flips the sign bit, or nothing */
    vu w = (vu)vb_load(p + (v % 4) * VB); /* shifts of 32-bit lanes: what crosses a byte is masked away */
    vu c = (v < 4 ? w : w >> 4) & 0x0f0f0f0fu;
    if (fmt_bits(fmt) == 5) {
        vu bits = (vu)vb_load(p + 4 * VB);
        c |= (v < 4 ? bits << (v < 4 ? 4 - v : 0) : bits >> (v < 4 ? 0 : v - 4)) & 0x10101010u;
    }
    if (fmt_bits(fmt) == 6) {
        const int at = 2 * (v % 4);
        vu pairs = (vu)vb_load(p + (4 + v / 4) * VB);
        c |= (at < 4 ? pairs << (at < 4 ? 4 - at : 0) : pairs >> (at < 4 ? 0 : at - 4)) & 0x30303030u;
    }
    return (vb)c;
}

typedef struct {
    vf a, b; /* A; and A2 of the second half, or -M */
} scales_;

/* The twelve bytes of Q4_K and Q5_K hold 8 scales and 8 minimums of 6 bits. Words w0 w1 w2:
 *      j < 4    scale = low 6 bits of byte j of w0                    minimum = low 6 bits of byte j of w1
 *      j >= 4   scale = low nibble of byte j-4 of w2 | upper 2 bits of byte j-4 of w0 << 4     minimum: high nibble, w1
 * Here byte j % 4 of word j / 4. */
typedef struct {
    vu sc[2], mn[2];
} six_bits;
ZL_INLINE six_bits six_bits_of(const uint8_t *header) {
    const vu w0 = (vu)vb_load(header + 4 * L), w1 = (vu)vb_load(header + 4 * L + VB), w2 = (vu)vb_load(header + 4 * L + 2 * VB);
    const uint32_t six = 0x3f3f3f3fu, four = 0x0f0f0f0fu, upper = 0x30303030u;
    return (six_bits){{w0 & six, (w2 & four) | (w0 >> 2 & upper)}, {w1 & six, (w2 >> 4 & four) | (w1 >> 2 & upper)}};
}

/* The integers of block j of a long format: scales of all of it or of its halves, and the minimums of these. */
typedef struct {
    vi sc, sc2, mn, mn2;
} long_scales;
ZL_INLINE long_scales k_scales(const int fmt, const uint8_t *p, const int j) {
    if (fmt == ZL_TYPE_Q6_K) { /* 16 int8: of block j the bytes 2j, 2j+1, in word j/2 */
        const vu w = (vu)vb_load(p + 2 * L + (j / 2) * VB) << (16 - 16 * (j % 2));
        return (long_scales){.sc = (vi)(w << 8) >> 24, .sc2 = (vi)w >> 24};
    }
    const six_bits s = six_bits_of(p);
    const vi sc = (vi)(s.sc[j / 4] >> (8 * (j % 4)) & 255), mn = (vi)(s.mn[j / 4] >> (8 * (j % 4)) & 255);
    return (long_scales){sc, sc, mn, mn};
}

/* Scales of block j under a header. K-quants: A = d * sc, -M = dmin * min, each one float product. */
ZL_INLINE scales_ scales(const int fmt, const uint8_t *p, const int j) {
    scales_ r = {vf_zero(), vf_zero()};
    if (!fmt_super(fmt)) {
        r.a = vf_from_f16((const uint16_t *)(const void *)p);
        if (fmt_min(fmt)) r.b = -vf_from_f16((const uint16_t *)(const void *)(p + 2 * L));
        return r;
    }
    const long_scales s = k_scales(fmt, p, j);
    const vf d = vf_from_f16((const uint16_t *)(const void *)p);
    r.a = d * vi_to_vf(s.sc);
    r.b = fmt == ZL_TYPE_Q6_K ? d * vi_to_vf(s.sc2) : vf_from_f16((const uint16_t *)(const void *)(p + 2 * L)) * vi_to_vf(s.mn);
    return r;
}
#endif
