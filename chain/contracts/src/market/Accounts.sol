// SPDX-License-Identifier: Apache-2.0
// Balances in the chain's own coin: put in by anyone, taken out by their owner alone.
//
// Invariant: coins leave the contract in `withdraw` and nowhere else, from the caller's balance, after it was written. No
// rule reads the contract's own balance, so coins forced into it change nothing.
// Does not know: what balances are for.
pragma solidity 0.8.37;

/// Deposits and withdrawals.
abstract contract Accounts {
    mapping(address account => uint256) private balances;

    /// @notice `from` put `amount` into `account`.
    event Deposited(address indexed account, address indexed from, uint256 amount);
    /// @notice `account` took `amount` out, and had it sent to `to`.
    event Withdrawn(address indexed account, address indexed to, uint256 amount);

    /// @notice No account, key or recipient is the zero address.
    error ZeroAddress();
    /// @notice The balance does not have what is asked for.
    error BalanceTooSmall(address account, uint256 balance, uint256 amount);
    /// @notice The recipient refused the coins.
    error RecipientRefused(address to);

    /// @notice Puts what is sent with the call into an account, which need not be the caller's.
    function deposit(address account) external payable {
        if (account == address(0)) revert ZeroAddress();
        credit(account, msg.value);
        emit Deposited(account, msg.sender, msg.value);
    }

    /// @notice Takes coins out of the caller's balance. Reverts where the recipient does not take them.
    function withdraw(uint256 amount, address payable to) external {
        if (to == address(0)) revert ZeroAddress();
        debit(msg.sender, amount);
        emit Withdrawn(msg.sender, to, amount);
        // The last thing: whoever is called back here finds everything written.
        (bool taken,) = to.call{value: amount}("");
        if (!taken) revert RecipientRefused(to);
    }

    /// @notice What an account may withdraw, or lock.
    function balanceOf(address account) external view returns (uint256) {
        return balances[account];
    }

    function credit(address account, uint256 amount) internal {
        balances[account] += amount;
    }

    function debit(address account, uint256 amount) internal {
        uint256 balance = balances[account];
        if (amount > balance) revert BalanceTooSmall(account, balance, amount);
        balances[account] = balance - amount;
    }
}
