internal import NibbleImages
internal import NibbleTensors

/// Decibels. Infinity, which is what equal pictures have, is null in JSON.
public struct Decibels: Sendable, Equatable, Codable {
    /// The number; may be infinite.
    public let value: Double

    /// A number of decibels.
    public init(_ value: Double) { self.value = value }

    /// Reads a number or null.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        value = container.decodeNil() ? .infinity : try container.decode(Double.self)
    }

    /// Writes a number or null.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if value.isFinite { try container.encode(value) } else { try container.encodeNil() }
    }
}

/// How far the residual stream after a block lies from the full-precision model's, ‖x_q − x‖ / ‖x‖.
public struct BlockError: Sendable, Equatable, Codable {
    /// `double.0`, …, `single.0`, …: in the order in which they run.
    public let block: String
    /// Of the image's tokens.
    public let image: Double
    /// Of the text's tokens.
    public let text: Double
}

/// How far a picture, and its making, lie from the full-precision model's.
public struct Deviation: Sendable, Equatable, Codable {
    /// Peak signal-to-noise ratio over red, green and blue. As a mean: over the pictures that are not equal.
    public let psnr: Decibels
    /// Structural similarity; see `Bitmap.structuralSimilarity`.
    public let ssim: Double
    /// ‖l_q − l‖ / ‖l‖ of the latents after each step, both models going on with their own.
    public let latentErrorByStep: [Double]
    /// After each block of the first step, which both models begin with the same latents; of at most 128 tokens each of
    /// image and text.
    public let errorByBlock: [BlockError]

    /// After the last step.
    public var latentError: Double { latentErrorByStep.last ?? 0 }
}

extension Deviation {
    /// How far a trace lies from the full-precision model's of the same request.
    init(_ trace: PictureTrace, from reference: PictureTrace, blocks: [String]) {
        let (mine, theirs) = (trace.picture.bitmap, reference.picture.bitmap)
        guard let psnr = mine.peakSignalToNoiseRatio(to: theirs), let ssim = mine.structuralSimilarity(to: theirs)
        else { preconditionFailure("pictures of one request have one size, of at least 16 pixels") }
        self.psnr = Decibels(psnr)
        self.ssim = ssim
        latentErrorByStep = zip(trace.latents, reference.latents).map { relativeError($0.floats(), $1.floats()) }
        errorByBlock = blocks.map { block in
            func error(_ stream: String) -> Double {
                let name = "\(block).\(stream)"
                guard let mine = trace.blocks[name], let theirs = reference.blocks[name] else {
                    preconditionFailure("the transformer did not show its observer '\(name)'")
                }
                return relativeError(mine, theirs)
            }
            return BlockError(block: block, image: error("img"), text: error("txt"))
        }
    }

    /// The means of several pictures' deviations.
    ///
    /// - Parameter pictures: at least one, of the same model and number of steps.
    init(meanOf pictures: [Deviation]) {
        func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
        // One equal picture would make the mean infinite, whatever the others are.
        let finite = pictures.map(\.psnr.value).filter(\.isFinite)
        psnr = Decibels(finite.isEmpty ? .infinity : mean(finite))
        ssim = mean(pictures.map(\.ssim))
        latentErrorByStep = (0..<(pictures.first?.latentErrorByStep.count ?? 0)).map { step in
            mean(pictures.map { $0.latentErrorByStep[step] })
        }
        errorByBlock = (pictures.first?.errorByBlock ?? []).enumerated().map { index, first in
            BlockError(
                block: first.block, image: mean(pictures.map { $0.errorByBlock[index].image }),
                text: mean(pictures.map { $0.errorByBlock[index].text }))
        }
    }
}

/// ‖found − expected‖ / ‖expected‖; 1, all of it error, for what should be zero and is not.
private func relativeError(_ found: [Float], _ expected: [Float]) -> Double {
    var (difference, norm) = (0.0, 0.0)
    for (left, right) in zip(found, expected) {
        difference += (Double(left) - Double(right)) * (Double(left) - Double(right))
        norm += Double(right) * Double(right)
    }
    guard norm > 0 else { return difference > 0 ? 1 : 0 }
    return (difference / norm).squareRoot()
}
