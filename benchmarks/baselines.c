/* What the engines are measured against, driven as a C program would drive it: one call per batch, no Python inside.
 *
 * Built by benchmarks/baselines.py. The libraries' functions come as pointers, so no header of theirs is needed. Every
 * function here takes one pointer to a struct whose fields are all 8 bytes wide, and returns how many rows came out
 * well. Where there is a choice, it favours the library: one key for the whole batch, tables and lists of pointers
 * that are ready before, header protection by AES-NI without a call.
 */
#include <stdint.h>
#include <string.h>
#include <wmmintrin.h>
#include <emmintrin.h>

enum { HEADER = 13, NUMBER = 9, TAG = 16, SAMPLE = 16, MOST = 128, BATCH = 1024, HIDDEN = 0x1f };

/* ---- Intel ISA-L ---- */

typedef void (*init_tables)(int k, int rows, uint8_t *matrix, uint8_t *tables);
typedef void (*encode_data)(int length, int k, int rows, uint8_t *tables, uint8_t **data, uint8_t **coding);
typedef int (*invert_matrix)(uint8_t *in, uint8_t *out, int n);

struct blocks {
    int64_t count, k, m, length;
    init_tables prepare;
    encode_data encode;
    invert_matrix invert;
    const uint8_t *matrix; /* [k + m][k]: identity over parity rows */
    uint8_t *tables;       /* [32 * k * m], those of the parity rows when encoding */
    uint8_t **source;      /* [count][k]; decoding: parity units in the place of lost ones */
    uint8_t **target;      /* [count][m] */
    const uint8_t *lost;   /* [count][m] positions, ascending */
};

int64_t isal_encode(struct blocks *b) {
    for (int64_t i = 0; i < b->count; i++)
        b->encode(b->length, b->k, b->m, b->tables, b->source + i * b->k, b->target + i * b->m);
    return b->count;
}

/* The recipe of ISA-L's examples: gather the rows that arrived, invert, keep the rows of the lost units, tables, go. */
int64_t isal_decode(struct blocks *b) {
    static uint8_t rows[MOST * MOST], inverse[MOST * MOST], chosen[MOST * MOST];
    const int64_t k = b->k, m = b->m;
    int64_t good = 0;
    for (int64_t i = 0; i < b->count; i++) {
        const uint8_t *lost = b->lost + i * m;
        for (int64_t unit = 0, next = 0; unit < k; unit++) {
            int gone = next < m && lost[next] == unit;
            memcpy(rows + unit * k, b->matrix + (gone ? k + next : unit) * k, k);
            next += gone;
        }
        if (b->invert(rows, inverse, k) != 0)
            continue;
        for (int64_t p = 0; p < m; p++)
            memcpy(chosen + p * k, inverse + lost[p] * k, k);
        b->prepare(k, m, chosen, b->tables);
        b->encode(b->length, k, m, b->tables, b->source + i * k, b->target + i * m);
        good++;
    }
    return good;
}

/* ---- AES-GCM and ChaCha20-Poly1305 ---- */

typedef void (*gcm)(const void *key, void *context, uint8_t *out, const uint8_t *in, uint64_t length, const uint8_t *iv,
                    const uint8_t *aad, uint64_t aad_length, uint8_t *tag, uint64_t tag_length);
typedef int (*evp_init)(void *context, const void *cipher, void *engine, const uint8_t *key, const uint8_t *iv);
typedef int (*evp_update)(void *context, uint8_t *out, int *written, const uint8_t *in, int length);
typedef int (*evp_final)(void *context, uint8_t *out, int *written);
typedef int (*evp_control)(void *context, int command, int length, void *pointer);

struct packets {
    int64_t count, length; /* bytes of a packet as it comes in: header and payload, and the tag when opening */
    uint8_t **source, **target;
    const int64_t *number; /* sealing: of the packet; opening: the largest received */
    const uint8_t *iv;
    void *key, *context; /* ipsec-mb: key data, scratch; EVP: context of the AEAD, context of header protection */
    gcm run;
    const uint8_t *round_keys; /* of header protection, AES-NI order */
    int64_t rounds;
    evp_init init;
    evp_update update;
    evp_final final;
    evp_control control;
    evp_init mask_init; /* of header protection, which always encrypts; set for ChaCha20, whose IV is the sample */
    evp_update mask_update;
};

static void write_nonce(uint8_t *nonce, const uint8_t *iv, uint64_t number) {
    memcpy(nonce, iv, 12);
    for (int byte = 0; byte < 8; byte++)
        nonce[4 + byte] ^= number >> (56 - 8 * byte);
}

static void hide(uint8_t *header, const uint8_t *mask) {
    header[0] ^= mask[0] & HIDDEN;
    for (int byte = 0; byte < 4; byte++)
        header[NUMBER + byte] ^= mask[1 + byte];
}

static int64_t expand(const uint8_t *header, int64_t largest) { /* RFC 9000, appendix A.3 */
    int64_t window = (int64_t)1 << 32, expected = largest + 1;
    int64_t low = (int64_t)header[9] << 24 | header[10] << 16 | header[11] << 8 | header[12];
    int64_t full = (expected & ~(window - 1)) | low;
    if (full <= expected - window / 2 && full < ((int64_t)1 << 62) - window)
        return full + window;
    return full > expected + window / 2 && full >= window ? full - window : full;
}

static int same_tag(const uint8_t *a, const uint8_t *b) {
    uint8_t differ = 0;
    for (int byte = 0; byte < TAG; byte++)
        differ |= a[byte] ^ b[byte];
    return differ == 0;
}

/* Masks of packets, eight blocks in flight. */
__attribute__((target("aes,sse2"))) static void aes_masks(const struct packets *p, uint8_t **packet, uint8_t *masks) {
    const __m128i *keys = (const __m128i *)p->round_keys;
    for (int64_t i = 0; i < p->count; i += 8) {
        int64_t some = p->count - i < 8 ? p->count - i : 8;
        __m128i block[8];
        for (int64_t j = 0; j < 8; j++)
            block[j] = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(packet[i + (j < some ? j : 0)] + HEADER)),
                                     _mm_loadu_si128(keys));
        for (int64_t round = 1; round < p->rounds; round++)
            for (int j = 0; j < 8; j++)
                block[j] = _mm_aesenc_si128(block[j], _mm_loadu_si128(keys + round));
        for (int64_t j = 0; j < some; j++)
            _mm_storeu_si128((__m128i *)(masks + SAMPLE * (i + j)),
                             _mm_aesenclast_si128(block[j], _mm_loadu_si128(keys + p->rounds)));
    }
}

int64_t ipsec_seal(struct packets *p) {
    static uint8_t masks[BATCH * SAMPLE];
    int64_t text = p->length - HEADER;
    for (int64_t i = 0; i < p->count; i++) {
        uint8_t nonce[12], *target = p->target[i];
        write_nonce(nonce, p->iv, p->number[i]);
        memcpy(target, p->source[i], HEADER);
        p->run(p->key, p->context, target + HEADER, p->source[i] + HEADER, text, nonce, p->source[i], HEADER,
               target + p->length, TAG);
    }
    aes_masks(p, p->target, masks);
    for (int64_t i = 0; i < p->count; i++)
        hide(p->target[i], masks + SAMPLE * i);
    return p->count;
}

int64_t ipsec_open(struct packets *p) {
    static uint8_t masks[BATCH * SAMPLE];
    int64_t text = p->length - HEADER - TAG, good = 0;
    aes_masks(p, p->source, masks);
    for (int64_t i = 0; i < p->count; i++) {
        uint8_t nonce[12], tag[TAG], *target = p->target[i];
        memcpy(target, p->source[i], HEADER);
        hide(target, masks + SAMPLE * i);
        write_nonce(nonce, p->iv, expand(target, p->number[i]));
        p->run(p->key, p->context, target + HEADER, p->source[i] + HEADER, text, nonce, target, HEADER, tag, TAG);
        if (same_tag(tag, p->source[i] + p->length - TAG))
            good++;
        else
            memset(target, 0, p->length - TAG);
    }
    return good;
}

/* AES: all samples in one call of ECB. ChaCha20: the sample is counter and nonce (RFC 9001, section 5.4.4). */
static void evp_masks(const struct packets *p, uint8_t **packet, uint8_t *masks) {
    static const uint8_t zeros[SAMPLE];
    static uint8_t samples[BATCH * SAMPLE];
    int written;
    if (p->mask_init) {
        for (int64_t i = 0; i < p->count; i++) {
            p->mask_init(p->context, 0, 0, 0, packet[i] + HEADER);
            p->mask_update(p->context, masks + SAMPLE * i, &written, zeros, 5);
        }
        return;
    }
    for (int64_t i = 0; i < p->count; i++)
        memcpy(samples + SAMPLE * i, packet[i] + HEADER, SAMPLE);
    p->mask_update(p->context, masks, &written, samples, SAMPLE * p->count);
}

int64_t evp_seal(struct packets *p) {
    static uint8_t masks[BATCH * SAMPLE];
    int64_t text = p->length - HEADER, good = 0;
    int written;
    for (int64_t i = 0; i < p->count; i++) {
        uint8_t nonce[12], *target = p->target[i];
        write_nonce(nonce, p->iv, p->number[i]);
        memcpy(target, p->source[i], HEADER);
        p->init(p->key, 0, 0, 0, nonce);
        p->update(p->key, 0, &written, p->source[i], HEADER);
        p->update(p->key, target + HEADER, &written, p->source[i] + HEADER, text);
        good += p->final(p->key, target + p->length, &written) == 1 &&
                p->control(p->key, 0x10, TAG, target + p->length) == 1;
    }
    evp_masks(p, p->target, masks);
    for (int64_t i = 0; i < p->count; i++)
        hide(p->target[i], masks + SAMPLE * i);
    return good;
}

int64_t evp_open(struct packets *p) {
    static uint8_t masks[BATCH * SAMPLE];
    int64_t text = p->length - HEADER - TAG, good = 0;
    int written;
    evp_masks(p, p->source, masks);
    for (int64_t i = 0; i < p->count; i++) {
        uint8_t nonce[12], *target = p->target[i];
        memcpy(target, p->source[i], HEADER);
        hide(target, masks + SAMPLE * i);
        write_nonce(nonce, p->iv, expand(target, p->number[i]));
        p->init(p->key, 0, 0, 0, nonce);
        p->update(p->key, 0, &written, target, HEADER);
        p->update(p->key, target + HEADER, &written, p->source[i] + HEADER, text);
        p->control(p->key, 0x11, TAG, p->source[i] + p->length - TAG);
        if (p->final(p->key, target + p->length - TAG, &written) == 1)
            good++;
        else
            memset(target, 0, p->length - TAG);
    }
    return good;
}
