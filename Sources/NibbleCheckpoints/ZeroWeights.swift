public import NibbleTensors
internal import Synchronization

/// Weights that are all zero, of whatever shape a network asks for, to learn which names and shapes it asks for. All
/// tensors look into the same untouched memory, so that a network of 10 GB costs nothing.
public final class ZeroWeights: TensorSource {
    /// What error messages name in the place of a file.
    public let location: String

    private let listed: Set<String>?
    private let dtype: DType
    private let state = Mutex(State())

    private struct State {
        var zeros = Storage(byteCount: 1 << 20)
        var requests: [String: Shape] = [:]
        var order: [String] = []
    }

    /// Far above any network, and low enough that neither names nor vectors, which networks copy, fill the memory.
    private static let mostTensors = 1 << 14
    /// The largest of FLUX.1 has 264 MB.
    private static let mostBytes = 2 << 30

    /// - Parameters:
    ///   - names: the tensors that are there, such as those of an index; nil: any that is asked for.
    ///   - dtype: the type of all.
    ///   - location: what error messages name, such as the configuration that the network was made from.
    public init(names: Set<String>? = nil, dtype: DType = .bfloat16, location: String = "zero weights") {
        listed = names
        self.dtype = dtype
        self.location = location
    }

    /// The listed names; without a list those that were asked for.
    public var tensorNames: Set<String> { listed ?? Set(requests.keys) }

    /// The tensors that were asked for, with their shapes.
    public var requests: [String: Shape] { state.withLock { $0.requests } }

    /// The tensors that were asked for, in the order in which they were.
    public var declarations: [TensorDeclaration] {
        state.withLock { state in
            state.order.compactMap { name in
                state.requests[name].map { TensorDeclaration(name: name, dtype: dtype, shape: $0) }
            }
        }
    }

    /// Always fails: without a shape there is nothing to make.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor {
        throw .malformedTensor(path: location, name: name, reason: "it was asked for without a shape")
    }

    /// Zeros of the shape that is asked for; `CheckpointError.missingTensor` for a name that is not listed,
    /// `.wrongConfiguration` where a configuration asks for more than any network has.
    public func tensor(_ name: String, expecting shape: Shape) throws(CheckpointError) -> Tensor {
        guard listed?.contains(name) ?? true else { throw .missingTensor(path: location, name: name) }
        let byteCount = shape.elementCount * dtype.byteSize
        guard byteCount <= Self.mostBytes else {
            throw .wrongConfiguration(
                path: location, key: name, found: "\(shape)", expected: "tensors of at most \(Self.mostBytes) bytes")
        }
        let zeros: Storage? = state.withLock { state in
            if state.requests.updateValue(shape, forKey: name) == nil { state.order.append(name) }
            guard state.order.count <= Self.mostTensors else { return nil }
            if byteCount > state.zeros.byteCount { state.zeros = Storage(byteCount: byteCount) }
            return state.zeros
        }
        guard let zeros else {
            throw .wrongConfiguration(
                path: location, key: name, found: "one of more than \(Self.mostTensors) tensors",
                expected: "a network of fewer")
        }
        return Tensor(storage: zeros, shape: shape, dtype: dtype)
    }
}
