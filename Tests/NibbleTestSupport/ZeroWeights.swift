public import NibbleCheckpoints
public import NibbleTensors
internal import Synchronization

/// Weights that are all zero, of whatever shape a network asks for, to learn which names and shapes it asks for. All
/// tensors look into the same untouched memory, so that a network of 10 GB costs nothing.
public final class ZeroWeights: TensorSource {
    private let listed: Set<String>?
    private let dtype: DType
    private let state = Mutex(State())

    private struct State {
        var zeros = Storage(byteCount: 1 << 20)
        var requests: [String: Shape] = [:]
    }

    /// - Parameters:
    ///   - names: the tensors that are there, such as those of an index; nil: any that is asked for.
    ///   - dtype: the type of all.
    public init(names: Set<String>? = nil, dtype: DType = .bfloat16) {
        listed = names
        self.dtype = dtype
    }

    /// What error messages name in the place of a file.
    public let location = "zero weights"

    /// The listed names; without a list those that were asked for.
    public var tensorNames: Set<String> { listed ?? Set(requests.keys) }

    /// The tensors that were asked for, with their shapes.
    public var requests: [String: Shape] { state.withLock { $0.requests } }

    /// Always fails: without a shape there is nothing to make.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor {
        throw .malformedTensor(path: location, name: name, reason: "it was asked for without a shape")
    }

    /// Zeros of the shape that is asked for; `CheckpointError.missingTensor` for a name that is not listed.
    public func tensor(_ name: String, expecting shape: Shape) throws(CheckpointError) -> Tensor {
        guard listed?.contains(name) ?? true else { throw .missingTensor(path: location, name: name) }
        let byteCount = shape.elementCount * dtype.byteSize
        let zeros = state.withLock { state in
            state.requests[name] = shape
            if byteCount > state.zeros.byteCount { state.zeros = Storage(byteCount: byteCount) }
            return state.zeros
        }
        return Tensor(storage: zeros, shape: shape, dtype: dtype)
    }
}
