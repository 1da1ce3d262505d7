// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Registry of evidence logs and of the tree heads they have committed to
/// @notice A log anchors (size, root) of its Merkle tree here. Anchors only grow: a smaller size,
/// or the same size with another root, is refused, so a log that was rewound or forked cannot
/// anchor again. Everything can be enumerated by calls alone, because scanning events is slow.
/// @dev logId is SHA-256 of the log's origin. There are no immutables, so that the deployed code
/// equals the compiled runtime code byte for byte and can be compared.
contract AnchorRegistry {
    struct Anchor {
        bytes32 root;
        uint64 size;
        uint64 blockNumber;
        uint64 timestamp;
    }

    struct LogView {
        bytes32 logId;
        string origin;
        address owner;
        string vkey;
        string url;
        bool revoked;
    }

    struct LogState {
        address owner;
        bool revoked;
        string origin;
        string vkey;
        string url;
        // Sizes strictly increase along the array.
        Anchor[] anchors;
    }

    /// @dev Longest text of any field in bytes; bounds what one registration can store.
    uint256 private constant MAX_TEXT = 512;

    address public registrar;
    bytes32[] private _logIds;
    mapping(bytes32 => LogState) private _logs;

    event Registered(
        bytes32 indexed logId, address indexed owner, string origin, string vkey, string url
    );
    event Anchored(bytes32 indexed logId, uint64 size, bytes32 root);
    event Rotated(bytes32 indexed logId, string vkey, uint64 size);
    event Revoked(bytes32 indexed logId);
    event OwnerChanged(bytes32 indexed logId, address indexed previous, address indexed owner);

    error NotRegistrar(address sender);
    error NotOwner(bytes32 logId, address sender);
    error UnknownLog(bytes32 logId);
    error AlreadyRegistered(bytes32 logId);
    error RevokedLog(bytes32 logId);
    error SmallerSize(bytes32 logId, uint64 anchored, uint64 given);
    error ConflictingRoot(bytes32 logId, uint64 size, bytes32 anchored, bytes32 given);
    error NoAnchor(bytes32 logId, uint64 size);
    error NoSuchIndex(uint256 index, uint256 count);
    error LengthMismatch(uint256 logs, uint256 sizes, uint256 roots);
    error TextLength(uint256 length, uint256 maximum);
    error ZeroOwner();

    constructor() {
        registrar = msg.sender;
    }

    /// @notice Admit a log. Only the registrar may, so nobody can take a foreign origin first.
    function register(
        string calldata origin,
        address owner,
        string calldata vkey,
        string calldata url
    ) external {
        if (msg.sender != registrar) revert NotRegistrar(msg.sender);
        if (owner == address(0)) revert ZeroOwner();
        _checkText(origin);
        _checkText(vkey);
        _checkText(url);
        bytes32 logId = sha256(bytes(origin));
        LogState storage log = _logs[logId];
        if (log.owner != address(0)) revert AlreadyRegistered(logId);
        log.owner = owner;
        log.origin = origin;
        log.vkey = vkey;
        log.url = url;
        _logIds.push(logId);
        emit Registered(logId, owner, origin, vkey, url);
    }

    /// @notice Commit to a tree head. Repeating the latest one does nothing.
    function anchor(bytes32 logId, uint64 size, bytes32 root) external {
        _anchor(logId, size, root);
    }

    /// @notice Commit several logs of one owner at once; one refusal refuses all.
    function anchorBatch(
        bytes32[] calldata logIds,
        uint64[] calldata sizes,
        bytes32[] calldata roots
    ) external {
        if (logIds.length != sizes.length || sizes.length != roots.length) {
            revert LengthMismatch(logIds.length, sizes.length, roots.length);
        }
        for (uint256 i = 0; i < logIds.length; i++) {
            _anchor(logIds[i], sizes[i], roots[i]);
        }
    }

    /// @notice Replace the key that signs the log's checkpoints from the latest anchor on.
    function rotate(bytes32 logId, string calldata vkey) external {
        LogState storage log = _ownedLog(logId);
        _checkText(vkey);
        log.vkey = vkey;
        uint256 count = log.anchors.length;
        emit Rotated(logId, vkey, count == 0 ? 0 : log.anchors[count - 1].size);
    }

    /// @notice Hand the log to another account.
    function transferOwner(bytes32 logId, address owner) external {
        LogState storage log = _ownedLog(logId);
        if (owner == address(0)) revert ZeroOwner();
        log.owner = owner;
        emit OwnerChanged(logId, msg.sender, owner);
    }

    /// @notice End a log for good. What it anchored stays readable.
    function revoke(bytes32 logId) external {
        if (msg.sender != registrar) revert NotRegistrar(msg.sender);
        LogState storage log = _knownLog(logId);
        if (log.revoked) revert RevokedLog(logId);
        log.revoked = true;
        emit Revoked(logId);
    }

    /// @notice The newest anchor; all zero before the first.
    function latest(bytes32 logId) external view returns (Anchor memory newest) {
        Anchor[] storage anchors = _knownLog(logId).anchors;
        if (anchors.length > 0) newest = anchors[anchors.length - 1];
    }

    /// @notice The root anchored at exactly this size.
    function rootAt(bytes32 logId, uint64 size) external view returns (bytes32) {
        Anchor[] storage anchors = _knownLog(logId).anchors;
        uint256 low = 0;
        uint256 high = anchors.length;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (anchors[middle].size < size) low = middle + 1;
            else high = middle;
        }
        if (low == anchors.length || anchors[low].size != size) revert NoAnchor(logId, size);
        return anchors[low].root;
    }

    function anchorCount(bytes32 logId) external view returns (uint256) {
        return _knownLog(logId).anchors.length;
    }

    function anchorAt(bytes32 logId, uint256 index) external view returns (Anchor memory) {
        Anchor[] storage anchors = _knownLog(logId).anchors;
        if (index >= anchors.length) revert NoSuchIndex(index, anchors.length);
        return anchors[index];
    }

    /// @notice Up to `count` anchors from `start` on, oldest first; fewer at the end.
    function anchorSlice(bytes32 logId, uint256 start, uint256 count)
        external
        view
        returns (Anchor[] memory slice)
    {
        Anchor[] storage anchors = _knownLog(logId).anchors;
        slice = new Anchor[](_sliceLength(start, count, anchors.length));
        for (uint256 i = 0; i < slice.length; i++) slice[i] = anchors[start + i];
    }

    function logCount() external view returns (uint256) {
        return _logIds.length;
    }

    function logAt(uint256 index) external view returns (LogView memory) {
        if (index >= _logIds.length) revert NoSuchIndex(index, _logIds.length);
        return _view(_logIds[index]);
    }

    function logOf(bytes32 logId) external view returns (LogView memory) {
        _knownLog(logId);
        return _view(logId);
    }

    /// @notice Up to `count` logs from `start` on, in the order of registration.
    function logSlice(uint256 start, uint256 count) external view returns (LogView[] memory slice) {
        slice = new LogView[](_sliceLength(start, count, _logIds.length));
        for (uint256 i = 0; i < slice.length; i++) slice[i] = _view(_logIds[start + i]);
    }

    function _anchor(bytes32 logId, uint64 size, bytes32 root) private {
        LogState storage log = _ownedLog(logId);
        uint256 count = log.anchors.length;
        if (count > 0) {
            Anchor storage newest = log.anchors[count - 1];
            uint64 anchored = newest.size;
            if (size < anchored) revert SmallerSize(logId, anchored, size);
            if (size == anchored) {
                if (newest.root != root) revert ConflictingRoot(logId, size, newest.root, root);
                return;
            }
        }
        log.anchors.push(Anchor(root, size, uint64(block.number), uint64(block.timestamp)));
        emit Anchored(logId, size, root);
    }

    function _knownLog(bytes32 logId) private view returns (LogState storage log) {
        log = _logs[logId];
        if (log.owner == address(0)) revert UnknownLog(logId);
    }

    function _ownedLog(bytes32 logId) private view returns (LogState storage log) {
        log = _knownLog(logId);
        if (log.owner != msg.sender) revert NotOwner(logId, msg.sender);
        if (log.revoked) revert RevokedLog(logId);
    }

    function _view(bytes32 logId) private view returns (LogView memory) {
        LogState storage log = _logs[logId];
        return LogView(logId, log.origin, log.owner, log.vkey, log.url, log.revoked);
    }

    function _sliceLength(uint256 start, uint256 count, uint256 length)
        private
        pure
        returns (uint256)
    {
        if (start >= length) return 0;
        return count < length - start ? count : length - start;
    }

    function _checkText(string calldata text) private pure {
        uint256 length = bytes(text).length;
        if (length == 0 || length > MAX_TEXT) revert TextLength(length, MAX_TEXT);
    }
}
