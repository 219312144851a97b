/* utf8.h - code points out of UTF-8 and into it, for the files of core that read texts. What is no UTF-8 is read as U+FFFD, byte by byte. */
#ifndef ZL_UTF8_H
#define ZL_UTF8_H
#include "core.h"

enum { ZL_REPLACEMENT = 0xfffd };

/* The code point at text[i], its length in bytes in *n; nothing from text[end] on is read. */
static inline uint32_t zl_code_point(const uint8_t *text, int64_t i, int64_t end, int64_t *n) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const uint32_t lead = text[i];
    *n = 1;
    if (lead < 0x80) return lead;
    const int length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || i + length > end) return ZL_REPLACEMENT;
    uint32_t code = lead & (0x7fu >> length);
    for (int j = 1; j < length; j++) {
        if ((text[i + j] & 0xc0) != 0x80) return ZL_REPLACEMENT;
        code = code << 6 | (text[i + j] & 0x3fu);
    }
    if (code < least[length] || code >= ZL_CODE_POINTS) return ZL_REPLACEMENT;
    *n = length;
    return code;
}

/* Write a code point: 1 to 4 bytes, which is what is given back. */
static inline int64_t zl_write_code_point(uint32_t code, uint8_t *out) {
    const int64_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (n == 1) return out[0] = (uint8_t)code, n;
    for (int64_t i = n - 1; i > 0; i--, code >>= 6) out[i] = (uint8_t)(0x80 | (code & 0x3f));
    out[0] = (uint8_t)(0xf00 >> n | code);
    return n;
}
#endif
