// The second launch of packet protection (packets.h): an item for every 128 bytes of key stream, and their hash.
#ifndef VANTUN_CHUNKS_H
#define VANTUN_CHUNKS_H

// Add sixteen bytes of key stream to block ``index`` of the payload, if there is one; what lies behind its end is zero.
DEVICE void cross_block(const Packet *packet, u32 index, const u32 *stream) {
    u32 begin = 16 * index, words[4];
    if (begin >= packet->length) return;
    load16(packet->source + PACKET_PAYLOAD + begin, words);
    UNROLL
    for (int i = 0; i < 4; i++) words[i] ^= stream[i];
    keep_bytes(words, packet->length - begin);
    store16(packet->target + PACKET_PAYLOAD + begin, words);
}

// Block ``index`` of a ciphertext, padded with zeros.
DEVICE void load_block(GLOBAL const u8 *payload, u32 index, u32 length, u32 *words) {
    load16(payload + 16 * index, words);
    keep_bytes(words, length - 16 * index);
}

DEVICE void gcm_chunk(const Packet *packet, GLOBAL const u32 *key, u32 chunk, GLOBAL const u8 *ciphertext) {
    u32 blocks[32];
    UNROLL
    for (u32 i = 0; i < CHUNK_BLOCKS; i++) {
        UNROLL
        for (int w = 0; w < 3; w++) blocks[4 * i + w] = packet->state[STATE_NONCE + w];
        blocks[4 * i + 3] = swap_bytes(CHUNK_BLOCKS * chunk + 1 + i);
    }
    aes_encrypt(key + KEY_AES, key[KEY_ROUNDS], blocks);
    if (chunk == 0) {
        UNROLL
        for (int w = 0; w < 4; w++) packet->state[STATE_MASK + w] = blocks[w];
    }
    UNROLL
    for (u32 i = 0; i < CHUNK_BLOCKS; i++)
        if (chunk + i > 0) cross_block(packet, CHUNK_BLOCKS * chunk + i - 1, blocks + 4 * i);
    u32 begin = chunk ? CHUNK_BLOCKS * chunk - 1 : 0, end = CHUNK_BLOCKS * chunk + CHUNK_BLOCKS - 1;
    u64 power[2] = {join(key[KEY_POWERS], key[KEY_POWERS + 1]), join(key[KEY_POWERS + 2], key[KEY_POWERS + 3])};
    u64 y[2] = {0, 0};
    KEEP_LOOP
    for (u32 i = begin; i < end && 16 * i < packet->length; i++) {
        u32 words[4];
        load_block(ciphertext, i, packet->length, words);
        ghash_add(y, words);
        ghash_product(y, power);
    }
    GLOBAL u32 *hash = packet->hashes + HASH * chunk;
    hash[0] = (u32)y[0], hash[1] = (u32)(y[0] >> 32), hash[2] = (u32)y[1], hash[3] = (u32)(y[1] >> 32);
}

DEVICE void load_r(GLOBAL const u32 *state, u32 *r) {
    u32 words[4];
    UNROLL
    for (int i = 0; i < 4; i++) words[i] = state[STATE_R + i];
    poly_clamp(words, r);
}

DEVICE void chacha_chunk(const Packet *packet, GLOBAL const u32 *key, u32 chunk, GLOBAL const u8 *ciphertext) {
    u32 nonce[3], r[5], y[5] = {0, 0, 0, 0, 0};
    UNROLL
    for (int i = 0; i < 3; i++) nonce[i] = packet->state[STATE_NONCE + i];
    KEEP_LOOP
    for (u32 part = 0; part < 2; part++) {
        u32 stream[16];
        chacha20_block(key + KEY_CHACHA, 2 * chunk + part + 1, nonce, stream);
        UNROLL
        for (u32 i = 0; i < 4; i++) cross_block(packet, CHUNK_BLOCKS * chunk + 4 * part + i, stream + 4 * i);
    }
    load_r(packet->state, r);
    u32 begin = CHUNK_BLOCKS * chunk;
    KEEP_LOOP
    for (u32 i = begin; i < begin + CHUNK_BLOCKS && 16 * i < packet->length; i++) {
        u32 words[4];
        load_block(ciphertext, i, packet->length, words);
        poly_add_block(y, words);
        poly_product(y, r);
    }
    GLOBAL u32 *hash = packet->hashes + HASH * chunk;
    UNROLL
    for (int i = 0; i < 5; i++) hash[i] = y[i];
}

// One chunk: key stream and its part of the hash; ``opening`` says which side is the ciphertext.
DEVICE void do_chunk(PARAMETERS, u32 item, u32 opening) {
    u32 index = find_owner(work, HEADER, PACKET, work[HEADER_PACKETS], item);
    Packet packet = read_packet(ARGUMENTS, index);
    u32 slot = packet.state[STATE_KEY];
    if (slot == NO_KEY) return;
    GLOBAL const u32 *key = key_record(table, slot);
    u32 chunk = item - packet.first;
    if (chunk >= chunks_of(key[KEY_SUITE], packet.length)) return; // counted for the longer suite
    GLOBAL const u8 *ciphertext = (opening ? packet.source : packet.target) + PACKET_PAYLOAD;
    if (key[KEY_SUITE] == SUITE_CHACHA)
        chacha_chunk(&packet, key, chunk, ciphertext);
    else
        gcm_chunk(&packet, key, chunk, ciphertext);
}

KERNEL(seal_chunks, 1) { do_chunk(ARGUMENTS, item, 0); }

KERNEL(open_chunks, 1) { do_chunk(ARGUMENTS, item, 1); }

#endif
