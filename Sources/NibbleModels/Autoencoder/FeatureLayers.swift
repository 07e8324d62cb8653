internal import NibbleTensors

/// Height, width and channels of a picture of features.
struct FeatureExtent: Sendable, Equatable {
    var height, width, channels: Int

    var pixels: Int { height * width }
    var elements: Int { pixels * channels }
}

/// A layer of encoder or decoder. Both are nothing but a row of these.
enum FeatureLayer: Sendable {
    case convolution(Convolution)
    /// To twice the size, then a convolution.
    case doubling(Convolution)
    case resnet(ResnetBlock)
    case attention(PixelAttention)
    /// Group normalization, which an observer sees, SiLU, convolution.
    case output(GroupNorm, Convolution, observedAs: String)

    func extent(after x: FeatureExtent) -> FeatureExtent {
        switch self {
        case .convolution(let convolution), .output(_, let convolution, _):
            let weights = convolution.weights
            return FeatureExtent(
                height: weights.geometry.outputs(x.height), width: weights.geometry.outputs(x.width),
                channels: weights.output)
        case .doubling(let convolution):
            return FeatureExtent(height: 2 * x.height, width: 2 * x.width, channels: convolution.weights.output)
        case .resnet(let block):
            return FeatureExtent(height: x.height, width: x.width, channels: block.output)
        case .attention:
            return x
        }
    }
}

/// A layer and the name under which an observer sees what comes out of it.
struct NamedLayer: Sendable {
    let layer: FeatureLayer
    let name: String?

    init(_ layer: FeatureLayer, _ name: String? = nil) {
        self.layer = layer
        self.name = name
    }
}

extension Compute {
    /// The type in which pictures of features are kept between layers. With bf16 the golden models' pictures lie 52 to
    /// 60 dB from those of f32; f32 between layers with bf16 operands would make that 55 to 61, for twice the memory.
    var featureType: DType {
        precision == .bf16 ? .bfloat16 : .float32
    }

    /// Memory from the workspace for rows of a picture of features.
    func features(_ channels: Int, height: Int, width: Int, rows: Range<Int>) -> FeatureMap {
        FeatureMap(
            workspace.tensor([rows.count * width, channels], featureType), height: height, width: width, rows: rows)
    }

    /// A whole picture of features in a piece of memory.
    func features(_ extent: FeatureExtent, in memory: Tensor) -> FeatureMap {
        let tensor = Tensor(
            storage: memory.storage, byteOffset: memory.byteOffset, shape: [extent.pixels, extent.channels],
            dtype: featureType)
        return FeatureMap(tensor, height: extent.height, width: extent.width)
    }
}
