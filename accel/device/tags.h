// The third launch of packet protection (packets.h): an item for each packet, its tag, header and verdict.
#ifndef VANTUN_TAGS_H
#define VANTUN_TAGS_H

// Put the chunks' hashes together: the additional data, each chunk behind as many products as it has blocks, lengths.
DEVICE void gcm_tag(const Packet *packet, GLOBAL const u32 *key, const u32 *block, u32 *tag) {
    u64 y[2] = {0, 0}, power[2];
    u32 chunks = chunks_of(key[KEY_SUITE], packet->length), left = (packet->length + 15) / 16;
    ghash_add(y, block);
    KEEP_LOOP
    for (u32 chunk = 0; chunk <= chunks + 1; chunk++) {
        // Turns: the additional data alone, then the chunks, then the lengths; each adds what it has and multiplies.
        u32 most = chunk == 1 ? CHUNK_BLOCKS - 1 : CHUNK_BLOCKS;
        u32 blocks = chunk == 0 || chunk > chunks ? 1 : (left < most ? left : most);
        if (chunk > chunks) {
            u32 lengths[4] = {0, swap_bytes(8 * 13), 0, swap_bytes(8 * packet->length)};
            ghash_add(y, lengths);
        }
        if (blocks) {
            GLOBAL const u32 *from = key + KEY_POWERS + 4 * (blocks - 1);
            power[0] = join(from[0], from[1]), power[1] = join(from[2], from[3]);
            ghash_product(y, power);
        }
        if (chunk >= 1 && chunk <= chunks) {
            GLOBAL const u32 *hash = packet->hashes + HASH * (chunk - 1);
            y[0] ^= join(hash[0], hash[1]), y[1] ^= join(hash[2], hash[3]);
            left -= blocks;
        }
    }
    tag[0] = swap_bytes((u32)(y[1] >> 32)), tag[1] = swap_bytes((u32)y[1]);
    tag[2] = swap_bytes((u32)(y[0] >> 32)), tag[3] = swap_bytes((u32)y[0]);
    UNROLL
    for (int i = 0; i < 4; i++) tag[i] ^= packet->state[STATE_MASK + i];
}

DEVICE void chacha_tag(const Packet *packet, const u32 *block, u32 *tag) {
    u32 r[5], power[5], y[5] = {0, 0, 0, 0, 0}, s[4];
    load_r(packet->state, r);
    poly_add_block(y, block);
    poly_product(y, r);
    UNROLL
    for (int i = 0; i < 5; i++) power[i] = r[i];
    for (int i = 0; i < 3; i++) poly_product(power, power);
    u32 whole = packet->length / CHUNK, left = (packet->length % CHUNK + 15) / 16;
    KEEP_LOOP
    for (u32 chunk = 0; chunk < whole; chunk++) {
        poly_product(y, power);
        UNROLL
        for (int i = 0; i < 5; i++) y[i] += packet->hashes[HASH * chunk + i];
    }
    if (left) {
        KEEP_LOOP
        for (u32 i = 0; i < left; i++) poly_product(y, r);
        UNROLL
        for (int i = 0; i < 5; i++) y[i] += packet->hashes[HASH * whole + i];
    }
    u32 lengths[4] = {13, 0, packet->length, 0};
    poly_add_block(y, lengths);
    poly_product(y, r);
    UNROLL
    for (int i = 0; i < 4; i++) s[i] = packet->state[STATE_MASK + i];
    poly_finish(y, s, tag);
}

DEVICE void make_tag(const Packet *packet, GLOBAL const u32 *key, const u32 *head, u32 *tag) {
    u32 block[4];
    header_block(head, block);
    if (key[KEY_SUITE] == SUITE_CHACHA)
        chacha_tag(packet, block, tag);
    else
        gcm_tag(packet, key, block, tag);
}

// The plain header: what the launch of heads found, and the connection id between.
DEVICE void load_head(const Packet *packet, u32 *head) {
    load16(packet->source, head);
    head[0] = packet->state[STATE_HEAD];
    head[3] = packet->state[STATE_HEAD + 1];
}

// The tag behind the payload, wherever that ends, and zeros up to the next multiple of 16.
DEVICE void store_tag(const Packet *packet, const u32 *tag) {
    const u32 zeros[4] = {0, 0, 0, 0};
    GLOBAL u8 *payload = packet->target + PACKET_PAYLOAD, *place = payload + packet->length;
    if (packet->length % 16) store16(payload + (packet->length / 16 + 1) * 16, zeros);
    UNROLL
    for (u32 i = 0; i < 16; i++) place[i] = (u8)(tag[i / 4] >> 8 * (i % 4));
}

DEVICE void load_tag(const Packet *packet, u32 *tag) {
    GLOBAL const u8 *place = packet->source + PACKET_PAYLOAD + packet->length;
    UNROLL
    for (u32 w = 0; w < 4; w++)
        tag[w] = place[4 * w] | place[4 * w + 1] << 8 | place[4 * w + 2] << 16 | (u32)place[4 * w + 3] << 24;
}

DEVICE void store_verdict(const Packet *packet, u32 verdict) {
    u32 found[4] = {packet->state[STATE_NUMBER], packet->state[STATE_NUMBER + 1], verdict, 0};
    store16(packet->verdict, found);
}

KERNEL(seal_tags, 2) {
    Packet packet = read_packet(ARGUMENTS, item);
    u32 slot = packet.state[STATE_KEY], head[4], tag[4] = {0, 0, 0, 0}, sample[4], mask[2];
    if (slot != NO_KEY) {
        load_head(&packet, head);
        make_tag(&packet, key_record(table, slot), head, tag);
        store_tag(&packet, tag);
        load16(packet.target + PACKET_PAYLOAD, sample);
        header_mask(key_record(table, packet.slot), sample, mask);
        apply_mask(head, mask);
        store16(packet.target, head);
    }
    store_verdict(&packet, slot != NO_KEY ? PACKET_DONE : PACKET_REJECTED);
}

KERNEL(open_tags, 2) {
    Packet packet = read_packet(ARGUMENTS, item);
    u32 slot = packet.state[STATE_KEY], head[4], tag[4], given[4], wrong = 1;
    if (slot != NO_KEY) {
        load_head(&packet, head);
        make_tag(&packet, key_record(table, slot), head, tag);
        store16(packet.target, head);
        load_tag(&packet, given);
        wrong = 0;
        UNROLL
        for (int i = 0; i < 4; i++) wrong |= tag[i] ^ given[i];
    }
    store_verdict(&packet, wrong ? PACKET_REJECTED : PACKET_DONE);
}

#endif
