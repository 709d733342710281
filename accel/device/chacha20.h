// ChaCha20 (RFC 8439, 2.3).
#ifndef VANTUN_CHACHA20_H
#define VANTUN_CHACHA20_H

#define QUARTER_ROUND(a, b, c, d)                                                                                      \
    a += b, d = rotate_left(d ^ a, 16);                                                                                \
    c += d, b = rotate_left(b ^ c, 12);                                                                                \
    a += b, d = rotate_left(d ^ a, 8);                                                                                 \
    c += d, b = rotate_left(b ^ c, 7);

// Write the key stream of one block, sixteen words.
DEVICE void chacha20_block(GLOBAL const u32 *key, u32 counter, const u32 *nonce, u32 *out) {
    u32 start[16], x[16];
    start[0] = 0x61707865, start[1] = 0x3320646e, start[2] = 0x79622d32, start[3] = 0x6b206574;
    UNROLL
    for (int i = 0; i < 8; i++) start[4 + i] = key[i];
    start[12] = counter, start[13] = nonce[0], start[14] = nonce[1], start[15] = nonce[2];
    UNROLL
    for (int i = 0; i < 16; i++) x[i] = start[i];
    KEEP_LOOP
    for (int round = 0; round < 10; round++) {
        QUARTER_ROUND(x[0], x[4], x[8], x[12])
        QUARTER_ROUND(x[1], x[5], x[9], x[13])
        QUARTER_ROUND(x[2], x[6], x[10], x[14])
        QUARTER_ROUND(x[3], x[7], x[11], x[15])
        QUARTER_ROUND(x[0], x[5], x[10], x[15])
        QUARTER_ROUND(x[1], x[6], x[11], x[12])
        QUARTER_ROUND(x[2], x[7], x[8], x[13])
        QUARTER_ROUND(x[3], x[4], x[9], x[14])
    }
    UNROLL
    for (int i = 0; i < 16; i++) out[i] = x[i] + start[i];
}

#endif
