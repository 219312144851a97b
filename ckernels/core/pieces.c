/* pieces.c - SentencePiece BPE of a whole text in one call.
 *
 * SentencePiece has no words: any two neighbours whose joined text is a token may be joined, over the whole text. A text is cut all the same,
 * where no join can reach across, that is before a space after a byte that stands before a space in no token:
 *
 *      text   a   c a t , _ a   c a t           `_` stands for what no token has before a space
 *      words | a| cat,_ | a| cat|               " a" and " cat" come twice and are merged once
 *
 * A word that came before in the text has the ids it had then: `known` maps a hash to the last word that had it, and where its ids are. Ids are
 * a function of the word alone, so nothing depends on what is found there.
 *
 * The ids are written where the word's symbols are worked on, so that a text which is one word takes four bytes for each of its own for both.
 * That is sound: a symbol of k bytes becomes one id, or k where it is no token, so ids never come past the symbol that is read.
 *
 *      symbols of the word (strings.c)      ids[n_ids]  3  .  .  2  .  1         lengths, each at its symbol's first byte
 *      become ids from the left             ids[n_ids]  17 261 9                 of "abc", "de", "f"
 *
 * What lies between cuts is a text of its own, but for the words that are remembered: special tokens have been found before (specials.c).
 *
 * What it is not: it reads no file, and puts no space before a text. Twin: tokenizer_spm.py's encode_by_definition.
 */
#include "core.h"
#include "strings.h"
#include <stdlib.h>
#include <string.h>

enum { FEWEST_KNOWN = 16, MOST_KNOWN = 1 << 16 };

typedef struct {
    int32_t begin, n;     /* the word in the text; n 0: none yet */
    int32_t first, n_ids; /* where its ids are */
} known_word;

/* Whether a space begins at text[i]. */
static inline int space_at(const uint8_t *text, int64_t i, int64_t n) {
    return text[i] == ' ' || (text[i] == 0xe2 && i + 2 < n && text[i + 1] == 0x96 && text[i + 2] == 0x81);
}

/* The byte after the word that begins at `begin`. */
static inline int64_t word_end(const zl_pieces *p, const uint8_t *text, int64_t begin, int64_t n) {
    int64_t i = begin + 1;
    while (i < n && (!space_at(text, i, n) || p->joinable[text[i - 1]])) i++;
    return i;
}

/* The ids of a word whose symbols' lengths stand in ids [n], from ids[0] on; their number. lacking: see zl_pieces_encode, of the word. */
static int64_t give(const zl_pieces *p, const uint8_t *text, int64_t n, int32_t *ids, int64_t *lacking) {
    int64_t count = 0;
    int unknown = 0; /* whether what stands before became the unknown token */
    for (int64_t i = 0, length; i < n; i += length) {
        length = ids[i];
        const int32_t token = zl_strings_search(p->tokens, text + i, length);
        if (token >= 0) {
            ids[count++] = token;
        } else if (p->unknown >= 0) {
            if (!unknown) ids[count++] = p->unknown;
        } else {
            for (int64_t j = i; j < i + length; j++) {
                if (p->bytes[text[j]] < 0 && lacking[0] < 0) lacking[0] = j, lacking[1] = i, lacking[2] = i + length;
                ids[count++] = p->bytes[text[j]];
            }
        }
        unknown = token < 0;
    }
    return count;
}

/* Whether cuts lie in a text of n bytes, one after the other, none empty. */
static int check_cuts(const int32_t *cuts, int64_t n_cuts, int64_t n) {
    for (int64_t i = 0, at = 0; i < n_cuts; at = cuts[3 * i++ + 1])
        if (cuts[3 * i] < at || cuts[3 * i + 1] <= cuts[3 * i] || cuts[3 * i + 1] > n)
            return zl_fail(ZL_E_BOUNDS, "pieces: cut %lld lies from byte %d to %d, after %lld, of %lld", (long long)i, cuts[3 * i], cuts[3 * i + 1], (long long)at,
                           (long long)n);
    return ZL_OK;
}

int zl_pieces_encode(const zl_pieces *p, const uint8_t *text, int64_t n, const int32_t *cuts, int64_t n_cuts, int32_t *ids, int64_t *n_ids,
                     int64_t *lacking) {
    if (n_cuts && !cuts) return zl_fail(ZL_E_ARG, "pieces: a null pointer");
    if (!p || !p->joinable || !p->bytes || !n_ids || !lacking || (n && (!text || !ids))) return zl_fail(ZL_E_ARG, "pieces: a null pointer");
    int status = zl_strings_check(p->tokens);
    if (status) return status;
    if (n < 0 || n >= INT32_MAX || n_cuts < 0) return zl_fail(ZL_E_SHAPE, "pieces: a text of %lld bytes, %lld cuts", (long long)n, (long long)n_cuts);
    if ((status = check_cuts(cuts, n_cuts, n))) return status;
    *n_ids = 0, lacking[0] = lacking[1] = lacking[2] = -1;
    int64_t room = FEWEST_KNOWN, count = 0;
    while (room < n / 4 && room < MOST_KNOWN) room *= 2;
    known_word *known = calloc((size_t)room, sizeof *known);
    if (!known) return zl_fail(ZL_E_MEMORY, "remembering words needs %lld bytes", (long long)(room * (int64_t)sizeof *known));
    int64_t part = 0; /* ids before this part of the text */
    for (int64_t begin = 0, end, cut = 0; begin < n && !status; begin = end) {
        if (cut < n_cuts && cuts[3 * cut] == begin) {
            ids[count++] = cuts[3 * cut + 2], part = count;
            end = cuts[3 * cut++ + 1];
            continue;
        }
        end = word_end(p, text, begin, cut < n_cuts ? cuts[3 * cut] : n);
        const int64_t length = end - begin;
        known_word *word = known + (zl_hash_word(text + begin, length) & (uint64_t)(room - 1));
        const int32_t *given = ids + count;
        int64_t made;
        if (word->n == length && !memcmp(text + word->begin, text + begin, (size_t)length)) {
            given = ids + word->first, made = word->n_ids;
        } else {
            int64_t bad[3] = {-1, -1, -1};
            if ((status = zl_strings_merge(p->tokens, p->ranks, -1, text + begin, length, ids + count))) break;
            made = give(p, text + begin, length, ids + count, bad);
            for (int i = 0; i < 3 && bad[0] >= 0 && lacking[i] < 0; i++) lacking[i] = begin + bad[i];
            *word = (known_word){(int32_t)begin, (int32_t)length, (int32_t)count, (int32_t)made};
        }
        /* A run of unknown characters is one token, also where a word ends in it. */
        const int joins = p->unknown >= 0 && count > part && ids[count - 1] == p->unknown && given[0] == p->unknown;
        if (joins && given == ids + count) word->n = 0; /* its first id is gone */
        for (int64_t i = joins; i < made; i++) ids[count++] = given[i];
    }
    free(known);
    *n_ids = count;
    return status;
}
