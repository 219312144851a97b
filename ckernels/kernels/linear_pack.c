/* linear_pack.c - file rows to panels, and one row of a panel back to floats.
 *
 * Panels are chosen so that packing moves whole 32-bit words: word v of a row's block becomes lane `lane` of vector v. Only bits that
 * belong to another block in the file (K-quants share bytes between blocks) are picked apart, four values at a time.
 */
#include "formats_wide.h"
#include "kernels.h"

ZL_INLINE uint32_t load32(const uint8_t *p) { uint32_t w; memcpy(&w, p, 4); return w; }
ZL_INLINE void store32(uint8_t *p, uint32_t w) { memcpy(p, &w, 4); }

/* Bytes and columns of a quant block in the file, without floats' trivial ones. */
ZL_INLINE int file_bytes(const int fmt) { return (fmt_header(fmt) + (fmt_super(fmt) ? 8 : 1) * fmt_codes(fmt)); }

/* The four values j..j+3 of 32 fifth bits, one bit per byte: bit v of byte i = bit 4v + i of h (see "fifth bits" in formats.h). */
ZL_INLINE uint32_t spread_fifth(uint32_t h) {
    uint32_t w = 0;
    for (int v = 0; v < 8; v++) {
        uint32_t four = (h >> (4 * v)) & 15;
        w |= ((four * 0x00204081u) & 0x01010101u) << v; /* the product puts bit i at bit 8i */
    }
    return w;
}

/* Block j (0..7, 0 for the formats without superblocks) of the file's quant block at p -> its words in a panel */
ZL_INLINE void block_words(const int fmt, const uint8_t *p, int j, uint32_t *w) {
    if (fmt == ZL_TYPE_Q6_K) {
        /* Half h of the superblock (128 columns = 4 blocks g): ql[64] nibbles: g = 0, 2 from bytes 0..31, g = 1, 3 from 32..63, low nibble
         * for g < 2; qh[32]: bits 2g, 2g+1. */
        const int h = j / 4, g = j % 4;
        const uint8_t *ql = p + 64 * h + 32 * (g % 2), *qh = p + 128 + 32 * h;
        for (int v = 0; v < 4; v++) {
            uint32_t a = load32(ql + 4 * v) >> (4 * (g / 2)), b = load32(ql + 16 + 4 * v) >> (4 * (g / 2));
            w[v] = (a & 0x0f0f0f0fu) | (b & 0x0f0f0f0fu) << 4;
        }
        for (int i = 0; i < 2; i++) {
            w[4 + i] = 0;
            for (int q = 0; q < 4; q++) w[4 + i] |= ((load32(qh + 16 * i + 4 * q) >> (2 * g)) & 0x03030303u) << (2 * q);
        }
        return;
    }
    if (fmt_super(fmt)) {
        /* Bytes qs[32 c .. 32 c + 31] hold block 2c in their low and block 2c+1 in their high nibbles; bit j of qh[i]: fifth bit of value i. */
        const uint8_t *qh = p + 16, *qs = p + 16 + (fmt == ZL_TYPE_Q5_K ? 32 : 0) + 32 * (j / 2);
        const int shift = 4 * (j % 2);
        for (int v = 0; v < 4; v++)
            w[v] = ((load32(qs + 4 * v) >> shift) & 0x0f0f0f0fu) | ((load32(qs + 16 + 4 * v) >> shift) & 0x0f0f0f0fu) << 4;
        if (fmt == ZL_TYPE_Q5_K) {
            w[4] = 0;
            for (int v = 0; v < 8; v++) w[4] |= ((load32(qh + 4 * v) >> j) & 0x01010101u) << v;
        }
        return;
    }
    p += fmt_header(fmt);
    if (fmt_bits(fmt) == 5) { /* value i's low nibble is in byte i, i + 16's high nibble too: as in the panel */
        w[4] = spread_fifth(load32(p));
        p += 4;
    }
    for (int v = 0; v < (fmt_bits(fmt) == 8 ? 8 : 4); v++) w[v] = load32(p + 4 * v);
}

ZL_INLINE void pack_blocks(const int fmt, int64_t n, int64_t k0, int64_t k, const uint8_t *rows, int64_t row_bytes, uint8_t *panel) {
    const int super = fmt_super(fmt), per = super ? 8 : 1, n_words = fmt_codes(fmt) / 4;
    const int64_t bytes = file_bytes(fmt), from = k0 / (per * BLOCK) * bytes, blocks = k / (per * BLOCK);
    for (int64_t b = 0; b < blocks; b++) {
        uint8_t *codes = panel + b * bytes * L + fmt_header(fmt) * L, *header = panel + b * bytes * L;
        for (int64_t lane = 0; lane < n; lane++) {
            const uint8_t *src = rows + lane * row_bytes + from + b * bytes;
            const uint8_t *d = fmt == ZL_TYPE_Q6_K ? src + 208 : src;
            memcpy(header + 2 * lane, d, 2);
            if (fmt_min(fmt)) memcpy(header + 2 * L + 2 * lane, d + 2, 2);
            if (super) { /* packed scales, as they are */
                const uint8_t *sc = fmt == ZL_TYPE_Q6_K ? src + 192 : src + 4;
                const int at = fmt == ZL_TYPE_Q6_K ? 2 * L : 4 * L;
                for (int w = 0; w < (fmt == ZL_TYPE_Q6_K ? 4 : 3); w++) store32(header + at + w * VB + 4 * lane, load32(sc + 4 * w));
            }
            for (int j = 0; j < per; j++) {
                uint32_t w[8];
                block_words(fmt, src, j, w);
                for (int v = 0; v < n_words; v++) store32(codes + (j * n_words + v) * VB + 4 * lane, w[v]);
            }
        }
    }
}

ZL_INLINE void pack_values(const int size, int64_t n, int64_t k0, int64_t k, const uint8_t *rows, int64_t row_bytes, uint8_t *panel) {
    for (int64_t i = 0; i < k; i++)
        for (int64_t lane = 0; lane < n; lane++) memcpy(panel + (i * L + lane) * size, rows + lane * row_bytes + (k0 + i) * size, (size_t)size);
}

/* 16-bit values, two columns side by side */
ZL_INLINE void pack_pairs(int64_t n, int64_t k0, int64_t k, const uint8_t *rows, int64_t row_bytes, uint8_t *panel) {
    for (int64_t i = 0; i < k; i++)
        for (int64_t lane = 0; lane < n; lane++) memcpy(panel + (i / 2 * L + lane) * 4 + i % 2 * 2, rows + lane * row_bytes + (k0 + i) * 2, 2);
}

#define FORMAT(fmt) \
    case fmt: \
        if (n < L) memset(panel, 0, (size_t)(k / (fmt_super(fmt) ? 256 : 32) * file_bytes(fmt) * L)); \
        pack_blocks(fmt, n, k0, k, rows, row_bytes, panel); \
        return;

void ZL_FN(pack)(int type, int64_t n, int64_t k0, int64_t k, const uint8_t *rows, int64_t row_bytes, uint8_t *panel) {
    switch (type) {
        FORMAT(ZL_TYPE_Q4_0)
        FORMAT(ZL_TYPE_Q4_1)
        FORMAT(ZL_TYPE_Q5_0)
        FORMAT(ZL_TYPE_Q5_1)
        FORMAT(ZL_TYPE_Q8_0)
        FORMAT(ZL_TYPE_Q4_K)
        FORMAT(ZL_TYPE_Q5_K)
        FORMAT(ZL_TYPE_Q6_K)
    case ZL_PAIRS:
        if (n < L || k % 2) memset(panel, 0, (size_t)((k + 1) / 2 * L * 4));
        pack_pairs(n, k0, k, rows, row_bytes, panel);
        return;
    case ZL_TYPE_F32:
        if (n < L) memset(panel, 0, (size_t)(k * L * 4));
        pack_values(4, n, k0, k, rows, row_bytes, panel);
        return;
    case ZL_TYPE_F16:
    case ZL_TYPE_BF16:
        if (n < L) memset(panel, 0, (size_t)(k * L * 2));
        pack_values(2, n, k0, k, rows, row_bytes, panel);
        return;
    default: ZL_FN(pack_wide)(type, n, k0, k, rows, row_bytes, panel); return;
    }
}
#undef FORMAT

/* ---- back ------------------------------------------------------------------------------------------------------------------------- */

ZL_INLINE void unpack_blocks(const int fmt, int64_t k, const uint8_t *panel, int lane, float *dst) {
    for (int64_t b = 0; b < k / BLOCK; b++, dst += BLOCK) {
        float a[L], m[L];
        const uint8_t *head = head_of(fmt, panel, b);
        const int j = in_super(fmt, b);
        const scales_ sc = scales(fmt, head, j);
        vf_store(a, sc.a), vf_store(m, sc.b);
        for (int v = 0; v < 8; v++) {
            uint8_t c[VB];
            vb_store(c, code(fmt, codes_at(fmt, head, j), v));
            for (int i = 0; i < 4; i++) {
                int u = c[4 * lane + i];
                if (fmt_signed(fmt) && !ZL_SIGNED_ZERO) u = (int8_t)u;
                float y = (float)(u - fmt_zero(fmt)) * (fmt_halves(fmt) && v >= 4 ? m[lane] : a[lane]);
                dst[4 * v + i] = fmt_min(fmt) ? y - m[lane] : y;
            }
        }
    }
}

#define FORMAT(fmt) case fmt: unpack_blocks(fmt, k, panel, lane, dst); return;
void ZL_FN(unpack_row)(int type, int64_t k, const uint8_t *panel, int lane, float *dst) {
    switch (type) {
        FORMAT(ZL_TYPE_Q4_0)
        FORMAT(ZL_TYPE_Q4_1)
        FORMAT(ZL_TYPE_Q5_0)
        FORMAT(ZL_TYPE_Q5_1)
        FORMAT(ZL_TYPE_Q8_0)
        FORMAT(ZL_TYPE_Q4_K)
        FORMAT(ZL_TYPE_Q5_K)
        FORMAT(ZL_TYPE_Q6_K)
    case ZL_TYPE_F32:
        for (int64_t i = 0; i < k; i++) memcpy(dst + i, panel + (i * L + lane) * 4, 4);
        return;
    case ZL_TYPE_F16:
    case ZL_TYPE_BF16:
        for (int64_t i = 0; i < k; i++) ZL_FN(dequantize)(type, 1, panel + (i * L + lane) * 2, dst + i);
        return;
    default: ZL_FN(unpack_wide)(type, k, panel, lane, dst); return;
    }
}
