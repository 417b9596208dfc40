// The vectors of docs/formats/market.md, from an implementation of their own: @noble/curves and this file, no contract.
//
//     chain/contracts/build --vectors [--check]
//
// Invariant: deterministic. A difference means that the format changed, and with it what everyone has signed.
// Does not know: how the contract does it; test/market/Vectors.t.sol holds it against what is written here.

import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const FILE = path.join(import.meta.dirname, "..", "..", "..", "docs", "formats", "vectors", "market.json");
const from = createRequire(path.join(process.env.ASHLAR_CONTRACTS_MODULES, "package.json"));
const load = (file) => import(pathToFileURL(file).href);
const { secp256k1 } = await load(from.resolve("@noble/curves/secp256k1.js"));
// The hash library that the curves bring with them.
const { keccak_256: keccak } = await load(
    createRequire(from.resolve("@noble/curves/secp256k1.js")).resolve("@noble/hashes/sha3.js"),
);

// Bytes

const text = (value) => Buffer.from(value, "ascii");
const bytes = (hex) => Buffer.from(hex, "hex");
const hex = (of) => Buffer.from(of).toString("hex");
const hash = (...parts) => Buffer.from(keccak(Buffer.concat(parts)));
/** 32 bytes that only this name has. */
const named = (name) => hex(hash(text(`ashlar market vector ${name}`)));
const addressNamed = (name) => named(name).slice(0, 40);
/** A number of so many bytes. */
function big(value, size) {
    const digits = BigInt(value).toString(16).padStart(size * 2, "0");
    if (digits.length !== size * 2) throw new Error(`${value} has more than ${size} bytes`);
    return bytes(digits);
}

// EIP-712, for types whose fields all are of fixed size

const TYPES = {
    EIP712Domain: [["string", "name"], ["string", "version"], ["uint256", "chainId"], ["address", "verifyingContract"]],
    Voucher: [
        ["bytes32", "lock"], ["address", "provider"], ["bytes32", "job"], ["uint32", "shard"], ["uint64", "fence"],
        ["bytes32", "transcriptHead"], ["uint64", "units"], ["uint96", "cumulativeFee"], ["uint32", "seq"],
        ["uint64", "settleBy"],
    ],
    Receipt: [
        ["bytes32", "voucherHash"], ["bytes32", "modelRoot"], ["bytes32", "requestHash"], ["bytes32", "responseHash"],
        ["bytes32", "outputRoot"], ["uint64", "usage"], ["bytes32", "determinismClass"], ["uint8", "level"],
    ],
};
const TERMS = [
    ["address", "provider"], ["uint32", "offer"], ["uint32", "offerVersion"], ["bytes32", "modelRoot"],
    ["uint96", "unitPrice"], ["uint96", "cap"], ["uint96", "exposureMax"], ["address", "sessionKey"],
    ["uint64", "acceptBy"], ["uint64", "workBy"], ["uint64", "settleBy"], ["bytes32", "salt"],
];

/** A field in the 32 bytes of the ABI; integers are decimal text, so that no reader rounds them. */
function word(type, value) {
    if (type === "bytes32") return bytes(value);
    if (type === "address") return Buffer.concat([Buffer.alloc(12), bytes(value)]);
    if (type === "string") return hash(text(value));
    const bits = Number(type.slice("uint".length));
    return Buffer.concat([Buffer.alloc(32 - bits / 8), big(value, bits / 8)]);
}
const words = (fields, values) => Buffer.concat(fields.map(([type, name]) => word(type, values[name])));
const typeText = (name) => `${name}(${TYPES[name].map(([type, field]) => `${type} ${field}`).join(",")})`;
const hashStruct = (name, values) => hash(hash(text(typeText(name))), words(TYPES[name], values));

// Keys

function keyNamed(name) {
    const secret = named(name);
    const point = secp256k1.getPublicKey(bytes(secret), false);
    return { secret, address: hex(hash(point.subarray(1))).slice(24) };
}

/** r ‖ yParityAndS (EIP-2098), deterministic (RFC 6979), s in the lower half. */
function sign(digest, key) {
    const made = secp256k1.sign(digest, bytes(key.secret), { prehash: false, lowS: true, format: "recovered" });
    const [parity, rest] = [made[0], Buffer.from(made.subarray(1))];
    rest[32] |= parity << 7;
    return hex(rest);
}

// The market

const chain = "16601";
const market = addressNamed("market");
const buyer = addressNamed("buyer");
const session = keyNamed("session key");
const signing = keyNamed("signing key");
const domain = { name: "Ashlar ComputeMarket", version: "1", chainId: chain, verifyingContract: market };
const separator = hashStruct("EIP712Domain", domain);
const digestOf = (structHash) => hash(bytes("1901"), separator, structHash);

const terms = {
    provider: addressNamed("provider"), offer: "1", offerVersion: "2", modelRoot: named("model"),
    unitPrice: "1000000000000000", cap: "100000000000000000000", exposureMax: "0", sessionKey: session.address,
    acceptBy: "1800000600", workBy: "1800086400", settleBy: "1800093600", salt: named("salt"),
};
const lock = hex(hash(word("uint256", chain), word("address", market), word("address", buyer), words(TERMS, terms)));

function transcript(job, shard, fence) {
    return hex(hash(bytes("14"), bytes(lock), bytes(job), big(shard, 4), big(fence, 8)));
}

/** What a field can hold at its least and greatest is in, besides plain ones. */
function settlements() {
    const job = named("job");
    const plain = { shard: "0", fence: "1", units: "1000", cumulativeFee: "1000000000000000000", seq: "1", level: "1" };
    const shapes = [
        plain,
        { ...plain, units: "2500", cumulativeFee: "2500000000000000000", seq: "3", level: "2" },
        { ...plain, shard: "7", fence: "4611686018427387905", units: "0", cumulativeFee: "0", level: "0" },
        {
            shard: String(2n ** 32n - 1n), fence: String(2n ** 64n - 1n), units: String(2n ** 64n - 1n),
            cumulativeFee: String(2n ** 96n - 1n), seq: String(2n ** 32n - 1n), level: "255",
        },
    ];
    return shapes.map(({ level, ...fields }, n) => {
        const first = transcript(job, fields.shard, fields.fence);
        const voucher = {
            lock, provider: terms.provider, job, ...fields,
            transcriptHead: hex(hash(bytes(first), text(`event ${n}`))), settleBy: terms.settleBy,
        };
        const voucherHash = hashStruct("Voucher", voucher);
        const receipt = {
            voucherHash: hex(voucherHash), modelRoot: terms.modelRoot, requestHash: named(`request ${n}`),
            responseHash: named(`response ${n}`), outputRoot: n === 2 ? hex(Buffer.alloc(32)) : named(`output ${n}`),
            usage: voucher.units, determinismClass: named("class"), level,
        };
        const receiptHash = hashStruct("Receipt", receipt);
        return {
            first_head: first, voucher, voucher_hash: hex(voucherHash), voucher_digest: hex(digestOf(voucherHash)),
            voucher_signature: sign(digestOf(voucherHash), session), receipt, receipt_hash: hex(receiptHash),
            receipt_digest: hex(digestOf(receiptHash)), receipt_signature: sign(digestOf(receiptHash), signing),
        };
    });
}

const vectors = {
    about: "Vectors of docs/formats/market.md. Made by chain/contracts/tools/market.mjs; bytes in hexadecimal, integers in decimal text.",
    types: { voucher: typeText("Voucher"), receipt: typeText("Receipt") },
    type_hashes: { voucher: hex(hash(text(typeText("Voucher")))), receipt: hex(hash(text(typeText("Receipt")))) },
    domain, domain_separator: hex(separator), buyer, session_key: session, signing_key: signing, terms, lock,
    settlements: settlements(),
};
const content = `${JSON.stringify(vectors, null, 1)}\n`;
if (process.argv[2] === "--check") {
    if (fs.readFileSync(FILE, "utf8") !== content) {
        process.stderr.write("docs/formats/vectors/market.json is not what chain/contracts/tools/market.mjs gives\n");
        process.exit(1);
    }
    process.stdout.write("market.json is what its tool gives\n");
} else {
    fs.writeFileSync(FILE, content);
    process.stdout.write("market.json written\n");
}
