public import NibbleTensors
internal import Synchronization

/// What a network reads its weights through: checks every shape, and remembers what was asked for, so that at the end
/// one can tell what was left over.
public struct WeightReader: Sendable {
    private let source: any TensorSource
    private let prefix: String
    private let requests: Requests

    private final class Requests: Sendable {
        let tensors = Mutex<[String: Tensor]>([:])
        /// The parts of layers that a source brought into an order of its own.
        let parts = Mutex<[String: Tensor]>([:])
    }

    /// A reader of all of a source.
    public init(_ source: any TensorSource) {
        self.source = source
        prefix = ""
        requests = Requests()
    }

    private init(_ source: any TensorSource, prefix: String, requests: Requests) {
        self.source = source
        self.prefix = prefix
        self.requests = requests
    }

    /// The file or folder that it reads from, for error messages.
    public var location: String { source.location }

    /// A reader of the tensors below a name: `reader["layers", 3]["attn"]` reads `layers.3.attn.…`.
    public subscript(name: String, index: Int? = nil) -> WeightReader {
        WeightReader(source, prefix: prefix + name + "." + (index.map { "\($0)." } ?? ""), requests: requests)
    }

    /// Whether a tensor is there.
    public func contains(_ name: String) -> Bool { source.tensorNames.contains(prefix + name) }

    /// A tensor of a float type and of a known shape, as a view of the mapped file.
    public func tensor(_ name: String, _ shape: Shape) throws(CheckpointError) -> Tensor {
        let full = prefix + name
        let tensor = try source.tensor(full, expecting: shape)
        requests.tensors.withLock { $0[full] = tensor }
        guard tensor.shape == shape else {
            throw .wrongShape(path: source.location, name: full, found: tensor.shape, expected: shape)
        }
        guard [.float32, .float16, .bfloat16, .float8E4M3].contains(tensor.dtype) else {
            throw .wrongType(
                path: source.location, name: full, found: tensor.dtype.rawValue, expected: "F32, F16, BF16 or F8_E4M3")
        }
        return tensor
    }

    /// A small tensor as 32-bit floats of its own, with a check for NaN and infinity: biases, gains.
    public func vector(_ name: String, _ count: Int) throws(CheckpointError) -> Tensor {
        let stored = try tensor(name, [count])
        guard NonFiniteScan.isFinite(stored) else { throw .notFinite(path: source.location, name: prefix + name) }
        return stored.widened
    }

    /// Remembers parts of a layer that a network got from its source otherwise than by name.
    ///
    /// - Parameters:
    ///   - parts: by their names below the layer's.
    ///   - name: the layer's.
    public func remember(_ parts: [String: Tensor], of name: String) {
        requests.parts.withLock { all in
            for (key, part) in parts { all["\(prefix)\(name).\(key)"] = part }
        }
    }

    /// All tensors that were read through this reader and the readers below it, and what they remember.
    private var known: [String: Tensor] {
        let parts = requests.parts.withLock { $0.filter { $0.key.hasPrefix(prefix) } }
        return requests.tensors.withLock { $0.filter { $0.key.hasPrefix(prefix) } }
            .merging(parts) { tensor, _ in tensor }
    }

    /// All tensors that were read through this reader and the readers below it.
    public var mappedWeights: MappedWeights { MappedWeights(Array(known.values)) }

    /// Bytes of those that are not mapped but in memory of their own, and stay there.
    public var ownedByteCount: Int {
        known.values.reduce(0) { $0 + ($1.storage.path == nil ? $1.elementCount * $1.dtype.byteSize : 0) }
    }

    /// A few letters that tell this checkpoint from another of the same shapes: a hash (FNV-1a) of all names, types and
    /// shapes, and of some bytes of a few tensors.
    public var fingerprint: String {
        // A tensor that was read already is not asked for again: a source may have had to copy it.
        let known = requests.tensors.withLock { $0 }
        let tensors = source.tensorNames.sorted().compactMap { name in
            (known[name] ?? (try? source.tensor(name))).map { (name, $0) }
        }
        var hash = FowlerNollVo()
        for (name, tensor) in tensors { hash.add("\(name) \(tensor.dtype.rawValue) \(tensor.shape)".utf8) }
        // Each touches a page of the file: 32 of them cost less than a second on any disk.
        for index in stride(from: 0, to: tensors.count, by: max(tensors.count / 32, 1)) where index < tensors.count {
            let tensor = tensors[index].1
            hash.add(tensor.rows(0..<min(1, tensor.rows)).bytes.prefix(256))
        }
        let digits = String(hash.value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// Throws when one of the tensors read through this reader holds NaN or infinity. Reads all of them: for use when a
    /// result is not finite, to find out why.
    public func checkFinite() throws(CheckpointError) {
        for (name, tensor) in known.sorted(by: { $0.key < $1.key }) where tensor.dtype.isFloatingPoint {
            for row in 0..<tensor.rows where !tensor.rows(row..<row + 1).floats().allSatisfy(\.isFinite) {
                throw .notFinite(path: source.location, name: name)
            }
        }
    }

    /// Throws when the source holds tensors that no network asked for.
    ///
    /// - Parameter ignoring: tensors that may be there unused.
    /// - Throws: `CheckpointError.unexpectedTensors`.
    public func checkNothingIsLeftOver(ignoring: (String) -> Bool = { _ in false }) throws(CheckpointError) {
        let asked = requests.tensors.withLock { $0 }
        let left = source.tensorNames.filter { asked[$0] == nil && !ignoring($0) }.sorted()
        if !left.isEmpty { throw .unexpectedTensors(path: source.location, names: left) }
    }
}
