// Poly1305 (RFC 8439, 2.5) over five limbs of 26 bits.
#ifndef VANTUN_POLY1305_H
#define VANTUN_POLY1305_H

#define LIMB 0x3ffffffu

// Limbs of a number of 128 bits, plus ``top`` * 2^128.
DEVICE void poly_limbs(const u32 *words, u32 top, u32 *limbs) {
    limbs[0] = words[0] & LIMB;
    limbs[1] = (words[0] >> 26 | words[1] << 6) & LIMB;
    limbs[2] = (words[1] >> 20 | words[2] << 12) & LIMB;
    limbs[3] = (words[2] >> 14 | words[3] << 18) & LIMB;
    limbs[4] = words[3] >> 8 | top << 24;
}

// The secret r as limbs, clamped.
DEVICE void poly_clamp(const u32 *words, u32 *r) {
    u32 clamped[4] = {words[0] & 0x0fffffff, words[1] & 0x0ffffffc, words[2] & 0x0ffffffc, words[3] & 0x0ffffffc};
    poly_limbs(clamped, 0, r);
}

DEVICE void poly_add(u32 *y, const u32 *x) {
    UNROLL
    for (int i = 0; i < 5; i++) y[i] += x[i];
}

// y = y * r modulo 2^130 - 5. Limbs of y may have 28 bits, those of r 27; the result's have 26, the second's 27.
DEVICE void poly_product(u32 *y, const u32 *r) {
    u64 sum[5];
    UNROLL
    for (int i = 0; i < 5; i++) {
        sum[i] = 0;
        UNROLL
        for (int j = 0; j < 5; j++) sum[i] += (u64)y[j] * (j <= i ? r[i - j] : 5 * r[5 + i - j]);
    }
    u64 carry = 0;
    UNROLL
    for (int i = 0; i < 5; i++) {
        sum[i] += carry;
        carry = sum[i] >> 26;
        y[i] = (u32)sum[i] & LIMB;
    }
    carry = y[0] + 5 * carry;
    y[0] = (u32)carry & LIMB;
    y[1] += (u32)(carry >> 26);
}

// y plus a block of four words and 2^128.
DEVICE void poly_add_block(u32 *y, const u32 *block) {
    u32 limbs[5];
    poly_limbs(block, 1, limbs);
    poly_add(y, limbs);
}

// The tag: y modulo 2^130 - 5, plus s, modulo 2^128.
DEVICE void poly_finish(u32 *y, const u32 *s, u32 *tag) {
    u32 carry = 0;
    for (int turn = 0; turn < 2; turn++) {
        UNROLL
        for (int i = 0; i < 5; i++) {
            y[i] += carry;
            carry = y[i] >> 26;
            y[i] &= LIMB;
        }
        carry *= 5;
    }
    y[0] += carry;
    // y - p = y + 5 - 2^130, where that is not negative.
    u32 less[5];
    carry = 5;
    UNROLL
    for (int i = 0; i < 5; i++) {
        less[i] = y[i] + carry;
        carry = less[i] >> 26;
        less[i] &= LIMB;
    }
    u32 take = 0 - carry;
    UNROLL
    for (int i = 0; i < 5; i++) y[i] = (less[i] & take) | (y[i] & ~take);
    u32 words[4] = {y[0] | y[1] << 26, y[1] >> 6 | y[2] << 20, y[2] >> 12 | y[3] << 14, y[3] >> 18 | y[4] << 8};
    u64 sum = 0;
    UNROLL
    for (int i = 0; i < 4; i++) {
        sum += (u64)words[i] + s[i];
        tag[i] = (u32)sum;
        sum >>= 32;
    }
}

#endif
