// The vectors of docs/formats/log.md, from an implementation of their own: @noble/curves and this file, no contract.
//
//     chain/contracts/build --vectors [--check]
//
// Invariant: deterministic. A difference means that the format changed, and with it what everyone has signed.
// Does not know: how the contracts do it; test/Vectors.t.sol holds them against what is written here.

import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const FILE = path.join(import.meta.dirname, "..", "..", "..", "docs", "formats", "vectors", "log.json");
const from = createRequire(path.join(process.env.ASHLAR_CONTRACTS_MODULES, "package.json"));
const load = (name) => import(pathToFileURL(from.resolve(name)).href);
const { bls12_381: bls } = await load("@noble/curves/bls12-381.js");
// The hash library that the curves bring with them.
const { keccak_256: keccak } = await import(
    pathToFileURL(createRequire(from.resolve("@noble/curves/bls12-381.js")).resolve("@noble/hashes/sha3.js")).href
);

const ORDER = bls.fields.Fr.ORDER;
const SIGNATURE_TAG = "ASHLAR-DA-SIG-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";
const POSSESSION_TAG = "ASHLAR-DA-POP-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";

// Bytes

const text = (value) => Buffer.from(value, "ascii");
const bytes = (hex) => Buffer.from(hex, "hex");
const join = (...parts) => Buffer.concat(parts);
const hex = (of) => Buffer.from(of).toString("hex");
function big(value, size) {
    const out = Buffer.alloc(size);
    let rest = BigInt(value);
    for (let i = size - 1; i >= 0; i -= 1, rest >>= 8n) out[i] = Number(rest & 255n);
    if (rest !== 0n) throw new Error(`${value} has more than ${size} bytes`);
    return out;
}
const u16 = (value) => big(value, 2);
const u32 = (value) => big(value, 4);
const u64 = (value) => big(value, 8);
const hash = (...parts) => Buffer.from(keccak(join(...parts)));
/** 32 bytes that only this name has. */
const named = (name) => hash(text(`ashlar vector ${name}`));

// Curve

const element = (value) => big(value, 64);
function encodeG1(point) {
    const { x, y } = point.toAffine();
    return join(element(x), element(y));
}
function encodeG2(point) {
    const { x, y } = point.toAffine();
    return join(element(x.c0), element(x.c1), element(y.c0), element(y.c1));
}
const point = (message, tag) => bls.G1.Point.fromAffine(bls.G1.hashToCurve(message, { DST: tag }).toAffine());

// Trees

const node = (left, right) => hash(big(0x25, 1), left, right);
function levels(leaves) {
    const all = [leaves];
    while (all.at(-1).length > 1) {
        const below = all.at(-1);
        const next = [];
        for (let i = 0; i < below.length; i += 2) next.push(i + 1 < below.length ? node(below[i], below[i + 1]) : below[i]);
        all.push(next);
    }
    return all;
}
function siblings(all, index) {
    const path_ = [];
    for (const level of all.slice(0, -1)) {
        if ((index ^ 1) < level.length) path_.push(level[index ^ 1]);
        index >>= 1;
    }
    return path_;
}

// The log

const chain = 16601;
const registry = named("registry").subarray(0, 20);
const verifier = named("verifier").subarray(0, 20);
const creator = named("creator").subarray(0, 20);
const publisher = named("publisher").subarray(0, 20);
const salt = named("namespace salt");
const namespace = hash(u64(chain), registry, creator, salt);

function entry(position, index, number) {
    const record = text(`record number ${number}`.repeat(number + 1));
    const entrySalt = named(`entry salt ${number}`);
    const digest = hash(entrySalt, record);
    const leaf = hash(big(0x10, 1), u64(chain), registry, namespace, u64(position), u32(index), digest);
    return { position, index, salt: hex(entrySalt), record: hex(record), record_digest: hex(digest), leaf: hex(leaf) };
}

function encodeHeader(fields) {
    return join(
        u16(1), u64(fields.chain_id), bytes(fields.registry), bytes(fields.namespace), u64(fields.sequence),
        bytes(fields.previous_header_hash), u64(fields.first_position), u64(fields.last_position),
        u32(fields.entry_count), bytes(fields.batch_root), bytes(fields.state_root), u32(fields.key_epoch),
    );
}

function batches() {
    const made = [];
    let number = 0;
    let position = 3;
    let previous = Buffer.alloc(32);
    for (const [sequence, count] of [1, 2, 3, 5, 8].entries()) {
        const entries = [];
        const first = position;
        for (let i = 0; i < count; i += 1) {
            // Two entries of one commit, then one of the next but one.
            entries.push(entry(position, i % 2, number));
            number += 1;
            if (i % 2 === 1) position += 2;
        }
        const last = entries.at(-1).position;
        position = last + 1;
        const all = levels(entries.map(({ leaf }) => bytes(leaf)));
        const fields = {
            chain_id: chain, registry: hex(registry), namespace: hex(namespace), sequence: sequence + 1,
            previous_header_hash: hex(previous), first_position: first, last_position: last, entry_count: count,
            batch_root: hex(all.at(-1)[0]), state_root: hex(Buffer.alloc(32)), key_epoch: sequence,
        };
        const header = encodeHeader(fields);
        previous = hash(big(0x11, 1), header);
        const paths = entries.map((_, index) => hex(join(...siblings(all, index))));
        made.push({ fields, header: hex(header), header_hash: hex(previous), entries, paths });
    }
    return made;
}

// The quorum

const stakes = [40, 10, 25, 5, 30, 12, 8, 20, 15, 9];
const secrets = stakes.map((_, i) => BigInt(`0x${hex(named(`signer ${i}`))}`) % ORDER);
const keys = secrets.map((secret) => encodeG2(bls.G2.Point.BASE.multiply(secret)));

function signers() {
    return secrets.map((secret, i) => {
        const message = join(text("ASHLAR-DA-POP-V1"), u64(chain), verifier, keys[i]);
        const hashed = point(message, POSSESSION_TAG);
        return {
            secret: hex(big(secret, 32)), key: hex(keys[i]), signer: hex(hash(keys[i])), stake: stakes[i],
            possession_message: hex(message), possession_point: hex(encodeG1(hashed)),
            proof_of_possession: hex(encodeG1(hashed.multiply(secret))),
        };
    });
}

/** Who is absent: nobody; one; several; the others are more than two thirds of 174. */
const absent = [[], [3], [0], [1, 3, 8], [5, 6, 9, 8]];

function certificates(of) {
    return of.map(({ fields, header_hash }, n) => {
        const said = {
            epoch: 1, commitment: hex(named(`commitment ${n}`)), blob_length: 1000 + n, original_rows: 4,
            parity_rows: 12, row_bytes: 320, keep_until: 4000000000 + n,
        };
        const rest = join(
            bytes(said.commitment), u64(said.blob_length), u32(said.original_rows), u32(said.parity_rows),
            u32(said.row_bytes), u64(said.keep_until),
        );
        const message = join(
            text("ASHLAR-DA-V1"), u64(chain), verifier, u64(said.epoch), namespace, u64(fields.sequence),
            bytes(header_hash), rest,
        );
        const hashed = point(message, SIGNATURE_TAG);
        const bitmap = Buffer.alloc(Math.ceil(stakes.length / 8));
        for (const i of absent[n]) bitmap[i >> 3] |= 0x80 >> (i & 7);
        const signatures = secrets.flatMap((secret, i) => (absent[n].includes(i) ? [] : [hashed.multiply(secret)]));
        const signature = signatures.reduce((sum, one) => sum.add(one));
        return {
            sequence: fields.sequence, fields: said, absent: absent[n], message: hex(message),
            message_point: hex(encodeG1(hashed)), first_signature: hex(encodeG1(signatures[0])),
            signature: hex(encodeG1(signature)), bitmap: hex(bitmap),
            certificate: hex(join(u16(1), u64(said.epoch), rest, encodeG1(signature), bitmap)),
        };
    });
}

function storage() {
    const slotOf = (sequence) => hash(big(sequence, 32), hash(namespace, big(0, 32)));
    return {
        header_hash_slots: [1, 2, 5].map((sequence) => ({ sequence, slot: hex(slotOf(sequence)) })),
        namespace_slot: hex(hash(namespace, big(1, 32))),
    };
}

const made = batches();
const vectors = {
    about: "Vectors of docs/formats/log.md. Made by chain/contracts/tools/vectors.mjs; all bytes in hexadecimal.",
    chain_id: chain, registry: hex(registry), verifier: hex(verifier), creator: hex(creator),
    publisher: hex(publisher), namespace_salt: hex(salt), namespace: hex(namespace),
    batches: made, signers: signers(), certificates: certificates(made), storage: storage(),
};
const content = `${JSON.stringify(vectors, null, 1)}\n`;
if (process.argv[2] === "--check") {
    if (fs.readFileSync(FILE, "utf8") !== content) {
        process.stderr.write("docs/formats/vectors/log.json is not what chain/contracts/tools/vectors.mjs gives\n");
        process.exit(1);
    }
    process.stdout.write("log.json is what its tool gives\n");
} else {
    fs.writeFileSync(FILE, content);
    process.stdout.write("log.json written\n");
}
