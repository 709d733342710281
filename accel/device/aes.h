// AES, eight blocks at a time in 32 registers: bit-sliced, so that no address and no branch depends on a secret.
//
// Plane [4 b + r] holds bit b of the bytes of row r: byte c of the plane is column c, its bit i is block i. ShiftRows
// rotates a plane by whole bytes and MixColumns only names other planes; the S-box works on the eight planes of a row.
#ifndef VANTUN_AES_H
#define VANTUN_AES_H

#define AES_ROUND 32 // words of a round key, as planes

// Product in GF(2^4), x^4 + x + 1.
DEVICE void nibble_product(const u32 *a, const u32 *b, u32 *c) {
    u32 p4 = (a[1] & b[3]) ^ (a[2] & b[2]) ^ (a[3] & b[1]);
    u32 p5 = (a[2] & b[3]) ^ (a[3] & b[2]);
    u32 p6 = a[3] & b[3];
    c[0] = (a[0] & b[0]) ^ p4;
    c[1] = (a[0] & b[1]) ^ (a[1] & b[0]) ^ p4 ^ p5;
    c[2] = (a[0] & b[2]) ^ (a[1] & b[1]) ^ (a[2] & b[0]) ^ p5 ^ p6;
    c[3] = (a[0] & b[3]) ^ (a[1] & b[2]) ^ (a[2] & b[1]) ^ (a[3] & b[0]) ^ p6;
}

// Inverse in GF(2^4), 0 for 0: its algebraic normal form.
DEVICE void nibble_inverse(const u32 *d, u32 *e) {
    u32 d01 = d[0] & d[1], d02 = d[0] & d[2], d12 = d[1] & d[2], d03 = d[0] & d[3], d13 = d[1] & d[3];
    u32 d123 = d12 & d[3];
    e[0] = d[0] ^ d[1] ^ d[2] ^ d[3] ^ d02 ^ d12 ^ (d01 & d[2]) ^ d123;
    e[1] = d01 ^ d02 ^ d12 ^ d[3] ^ d13 ^ (d01 & d[3]);
    e[2] = d01 ^ d[2] ^ d02 ^ d[3] ^ d03 ^ (d02 & d[3]);
    e[3] = d[1] ^ d[2] ^ d[3] ^ d03 ^ d13 ^ (d[2] & d[3]) ^ d123;
}

// The S-box of one row (FIPS 197, 5.1.1): inversion in GF((2^4)^2) with y^2 + y + x^3 + x, which takes one inversion in
// GF(2^4), between two changes of basis; the second includes the affine map.
DEVICE void substitute_row(u32 *s) {
    u32 x0 = s[0], x1 = s[4], x2 = s[8], x3 = s[12], x4 = s[16], x5 = s[20], x6 = s[24], x7 = s[28];
    u32 x57 = x5 ^ x7, x25 = x2 ^ x5;
    u32 low[4] = {x0 ^ x2 ^ x57, x25 ^ x6 ^ x7, x2, x3 ^ x4};
    u32 high[4] = {x1 ^ x57, x2 ^ x3, x1 ^ x4 ^ x6 ^ x7, x57};
    u32 norm[4], inverse[4], t[8], sum[4];
    nibble_product(high, low, norm);
    norm[0] ^= high[2] ^ high[3] ^ low[0] ^ low[2];
    norm[1] ^= high[0] ^ high[1] ^ low[2];
    norm[2] ^= high[1] ^ high[2] ^ low[1] ^ low[3];
    norm[3] ^= high[0] ^ high[1] ^ high[2] ^ low[3];
    nibble_inverse(norm, inverse);
    UNROLL
    for (int i = 0; i < 4; i++) sum[i] = high[i] ^ low[i];
    nibble_product(sum, inverse, t);
    nibble_product(high, inverse, t + 4);
    u32 t03 = t[0] ^ t[3], t12 = t[1] ^ t[2], t26 = t[2] ^ t[6];
    s[0] = ~(t03 ^ t12 ^ t[5] ^ t[7]);
    s[4] = ~(t[0] ^ t[1] ^ t[4]);
    s[8] = t03 ^ t26 ^ t[5] ^ t[7];
    s[12] = t03 ^ t[1] ^ t26;
    s[16] = t03 ^ t[4];
    s[20] = ~(t[1] ^ t26 ^ t[5]);
    s[24] = ~(t[4] ^ t[5] ^ t[6]);
    s[28] = t12 ^ t[3];
}

// Column r of every block after ShiftRows; the planes of row r turn by r columns.
DEVICE void shift_rows(u32 *s) {
    UNROLL
    for (int b = 0; b < 8; b++) {
        UNROLL
        for (int r = 1; r < 4; r++) s[4 * b + r] = rotate_right(s[4 * b + r], 8 * r);
    }
}

// Row r becomes 2 (a_r + a_{r+1}) + a_{r+1} + a_{r+2} + a_{r+3} (FIPS 197, 5.1.3).
DEVICE void mix_columns(u32 *s) {
    u32 out[32];
    UNROLL
    for (int r = 0; r < 4; r++) {
        u32 top = s[28 + r] ^ s[28 + (r + 1) % 4];
        UNROLL
        for (int b = 0; b < 8; b++) {
            u32 doubled = b ? s[4 * b - 4 + r] ^ s[4 * b - 4 + (r + 1) % 4] : top;
            if (b == 1 || b == 3 || b == 4) doubled ^= top;
            out[4 * b + r] = doubled ^ s[4 * b + (r + 1) % 4] ^ s[4 * b + (r + 2) % 4] ^ s[4 * b + (r + 3) % 4];
        }
    }
    UNROLL
    for (int i = 0; i < 32; i++) s[i] = out[i];
}

DEVICE void add_round_key(u32 *s, GLOBAL const u32 *key) {
    UNROLL
    for (int i = 0; i < 32; i++) s[i] ^= key[i];
}

#define EXCHANGE(a, b, shift, mask)                                                                                    \
    {                                                                                                                  \
        u32 moved = ((a) >> (shift) ^ (b)) & (mask);                                                                   \
        (b) ^= moved;                                                                                                  \
        (a) ^= moved << (shift);                                                                                       \
    }

// Between eight blocks of four words [4 i + c] and planes [4 b + r]; it is its own inverse.
DEVICE void transpose_blocks(u32 *s) {
    UNROLL
    for (int c = 0; c < 4; c++) {
        UNROLL
        for (int i = 0; i < 8; i += 2) EXCHANGE(s[4 * i + c], s[4 * i + 4 + c], 1, 0x55555555u)
        UNROLL
        for (int i = 0; i < 8; i += i % 4 ? 3 : 1) EXCHANGE(s[4 * i + c], s[4 * i + 8 + c], 2, 0x33333333u)
        UNROLL
        for (int i = 0; i < 4; i++) EXCHANGE(s[4 * i + c], s[4 * i + 16 + c], 4, 0x0f0f0f0fu)
    }
    UNROLL
    for (int b = 0; b < 8; b++) {
        u32 *w = s + 4 * b;
        EXCHANGE(w[0], w[1], 8, 0x00ff00ffu)
        EXCHANGE(w[2], w[3], 8, 0x00ff00ffu)
        EXCHANGE(w[0], w[2], 16, 0x0000ffffu)
        EXCHANGE(w[1], w[3], 16, 0x0000ffffu)
    }
}

// Encrypt eight blocks [4 i + c] in place; ``keys`` are ``rounds`` + 1 round keys as planes.
DEVICE void aes_encrypt(GLOBAL const u32 *keys, u32 rounds, u32 *s) {
    transpose_blocks(s);
    add_round_key(s, keys);
    KEEP_LOOP
    for (u32 round = 1; round <= rounds; round++) {
        UNROLL
        for (int r = 0; r < 4; r++) substitute_row(s + r);
        shift_rows(s);
        if (round < rounds) mix_columns(s);
        add_round_key(s, keys + AES_ROUND * round);
    }
    transpose_blocks(s);
}

#endif
