public import NibbleTensors

/// y = x Wᵀ + bias, whatever the weights are stored as. Which kind a layer is, the checkpoint decides when it is opened;
/// the networks do not know.
public protocol LinearLayer: Sendable {
    /// Applies the layer.
    ///
    /// - Parameters:
    ///   - x: `[rows, in]`, f32 or bf16.
    ///   - y: `[rows, out]`, f32 or bf16; may be a block of columns of a wider matrix.
    ///   - activation: what is done to each output at the end.
    ///   - compute: what to compute with.
    func callAsFunction(_ x: Tensor, into y: Tensor, activation: Activation, on compute: Compute)

    /// stream += gate · layer(x).
    ///
    /// - Parameters:
    ///   - x: `[rows, in]`, f32 or bf16.
    ///   - stream: `[rows, out]` f32, updated.
    ///   - gate: `[out]` f32; nil: 1.
    ///   - branch: how layer(x) is stored, where it is.
    ///   - name: what the observer, where there is one, sees layer(x) by.
    ///   - compute: what to compute with.
    func add(
        _ x: Tensor, to stream: Tensor, gate: Tensor?, as branch: DType, _ name: @autoclosure () -> String,
        on compute: Compute)
}

extension LinearLayer {
    /// See the requirement; in two passes.
    public func add(
        _ x: Tensor, to stream: Tensor, gate: Tensor?, as branch: DType, _ name: @autoclosure () -> String,
        on compute: Compute
    ) {
        addInTwoPasses(x, to: stream, gate: gate, as: branch, name(), on: compute)
    }

    /// layer(x), then the sum.
    func addInTwoPasses(
        _ x: Tensor, to stream: Tensor, gate: Tensor?, as branch: DType, _ name: @autoclosure () -> String,
        on compute: Compute
    ) {
        compute.workspace.scope {
            let y = compute.workspace.tensor(stream.shape, branch)
            self(x, into: y, on: compute)
            compute.observe(name(), y)
            compute.add(y, to: stream, gate: gate)
        }
    }

    /// Applies the layer and nothing after it.
    public func callAsFunction(_ x: Tensor, into y: Tensor, on compute: Compute) {
        self(x, into: y, activation: .identity, on: compute)
    }
}
