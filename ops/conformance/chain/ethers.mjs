// ethers against a node: what a web application does with a wallet and a contract.
//
// Invariant: throws at the first thing that is not as it should be. Does not know: which node it talks to.
import assert from "node:assert/strict";
import { ContractFactory, JsonRpcProvider, NonceManager, Transaction, Wallet, ZeroAddress, parseEther } from "ethers";

const [url, key, code, chainId] = process.argv.slice(2);
const provider = new JsonRpcProvider(url, undefined, { pollingInterval: 50, cacheTimeout: -1 });
try {
    assert.equal((await provider.getNetwork()).chainId, BigInt(chainId));
    const wallet = new Wallet(key, provider);
    const fees = await provider.getFeeData();
    assert.ok(fees.maxFeePerGas > 0n && fees.gasPrice > 0n);

    const other = Wallet.createRandom(provider);
    const paid = await (await wallet.sendTransaction({ to: other.address, value: parseEther("1") })).wait();
    assert.equal(paid.status, 1);
    assert.equal(await provider.getBalance(other.address), parseEther("1"));
    for (const type of [0, 1, 2]) {
        const receipt = await (await wallet.sendTransaction({ to: other.address, value: 1n, type })).wait();
        assert.equal(receipt.type, type);
        const found = await provider.getTransaction(receipt.hash);
        assert.equal(found.type, type);
        assert.equal(found.from, wallet.address);
    }

    const factory = new ContractFactory([], code, wallet);
    const contract = await (await factory.deploy()).waitForDeployment();
    const address = await contract.getAddress();
    assert.notEqual(await provider.getCode(address), "0x");
    const counted = await (await wallet.sendTransaction({ to: address })).wait();
    assert.equal(counted.logs.length, 1);
    assert.equal(BigInt(counted.logs[0].topics[0]), 1n);
    assert.equal(BigInt(await provider.call({ to: address, data: "0x02" })), 1n);
    assert.equal(BigInt(await provider.getStorage(address, 0)), 1n);
    const logs = await provider.getLogs({ address, fromBlock: 0, toBlock: "latest" });
    assert.equal(logs.length, 1);
    assert.equal(logs[0].transactionHash, counted.hash);
    await assert.rejects(provider.call({ to: address, data: "0x01" }), (error) => error.code === "CALL_EXCEPTION" && error.reason === "no");
    await assert.rejects(provider.estimateGas({ to: address, data: "0x01" }), (error) => error.code === "CALL_EXCEPTION");
    await assert.rejects(other.sendTransaction({ to: ZeroAddress, value: parseEther("2") }), (error) => error.code === "INSUFFICIENT_FUNDS");

    // Many at once, in order of their nonces.
    const manager = new NonceManager(wallet);
    const sent = [];
    for (let i = 0; i < 20; i++) sent.push(await manager.sendTransaction({ to: address, gasLimit: 100000 }));
    const receipts = await Promise.all(sent.map((transaction) => transaction.wait()));
    assert.ok(receipts.every((receipt) => receipt.status === 1));
    assert.equal(BigInt(await provider.call({ to: address, data: "0x02" })), 21n);

    const block = await provider.getBlock(receipts[19].blockNumber, true);
    assert.ok(block.prefetchedTransactions.some((transaction) => transaction.hash === receipts[19].hash));
    const proof = await provider.send("eth_getProof", [address, ["0x0"], "latest"]);
    assert.equal(BigInt(proof.storageProof[0].value), 21n);
    const raw = await wallet.signTransaction(await wallet.populateTransaction({ to: other.address, value: 1n }));
    assert.equal(await provider.send("eth_sendRawTransaction", [raw]), Transaction.from(raw).hash);
    await provider.waitForTransaction(Transaction.from(raw).hash, 1, 10000);
    for (const tag of ["latest", "safe", "finalized", "pending", "earliest"]) assert.ok(await provider.getBlock(tag), tag);
} finally {
    provider.destroy();
}
